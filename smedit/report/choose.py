"""What a search measured on ``tune`` rows → the values to use, per variant.

By the rule of `smedit.report.bound`: the objective is a mean of scores, and both it and harm are
means over datasets and seeds, at the last point. A point that diverged on one of them counts as the
worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import pandas as pd

from smedit.errors import UserError
from smedit.plan.plan import Point, Search
from smedit.report.bound import at_edge, best_within
from smedit.report.metrics import is_headline
from smedit.report.results import Result, evaluation_of, has_evaluation
from smedit.report.statistics import harm, mean_with_interval

COLUMNS = [
    *("search", "model", "variant", "values", "objective", "unedited", "harm", "allowed"),
    *("chosen", "at_edge", "n", "runs"),
]
"""Of the table of a search: ``values`` is what was tried, ``unedited`` the unedited model's
objective, ``n`` how many runs it was tried in, ``at_edge`` which of the chosen numbers are the
least or the largest tried, so that a better one may lie beyond, ``runs`` their names."""


def choose(search: Search, results: Mapping[str, Result]) -> pd.DataFrame:
    """The table of a search: each variant's points, and which one is chosen.

    Raises
    ------
    UserError
        If a point lacks a score that the objective needs.
    """
    rows = []
    for variant, points in search.points.items():
        tried: dict[tuple[Any, ...], list[Point]] = {}
        for point in points:
            tried.setdefault(tuple(point.values.items()), []).append(point)
        if len(tried) == 1:  # nothing to choose: whoever asks has this value
            continue
        mine: list[dict[str, Any]] = []
        for values, members in tried.items():
            measured = [_measured(search, results[p.run], p) for p in members]
            mine.append(
                {
                    **{"search": search.name, "model": search.model, "variant": variant},
                    "values": dict(values),
                    "objective": fmean(m[0] for m in measured),
                    "unedited": fmean(m[2] for m in measured),
                    "harm": fmean(m[1] for m in measured),
                    "n": len(measured),
                    "runs": " ".join(member.run for member in members),
                }
            )
        bound = search.objective["harm_at_most"]
        best = mine[best_within([r["objective"] for r in mine], [r["harm"] for r in mine], bound)]
        for row in mine:
            edge = at_edge(row["values"], [r["values"] for r in mine]) if row is best else ""
            of_row = {"allowed": row["harm"] <= bound, "chosen": row is best, "at_edge": edge}
            rows.append(row | of_row)
    return pd.DataFrame(rows, columns=COLUMNS)


def settled(search: Search, results: Mapping[str, Result]) -> Search:
    """The part of a search whose variants have all their points measured."""
    done = {
        variant: points
        for variant, points in search.points.items()
        if all(has_evaluation(results.get(p.run), vars(p.measurement)) for p in points)
    }
    return replace(search, points=done)


def _measured(search: Search, result: Result, point: Point) -> tuple[float, float, float]:
    """Objective in percent and harm of one point, the worst if it diverged; and the objective of
    the unedited model.
    """  # noqa: D205
    evaluation = evaluation_of(result, vars(point.measurement))
    first, last = evaluation["points"][0], evaluation["points"][-1]

    def objective(of: Mapping[str, Any]) -> float:
        values = []
        for name in search.objective["mean_of"]:
            rows = [s["rows"] for s in of["scores"] if is_headline(name, s["metric"], s["score"])]
            if not rows or not any(rows[0]):
                what = f"the run {point.run} has no {name} to choose by"
                raise UserError(f"search {search.name}: {what}")
            values.append(mean_with_interval(rows[0])["value"])
        return fmean(values)

    if evaluation["diverged"]:
        return -math.inf, math.inf, objective(first)
    return objective(last), harm(last["text"], first["text"][0])["value"], objective(first)


def within_bound(table: pd.DataFrame) -> dict[str, bool]:
    """Variant → whether what was chosen keeps the bound, and is better than the unedited model."""
    chosen = table[table.chosen.astype(bool)]
    better = chosen.allowed & (chosen.objective > chosen.unedited)
    return dict(zip(chosen.variant, map(bool, better), strict=True))


def chosen_values(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Variant → chosen values."""
    chosen = table[table.chosen.astype(bool)]
    return dict(zip(chosen.variant, chosen["values"], strict=True))
