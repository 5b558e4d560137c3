"""Results of the hyperparameter search → the values to use, per model and method.

The search runs on the ``tune`` split, which is neither trained nor reported on. The rule: over all
datasets, the highest mean of efficacy, generalization and specificity after editing; at a tie the
first in the order of the grid. Methods keep their values in all their variants. Whatever else is
measured has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from smedit.errors import UserError
from smedit.plan.grid import TUNED

OBJECTIVE_METRICS = ("efficacy", "generalization", "specificity")
"""The metrics that the objective averages, as far as a dataset has them."""

OBJECTIVE_SCORES = ("accuracy", "token_success")
"""The scores that the objective averages: ZsRE's, and CounterFact's of the published tables."""

MEASURED = [*OBJECTIVE_METRICS, "objective", "n_requests", "chosen"]


def tuning_table(
    results: Sequence[Mapping[str, Any]], tuned: Sequence[str] = tuple(TUNED)
) -> pd.DataFrame:
    """One row per searched point and dataset.

    Parameters
    ----------
    results
        Results of `smedit.run.experiment.run_cell` or of `smedit.run.stream_cell.run_stream`.
    tuned
        Names of the hyperparameters that were searched.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``dataset``, ``method``, the searched values and `MEASURED`: scores after editing
        in percent; ``objective`` is the mean over metrics and datasets, the same in each dataset's
        row, and empty if the point diverged. No rows if nothing was searched.

    Raises
    ------
    UserError
        If the points of a dataset are not measured by the same metrics.
    """
    columns = ["model", "dataset", "method", *tuned, *MEASURED]
    if not results:
        return pd.DataFrame(columns=columns)
    rows = [_row(result, tuned) for result in results]
    _check_metrics(rows, tuned)
    table = pd.DataFrame(rows, columns=[*columns, "mean"])
    point = ["model", "method", *tuned]
    table["objective"] = table.groupby(point, sort=False)["mean"].transform("mean")
    best = table.loc[table.groupby(["model", "method"], sort=False)["objective"].idxmax(), point]
    chosen = table[point].merge(best.assign(chosen=True), how="left", on=point)["chosen"]
    table["chosen"] = chosen.notna()
    table[[*OBJECTIVE_METRICS, "objective"]] *= 100
    return table[columns].replace(-math.inf, math.nan)


def _row(result: Mapping[str, Any], tuned: Sequence[str]) -> dict[str, Any]:
    settings = result["settings"]
    values: dict[str, float] = {}  # none if this point diverged: then it counts as the worst
    for score in _last_scores(result):
        if score["metric"] in OBJECTIVE_METRICS and score["score"] in OBJECTIVE_SCORES:
            rows = [value for request in score["rows"] for value in request]
            values[score["metric"]] = sum(rows) / len(rows)
    return {
        **{name: settings[name] for name in ("model", "dataset", "method", *tuned)},
        **values,
        "mean": sum(values.values()) / len(values) if values else -math.inf,
        "diverged": bool(result.get("diverged")),
        "n_requests": settings.get("eval_edits") or settings["n_edits"] * settings["n_sequences"],
    }


def _check_metrics(rows: Sequence[Mapping[str, Any]], tuned: Sequence[str]) -> None:
    """Means over different metrics cannot be compared."""
    finished = [row for row in rows if not row["diverged"]]
    for row in finished:
        beside = [other for other in finished if other["dataset"] == row["dataset"]]
        known = [name for name in OBJECTIVE_METRICS if any(name in other for other in beside)]
        lacking = [name for name in known or OBJECTIVE_METRICS if name not in row]
        if lacking:
            point = ", ".join(f"{n} {row[n]}" for n in ("model", "dataset", "method", *tuned))
            raise UserError(
                f"search: the point {point} has no {lacking[0]}, which the objective needs; delete "
                "its result and run the same command again"
            )


def _last_scores(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was scored at the end: after the last stage, or at a stream's last point."""
    if result.get("diverged"):
        return []
    if "points" in result:
        return result["points"][-1]["scores"]
    last = max(score["stage"] for score in result["scores"])
    return [score for score in result["scores"] if score["stage"] == last]


def chosen_values(
    table: pd.DataFrame, tuned: Sequence[str] = tuple(TUNED)
) -> dict[str, dict[str, float]]:
    """Method → chosen values, from the table of one model."""
    chosen = table[table["chosen"]].drop_duplicates("method")
    return {
        row["method"]: {name: float(row[name]) for name in tuned} for _, row in chosen.iterrows()
    }
