"""The paper's claims, judged by the rules of ``workflow/claims.yaml``, which explains them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from smedit.report import statistics
from smedit.report.quoted import quoted
from smedit.report.sides import (
    EACH,
    LOWER_IS_BETTER,
    PLACES,
    last_points,
    partly_tried,
    rules,
    selected,
    side,
)
from smedit.report.timed import TIMED, timed

HOW = {"published": "as published", "chosen": "with step sizes chosen"}
RECIPES = tuple(HOW)
Comparison = dict[str, Any]


def compare(
    points: pd.DataFrame, asked: pd.DataFrame, comparison: Mapping[str, Any], score: str
) -> Comparison | None:
    """``a`` minus ``b``: means, difference, interval over seeds.

    Parameters
    ----------
    points
        See `smedit.report.sides.last_points`.
    asked
        Everything that the configuration asks for, done or not, with the same columns.
    comparison
        As ``workflow/claims.yaml`` has it.
    score
        What is compared.

    Returns
    -------
    dict or None
        ``complete`` says whether all settings and seeds that are asked for are there. None where
        none is asked for.
    """
    experiment = comparison["experiment"]
    a_is, b_is = ({"experiment": experiment, **comparison[key]} for key in "ab")
    expected = selected(asked, a_is).merge(selected(asked, b_is), on=EACH)
    expected = expected.drop_duplicates(EACH)[EACH]
    if expected.empty:
        return None
    a, b = side(points, a_is, score), side(points, b_is, score)
    both = expected.merge(a, on=EACH).merge(b, on=EACH, suffixes=("_a", "_b"))
    both["difference"] = both.value_a - both.value_b
    both = both[both.difference.notna()]  # both diverged: their harm cannot be told apart
    for of in (a_is, b_is):
        both = both[~both.model.isin(partly_tried(points, asked, of))]
    complete = len(both) == len(expected)
    if both.empty:
        return {"complete": False}
    both = _of_the_same_seeds(both)
    by_seed = both.groupby("seed").difference.mean()
    mean, low, high = statistics.over_seeds(by_seed.tolist())
    harms = [_harm(points, of, both) for of in (a_is, b_is)]
    return {
        "complete": complete,
        "a": both.value_a.mean(),
        "b": both.value_b.mean(),
        "difference": mean,
        "low": low,
        "high": high,
        "seeds": len(by_seed),
        "settings": len(both.drop_duplicates(PLACES)),
        "smallest_effect": statistics.smallest_effect(by_seed.tolist()),
        "a_harm": harms[0],
        "b_harm": harms[1],
        "before": _before(points, a_is, both, score),
        "a_unedited": both.unedited_a.astype(bool).mean(),
        "b_unedited": both.unedited_b.astype(bool).mean(),
        "pairs": both.difference.tolist(),
    }


def _of_the_same_seeds(both: pd.DataFrame) -> pd.DataFrame:
    """Of an unfinished study, the settings that have most seeds, and the same ones: else the spread
    over seeds would hold differences between settings.
    """  # noqa: D205
    seen = {place: frozenset(part.seed) for place, part in both.groupby(PLACES)}
    all_seeds = list(seen.values())
    most = max(all_seeds, key=lambda seeds: (len(seeds), all_seeds.count(seeds)))
    places = zip(*(both[name] for name in PLACES), strict=True)
    return both[[seen[place] == most for place in places]]


def _harm(points: pd.DataFrame, of: Mapping[str, Any], places: pd.DataFrame) -> float:
    return side(points, of, "harm").merge(places[EACH], on=EACH).value.mean()


def _before(points: pd.DataFrame, of: Mapping[str, Any], places: pd.DataFrame, score: str) -> float:
    """The unedited model's score there."""
    first = points[(points.stage == 0) & (points["rows"] == "eval") & (points.name == score)]
    first = first[first.run.isin(selected(points, of).run)]
    return first.drop_duplicates(EACH).merge(places[EACH], on=EACH).value.mean()


