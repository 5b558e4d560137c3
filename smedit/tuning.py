"""Results of the hyperparameter search → the values to use, per model and method.

The search runs on the ``tune`` split, which is neither trained nor reported on. The rule: over all
datasets, the highest mean of efficacy, generalization and specificity after editing; at a tie the
first in the order of the grid. Methods keep their values in all their variants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from smedit.grid import TUNED, TUNING_COLUMNS

OBJECTIVE_SCORES = ("accuracy", "token_success")
"""The scores that the objective averages: ZsRE's, and CounterFact's of the published tables."""

COLUMNS = [
    *TUNING_COLUMNS,
    "efficacy",
    "generalization",
    "specificity",
    "objective",
    "n_requests",
    "chosen",
]


def tuning_table(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per searched point and dataset.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`: scores after editing in [0, 1]; ``objective`` is the mean over metrics and
        datasets, the same in each dataset's row, and empty if the point diverged. No rows if
        nothing was searched.
    """
    if not results:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.DataFrame([_row(result) for result in results], columns=[*COLUMNS, "mean"])
    point = ["model", "method", *TUNED]
    table["objective"] = table.groupby(point, sort=False)["mean"].transform("mean")
    best = table.loc[table.groupby(["model", "method"], sort=False)["objective"].idxmax(), point]
    chosen = table[point].merge(best.assign(chosen=True), how="left", on=point)["chosen"]
    table["chosen"] = chosen.notna()
    return table[COLUMNS].replace(-math.inf, math.nan)


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    settings = result["settings"]
    last = max((score["stage"] for score in result["scores"]), default=None)
    values: dict[str, float] = {}  # none if this point diverged: then it counts as the worst
    for score in result["scores"]:
        if score["stage"] == last and score["score"] in OBJECTIVE_SCORES:
            rows = [value for request in score["rows"] for value in request]
            values[score["metric"]] = sum(rows) / len(rows)
    return {
        **{name: settings[name] for name in ("model", "dataset", "method", *TUNED)},
        **values,
        "mean": sum(values.values()) / len(values) if values else -math.inf,
        "n_requests": settings["eval_edits"],
    }


def chosen_values(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Method → chosen values of `TUNED`, from the table of one model."""
    chosen = table[table["chosen"]].drop_duplicates("method")
    return {
        row["method"]: {name: float(row[name]) for name in TUNED} for _, row in chosen.iterrows()
    }
