"""The paper's claims, judged by the rules of ``workflow/claims.yaml``, which explains them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from smedit.report import statistics
from smedit.report.quoted import quoted
from smedit.report.sides import PLACES, last_points, rules, side
from smedit.report.timed import TIMED, timed

RECIPES = ("published", "chosen")


def compare(
    points: pd.DataFrame, comparison: Mapping[str, Any], score: str
) -> dict[str, Any] | None:
    """``a`` minus ``b``: means, difference, interval over seeds; None where one was not measured.

    With ``worst_of``, the comparison of the value of that setting where the difference is least.
    """
    experiment, setting = comparison["experiment"], comparison.get("worst_of")
    if experiment not in set(points.experiment):
        return None
    if setting:
        there = points[points.experiment == experiment]
        each = [
            compare(points[points[setting] == value], {**comparison, "worst_of": None}, score)
            for value in sorted(there[setting].dropna().unique())
        ]
        found = [one for one in each if one is not None]
        return min(found, key=lambda one: one["difference"]) if found else None
    a, b = (side(points, {"experiment": experiment, **comparison[k]}, score) for k in "ab")
    both = a.merge(b, on=[*PLACES, "seed"], suffixes=("_a", "_b"))
    if both.empty:
        return None
    both["difference"] = both.value_a - both.value_b
    # Of an unfinished study, the settings that have most seeds: all seeds are to see the same ones.
    seeds = both.groupby(PLACES).seed.transform("nunique")
    both = both[seeds == seeds.max()]
    by_seed = both.groupby("seed").difference.mean()
    mean, low, high = statistics.over_seeds(by_seed.tolist())
    return {
        "a": both.value_a.mean(),
        "b": both.value_b.mean(),
        "difference": mean,
        "low": low,
        "high": high,
        "seeds": len(by_seed),
        "settings": len(both.drop_duplicates(PLACES)),
        "smallest_effect": statistics.smallest_effect(by_seed.tolist()),
        "pairs": both.difference.tolist(),
    }


def finding(found: Mapping[str, Any] | None, margin: float, kept: bool = False) -> str:
    """What a comparison shows: ``shown``, ``slight``, ``absent``, ``open``; empty without one."""
    if found is None:
        return ""
    if found["seeds"] < rules()["least_seeds"] or math.isnan(found["low"]):
        return "open"
    if kept:
        return "shown" if found["high"] < margin else "absent" if found["low"] > margin else "open"
    if found["low"] > 0:
        return "shown" if found["difference"] >= margin else "slight"
    return "absent" if found["high"] < margin else "open"


def verdict(findings: Mapping[str, str]) -> str:
    """The verdict on a claim, of what its recipes show (recipe → `finding`)."""
    known = {recipe: each for recipe, each in findings.items() if each}
    if not known:
        return "not tested here"
    published, chosen = known.get("published", ""), known.get("chosen", "")
    if len(known) == 1:
        (only,) = known.values()
        words = {"shown": "holds", "slight": "holds in direction", "absent": "does not hold"}
        return words.get(only, "not settled")
    if chosen in ("shown", "slight"):
        return "holds" if chosen == "shown" else "holds in direction"
    if chosen == "absent":
        as_published = published in ("shown", "slight")
        return "holds as published only" if as_published else "does not hold"
    return "not settled"


def margin_of(score: str) -> float:
    """The smallest difference that counts, in the score's unit."""
    kind = "nats" if score in ("harm", "drift") else "share" if score in TIMED else "points"
    return rules()["margins"][kind]


def side_name(side: Mapping[str, Any]) -> str:
    """One side of a comparison in words."""
    batches = side.get("train_batches")
    if batches is None:
        return side["variant"]
    return f"{side['variant']}, {batches} training batch{'es' * (batches != 1)}"


def judged(scores: pd.DataFrame, benchmark: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """One row per claim; none where a configuration asks for none of the claims' experiments.

    Parameters
    ----------
    scores
        The table of that name.
    benchmark
        What ``make bench`` measured, for the claims on time and memory; None without it.
    """
    points = last_points(scores)
    asked = set(points.experiment)
    comparisons = [c[r] for c in rules()["claims"].values() for r in RECIPES if r in c]
    if not asked & {comparison["experiment"] for comparison in comparisons}:
        return
    for name, claim in rules()["claims"].items():
        row: dict[str, Any] = {"id": name, "claim": claim["claim"], "where": claim["where"]}
        findings, score = {}, claim.get("score", "")
        for recipe in RECIPES:
            found = None
            if recipe in claim:
                is_timed = score in TIMED
                found = (
                    timed(benchmark, score) if is_timed else compare(points, claim[recipe], score)
                )
            findings[recipe] = finding(found, margin_of(score), claim.get("kept", False))
            values = {k: v for k, v in (found or {}).items() if k != "pairs"}
            values |= {
                f"{k}_is": side_name(claim[recipe][k]) for k in "ab" if k in claim.get(recipe, {})
            }
            row |= {f"{recipe}_{key}": value for key, value in values.items()}
            row[f"{recipe}_finding"] = findings[recipe]
        row |= {"score": score, "margin": margin_of(score), "verdict": verdict(findings)}
        row["quoted"] = quoted(claim)
        yield row


def primary(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The primary comparisons: estimates, exact sign-flip tests over setting × seed, Holm."""
    points, rows = last_points(scores), []
    chosen = rules()["primary"]
    for part in (chosen, {**chosen, **chosen["in_sequence"]}):
        for a, b in part["comparisons"]:
            sides = {"a": {"variant": a}, "b": {"variant": b}}
            found = compare(points, {"experiment": part["experiment"], **sides}, chosen["score"])
            if found is not None:
                p = statistics.sign_flips(found.pop("pairs"))
                rows.append({"experiment": part["experiment"], "variant": a, "than": b} | found)
                rows[-1]["p"] = p
    adjusted: Sequence[float] = statistics.holm([row["p"] for row in rows])
    yield from (row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True))