def compared(
    points: pd.DataFrame, asked: pd.DataFrame, comparison: Mapping[str, Any], score: str
) -> list[Comparison]:
    """The comparison; with ``worst_of`` one per value of that setting, the worst first."""
    setting = comparison.get("worst_of")
    if not setting:
        found = compare(points, asked, comparison, score)
        return [] if found is None else [found]
    there = selected(asked, {"experiment": comparison["experiment"]})
    each = []
    for value in sorted(there[setting].dropna().unique()) if len(there) else ():
        mine, wanted = (table[table[setting] == value] for table in (points, asked))
        found = compare(mine, wanted, comparison, score)
        each += [] if found is None else [found | {"at": f"{setting} {value:g}"}]
    return sorted(each, key=lambda one: one.get("difference", math.inf))


def finding(found: Sequence[Comparison], margin: float, kept: bool = False) -> str:
    """What comparisons show together: ``shown``, ``slight``, ``absent``, ``open``; empty of none.

    Of several, each must be shown.
    """
    each = {_finding(one, margin, kept) for one in found}
    return next((word for word in ("absent", "open", "slight", "shown") if word in each), "")


def _finding(found: Comparison, margin: float, kept: bool) -> str:
    few = found.get("seeds", 0) < rules()["least_seeds"] and "models" not in found
    if not found["complete"] or few or math.isnan(found["low"]):
        return "open"
    if kept:
        return "shown" if found["high"] < margin else "absent" if found["low"] > margin else "open"
    if found["low"] > 0:
        return "shown" if found["difference"] >= margin else "slight"
    return "absent" if found["high"] < margin else "open"


def verdict(findings: Mapping[str, str]) -> str:
    """The verdict on a claim.

    Parameters
    ----------
    findings
        Recipe that the claim has → its `finding`; empty where the configuration does not ask for
        it.
    """
    if not any(findings.values()):
        return "not tested here"
    published, chosen = (findings.get(recipe) for recipe in RECIPES)
    if published is None or chosen is None:
        only = chosen if published is None else published
        words = {"shown": "holds", "slight": "holds in direction", "absent": "does not hold"}
        return words.get(only or "", "not settled")
    if chosen in ("shown", "slight"):
        return "holds" if chosen == "shown" else "holds in direction"
    if chosen == "absent":
        appears = published in ("shown", "slight")
        return "holds as published only" if appears else "does not hold"
    return "not settled"


def margin_of(score: str) -> float:
    """The smallest difference that counts, in the score's unit."""
    return rules()["margins"][unit_of(score)]


def unit_of(score: str) -> str:
    """``nats``, ``share`` or ``points``: the key of a score's margin."""
    return "nats" if score in LOWER_IS_BETTER else "share" if score in TIMED else "points"


def side_name(of: Mapping[str, Any]) -> str:
    """One side of a comparison in words."""
    batches = of.get("train_batches")
    if batches is None:
        return of["variant"]
    return f"{of['variant']}, {batches} training batch{'es' * (batches != 1)}"


def _left_alone(share: float) -> str:
    """In how many of the settings and seeds a search found nothing within the bound."""
    if not share:
        return ""
    return "left unedited" if share == 1 else f"{share:.0%} left unedited"


