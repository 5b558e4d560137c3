"""What one side of a comparison reaches, per model, dataset and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import yaml

from smedit.report.bound import UNEDITED, best_within
from smedit.report.metrics import HEADLINE, is_headline
from smedit.store.files import suite_path

RULES = "workflow/claims.yaml"
PLACES = ["model", "dataset"]
EACH = [*PLACES, "seed"]
STRENGTHS = ["lr", "bound", "edit_lr", "loc_coef", "reg_coef"]
"""The settings that may be chosen on ``tune`` rows."""

SAME = ["protocol", "train_batches", "n_batches", "edit_parts", "edit_lr"]
"""What a measurement on ``tune`` rows and the one that is reported have in common, beside the run.
Another experiment may have measured the same run with other parts, or after more training."""

LOWER_IS_BETTER = ("harm", "drift")


@cache
def rules() -> Mapping[str, Any]:
    """What ``workflow/claims.yaml`` holds."""
    return yaml.safe_load(suite_path(RULES).read_text(encoding="utf-8"))


def last_points(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per measurement, stage and headline score, at the end of what was edited.

    A measurement in batches that diverged has its unedited point alone, one in sequence the last
    point that it got to.

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
    ends = table.groupby(["experiment", "variant", "run", "rows", *SAME], dropna=False).batches
    return table[(table.batches == ends.transform("max")) | (table.stage == 0)]


def selected(points: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with these values, column by column."""
    for key, value in wanted.items():
        points = points[points[key] == value]
    return points


def side(points: pd.DataFrame, wanted: Mapping[str, Any], score: str) -> pd.DataFrame:
    """What one side of a comparison reaches: ``value`` per model, dataset and seed, and whether it
    is that of the ``unedited`` model.

    Where the experiment measured ``tune`` rows, the values are chosen on them, per model, under the
    primary budget; the unedited model is a candidate, too: there, and where the experiment takes
    its values from a search. One that diverged has the worst score there is.

    Parameters
    ----------
    points
        See `last_points`.
    wanted
        Column → value: the experiment, and what makes the side in it.
    score
        One of the names of `last_points`.
    """  # noqa: D205
    mine = selected(points, wanted)
    tuned = mine[mine["rows"] == "tune"]
    if tuned.empty:
        reported = mine[mine["rows"] == "eval"]
        within = reported[~reported.within_bound.eq(False)]
        beyond = reported[reported.within_bound.eq(False)]
        return pd.concat([_reached(within, score), _unedited(beyond, score)])
    reached = []
    for model, own in tuned.groupby("model"):
        reported = points[(points.model == model) & (points["rows"] == "eval")]
        best = choice(own)
        if best == UNEDITED:
            reached.append(_unedited(reported[reported.run.isin(own.run)], score))
        elif best is not None:
            chosen = own[(own[STRENGTHS].map(str) == pd.Series(best)).all(axis=1)]
            stage = chosen.edit_steps.iloc[0]
            keys = chosen[["run", *SAME]].map(str).drop_duplicates()
            there = reported.assign(**reported[["run", *SAME]].map(str))
            there = there.merge(keys, on=["run", *SAME])
            there = there[(there.edit_steps >= stage) & there.stage.isin([0, stage])]
            reached.append(_reached(there.assign(edit_steps=stage), score))
    return pd.concat(reached) if reached else _reached(mine[:0], score)


def partly_tried(points: pd.DataFrame, asked: pd.DataFrame, wanted: Mapping[str, Any]) -> set[str]:
    """The models on which candidates are lacking from which a side chooses.

    Parameters
    ----------
    points, asked
        What is measured, which is part of what is asked for.
    wanted
        See `side`.
    """
    done, planned = (
        rows[rows["rows"] == "tune"].drop_duplicates(["model", *STRENGTHS]).groupby("model").size()
        for rows in (selected(points, wanted), selected(asked, wanted))
    )
    return set(planned.index[done.reindex(planned.index, fill_value=0) < planned])


def choice(tuned: pd.DataFrame) -> Any:
    """The values that a search settles on, as text by setting.

    Each candidate's objective and harm are means over datasets and seeds; one that diverged on any
    is out. `UNEDITED` where no candidate within the budget is better, None where one is not
    measured everywhere yet.
    """
    objective, budget = rules()["objective"]["primary"], rules()["budgets"]["primary"]
    first = tuned[(tuned.stage == 0) & (tuned.name == objective)]
    everywhere = len(tuned.drop_duplicates(EACH))
    candidates: list[tuple[Any, float, float]] = [
        (UNEDITED, first.groupby(EACH).value.mean().mean(), 0.0)
    ]
    for _, part in tuned.groupby(STRENGTHS, dropna=False):
        if len(part.drop_duplicates(EACH)) < everywhere:
            return None
        last = part[part.stage == part.edit_steps]
        if len(last.drop_duplicates(EACH)) < everywhere:  # it diverged somewhere
            continue
        mean, harm = (last[last.name == name].value.mean() for name in (objective, "harm"))
        candidates.append((part[STRENGTHS].map(str).iloc[0].to_dict(), mean, harm))
    values, means, harms = zip(*candidates, strict=True)
    return values[best_within(means, harms, budget)]


def _unedited(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    rows = rows[(rows.name == score) & (rows.stage == 0)]
    first = rows.groupby(EACH, as_index=False).value.first()
    return first[[*EACH, "value"]].assign(unedited=True)


def _reached(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Last stage of each model, dataset and seed; the worst score where it diverged."""
    rows = rows[rows.name == score]
    if rows.empty:
        return pd.DataFrame(columns=[*EACH, "value", "unedited"])
    last = rows[rows.stage == rows.groupby(EACH).stage.transform("max")].copy()
    lost = last.diverged.notna() | (last.stage < last.edit_steps)
    last.loc[lost, "value"] = math.inf if score in LOWER_IS_BETTER else 0.0
    reached = last.groupby(EACH, as_index=False).value.first()
    return reached[[*EACH, "value"]].assign(unedited=False)
