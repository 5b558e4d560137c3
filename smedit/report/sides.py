"""What one side of a comparison reaches, per model, dataset and seed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import yaml

from smedit.report.metrics import HEADLINE, is_headline
from smedit.store.files import suite_path

RULES = "workflow/claims.yaml"
PLACES = ["model", "dataset"]
STRENGTHS = ["lr", "bound", "edit_lr", "loc_coef", "reg_coef"]
"""The settings that may be chosen on ``tune`` rows."""


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
    the primary budget; the unedited model is a candidate, too: there, and where the experiment
    takes its values from a search. A run that diverged scores 0.
    """
    mine = points
    for key, value in wanted.items():
        mine = mine[mine[key] == value]
    tuned = mine[(mine["rows"] == "tune") & (mine.experiment == wanted["experiment"])]
    if tuned.empty:
        mine = mine[mine["rows"] == "eval"]
        unedited = mine.within_bound.eq(False) & mine.stage.gt(0)
        return _reached(mine[~unedited], score)
    chosen = []
    for model, own in tuned.groupby("model"):
        best = choice(own)
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


def choice(tuned: pd.DataFrame) -> Mapping[str, Any] | None:
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
    return last.groupby(keys, as_index=False)[["value"]].mean()