def judged(
    scores: pd.DataFrame, asked: pd.DataFrame, benchmark: pd.DataFrame | None
) -> Iterator[dict[str, Any]]:
    """One row per claim; none where a configuration asks for none of the claims' experiments.

    Parameters
    ----------
    scores
        The table of that name.
    asked
        Everything that the configuration asks for, done or not.
    benchmark
        What ``make bench`` measured, for the claims on time and memory; None without it.
    """
    points = last_points(scores)
    comparisons = [c[r] for c in rules()["claims"].values() for r in RECIPES if r in c]
    wanted = {comparison["experiment"] for comparison in comparisons}
    if not wanted & set(asked.get("experiment", ())):
        return
    for name, claim in rules()["claims"].items():
        score, kept = claim.get("score", ""), claim.get("kept", False)
        row: dict[str, Any] = {"id": name, "claim": claim["claim"], "where": claim["where"]}
        measured = _measured(points, asked, benchmark, claim)
        findings = _findings(measured, claim)
        for recipe, found in measured.items():
            row[f"{recipe}_finding"] = findings[recipe]
            worst = found[0] if found else {}
            row |= {f"{recipe}_{k}": v for k, v in worst.items() if k not in ("pairs", "complete")}
            at = f", {worst['at']}" if "at" in worst else ""
            for k in "ab":
                left = f" ({_left_alone(worst.get(f'{k}_unedited', 0))})".replace(" ()", "")
                row[f"{recipe}_{k}_is"] = side_name(claim[recipe][k]) + at + left
            row.pop(f"{recipe}_at", None)
        row |= {"score": score, "margin": margin_of(score), "kept": kept}
        row["by_model"] = "" if score in TIMED else by_model(points, asked, claim)
        yield row | {"verdict": verdict(findings), "quoted": quoted(claim)}


def _measured(
    points: pd.DataFrame,
    asked: pd.DataFrame,
    benchmark: pd.DataFrame | None,
    claim: Mapping[str, Any],
) -> dict[str, list[Comparison]]:
    """Recipe that the claim has → its comparisons."""
    score = claim.get("score", "")
    return {
        recipe: timed(benchmark, score)
        if score in TIMED
        else compared(points, asked, claim[recipe], score)
        for recipe in RECIPES
        if recipe in claim
    }


def _findings(
    measured: Mapping[str, Sequence[Comparison]], claim: Mapping[str, Any]
) -> dict[str, str]:
    margin, kept = margin_of(claim.get("score", "")), claim.get("kept", False)
    return {recipe: finding(found, margin, kept) for recipe, found in measured.items()}


def by_model(points: pd.DataFrame, asked: pd.DataFrame, claim: Mapping[str, Any]) -> str:
    """What each model alone says: the verdict, or what is settled of it; empty of one model.

    It shows whether models differ; and while a study is not whole, what is known so far.
    """
    words = {"shown": "appears", "slight": "appears, smaller", "absent": "does not appear"}
    if claim.get("kept"):
        words = {"shown": "kept", "absent": "not kept"}
    found = {}
    for model in asked.model.unique():
        mine, wanted = (table[table.model == model] for table in (points, asked))
        findings = _findings(_measured(mine, wanted, None, claim), claim)
        if not any(findings.values()):
            continue
        alone = verdict(findings)
        known = {recipe: words[f] for recipe, f in findings.items() if f in words}
        if alone != "not settled":
            found[model] = alone
        elif known:
            found[model] = ", ".join(f"{word} {HOW[recipe]}" for recipe, word in known.items())
        else:
            found[model] = ""
    if len(found) < 2:
        return ""
    return "; ".join(f"{model}: {said}" for model, said in found.items() if said)


def primary(scores: pd.DataFrame, asked: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The primary comparisons: estimates, exact sign-flip tests over setting × seed, Holm.

    The adjusted p has a value once all comparisons that are asked for are complete.
    """
    points, rows = last_points(scores), []
    chosen = rules()["primary"]
    if asked.empty:
        return
    for part in (chosen, {**chosen, **chosen["in_sequence"]}):
        for a, b in part["comparisons"]:
            sides = {"a": {"variant": a}, "b": {"variant": b}}
            comparison = {"experiment": part["experiment"], **sides}
            found = compare(points, asked, comparison, chosen["score"])
            if found is None:
                continue
            p = statistics.sign_flips(found.pop("pairs", []))
            named = {"experiment": part["experiment"], "variant": a, "than": b}
            rows.append({**named, **found, "p": p})
    complete = all(row["complete"] for row in rows)
    adjusted: Sequence[float] = [math.nan] * len(rows)
    if complete:
        adjusted = statistics.holm([row["p"] for row in rows])
    yield from (row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True))
