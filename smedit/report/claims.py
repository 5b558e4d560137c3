"""The paper's claims, judged by the rules of ``workflow/claims.yaml``, which explains them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import yaml

from smedit.report import statistics
from smedit.report.metrics import HEADLINE, is_headline
from smedit.store.files import suite_path

RULES = "workflow/claims.yaml"
PLACES = ["model", "dataset"]
STRENGTHS = ["lr", "bound", "edit_lr", "loc_coef", "reg_coef"]
"""The settings that may be chosen on ``tune`` rows."""

RECIPES = ("published", "chosen")


@cache
def rules() -> Mapping[str, Any]:
    """What ``workflow/claims.yaml`` holds."""
    return yaml.safe_load(suite_path(RULES).read_text(encoding="utf-8"))


def last_points(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per measurement, stage and headline score, at the end of what was edited.

    A measurement that diverged has its unedited point alone.

    Parameters
    ----------
    scores
        The table of that name.

    Returns
    -------
    pandas.DataFrame
        With the column ``name`` (one of `HEADLINE`, or ``harm``).
    """
    scores = scores[scores.scope.isin(["all", "text"])]
    parts = []
    for name in (*HEADLINE, "harm"):
        pairs = zip(scores.metric, scores.score, strict=True)
        mine = np.array([is_headline(name, *pair) for pair in pairs], dtype=bool)
        parts.append(scores[mine].assign(name=name))
    table = pd.concat(parts)
    ends = table.groupby(["experiment", "variant", "run", "rows"], dropna=False).batches
    return table[(table.batches == ends.transform("max")) | (table.stage == 0)]


def side(points: pd.DataFrame, wanted: Mapping[str, Any], score: str) -> pd.DataFrame:
    """What one side of a comparison reaches: ``value`` per model, dataset and seed.

    Where the experiment measured ``tune`` rows, the step size is chosen on them, per model, under
    the primary budget; the unedited model is a candidate, too. A run that diverged scores 0.
    """
    mine = points
    for key, value in wanted.items():
        mine = mine[mine[key] == value]
    tuned = mine[(mine["rows"] == "tune") & (mine.experiment == wanted["experiment"])]
    if tuned.empty:
        return _reached(mine[mine["rows"] == "eval"], score)
    chosen = []
    for model, own in tuned.groupby("model"):
        best = _choice(own)
        there = points[(points.model == model) & (points["rows"] == "eval")]
        asked = own.drop_duplicates("run")
        same = there[there.run.isin(asked.run)]
        for key in ("train_batches", "n_edits", "protocol"):
            same = same[same[key] == own[key].iloc[0]]
        if best is None:  # the unedited model
            chosen.append(_reached(same[same.stage == 0], score))
            continue
        stage = int(own.edit_steps.iloc[0])
        for key, value in best.items():
            same = same[_equal(same[key], value)]
        same = same[(same.stage.isin([0, stage])) & (same.edit_steps >= stage)]
        chosen.append(_reached(same, score))
    return pd.concat(chosen) if chosen else _reached(mine[:0], score)


def _choice(tuned: pd.DataFrame) -> Mapping[str, Any] | None:
    """The values with the best objective within the budget; None is the unedited model."""
    objective, budget = rules()["objective"]["primary"], rules()["budgets"]["primary"]
    last = tuned[tuned.stage == tuned.edit_steps]
    before = tuned[(tuned.stage == 0) & (tuned.name == objective)].value.mean()
    best, reached = None, before
    keys = [key for key in STRENGTHS if last[key].nunique(dropna=False) > 1]
    if not keys:
        return {}
    for values, part in last.groupby(keys, dropna=False):
        harm = part[part.name == "harm"].value.mean()
        mean = part[part.name == objective].value.mean()
        if harm <= budget and mean > reached:
            best, reached = dict(zip(keys, values, strict=True)), mean
    return best


def _equal(column: pd.Series, value: Any) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    if isinstance(value, str) and value == "trained":
        return column == value
    return (numbers - float(value)).abs() <= 1e-9 * abs(float(value))


def _reached(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Last stage of each model, dataset and seed; 0 where it diverged."""
    rows = rows[rows.name == score]
    keys = [*PLACES, "seed"]
    if rows.empty:
        return pd.DataFrame(columns=[*keys, "value"])
    last = rows[rows.stage == rows.groupby(keys).stage.transform("max")].copy()
    last.loc[last.diverged.notna(), "value"] = 0.0
    return last.groupby(keys, as_index=False).value.mean()


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
        only = published in ("shown", "slight")
        return "holds as published only" if only else "does not hold"
    return "not settled"


def margin_of(score: str) -> float:
    """The smallest difference that counts, in the score's unit."""
    return rules()["margins"]["nats" if score in ("harm", "drift") else "points"]


def judged(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row per claim; none where a configuration asks for none of the claims' experiments."""
    points = last_points(scores)
    asked = set(points.experiment)
    comparisons = [c[r] for c in rules()["claims"].values() for r in RECIPES if r in c]
    if not asked & {comparison["experiment"] for comparison in comparisons}:
        return
    for name, claim in rules()["claims"].items():
        row: dict[str, Any] = {"id": name, "claim": claim["claim"], "where": claim["where"]}
        findings, score = {}, claim.get("score", "")
        for recipe in RECIPES:
            found = compare(points, claim[recipe], score) if recipe in claim else None
            findings[recipe] = finding(found, margin_of(score), claim.get("kept", False))
            values = {k: v for k, v in (found or {}).items() if k != "pairs"}
            row |= {f"{recipe}_{key}": value for key, value in values.items()}
            row[f"{recipe}_finding"] = findings[recipe]
        row |= {"score": score, "margin": margin_of(score), "verdict": verdict(findings)}
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
