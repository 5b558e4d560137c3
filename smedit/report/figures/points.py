"""From the scores table to what a figure draws: last points, means over seeds, panels."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from smedit.plan.settings import all_settings, without_effect
from smedit.report.figures import Drawing, axes_of, line_of
from smedit.report.figures.draw import CannotDrawError
from smedit.report.metrics import HEADLINE, is_headline
from smedit.report.statistics import over_seeds
from smedit.report.tables import PLACE

MEASURES = (*HEADLINE, "harm")
"""The columns of most figures."""

MOST_SERIES = 6
"""Series in one panel; more are spread over several rows of panels, whole methods together."""


def measured(drawing: Drawing) -> pd.DataFrame:
    """The rows of the scores table that stand for the names of `MEASURES`.

    Beside the table's columns: ``name``, ``line`` (the variant apart from the figure's setting),
    ``place`` (model and dataset) and ``last`` (whether it is the last point of its measurement).
    """
    scores = drawing.tables["scores"]
    scores = scores[(scores["rows"] == "eval") & scores.scope.isin(["all", "text"])]
    parts = []
    for name in MEASURES:
        pairs = zip(scores.metric, scores.score, strict=True)
        parts.append(scores[[is_headline(name, *pair) for pair in pairs]].assign(name=name))
    table = pd.concat(parts)
    if table.empty:
        raise CannotDrawError("there are no scores")
    own = table.groupby(PLACE, dropna=False, sort=False).ngroup()
    point = table.batches * 1000 + table.stage
    last = point == point.groupby(own).transform("max")
    lines = {row["variant"]: row["variant"] for row in drawing.rows}
    if drawing.setting:
        lines = {row["variant"]: line_of(row, drawing.setting) for row in drawing.rows}
    return table.assign(
        line=table.variant.map(lines),
        place=table.model + "\n" + table.dataset,
        last=last & (table.stage > 0),
    )


def at_last_values(drawing: Drawing, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The part where what varies, but for choices and the figure's own setting, has its last value.

    Returns
    -------
    pandas.DataFrame, list of str
        The part, and in words what was kept fixed.
    """
    fixed, said = pd.Series(True, index=table.index), []
    for name in axes_of(drawing.rows):
        if name == drawing.setting or all_settings()[name].choice:
            continue
        used = [row for row in drawing.rows if name not in without_effect(row)]
        values = {(r["model"], r["dataset"]): r[name] for r in used}
        pairs = zip(table.model, table.dataset, strict=True)
        wanted = pd.Series([values.get(pair) for pair in pairs], table.index)
        present = pd.to_numeric(table[name], errors="coerce")
        fixed &= (present == pd.to_numeric(wanted)) | table[name].isna()
        distinct = list(dict.fromkeys(values.values()))
        said.append(f"{all_settings()[name].label} {' or '.join(f'{v:g}' for v in distinct)}")
    return table[fixed], said


def means(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds with its interval: of several seeds the t interval, of one the row's own."""
    rows = []
    for key, part in table.groupby(list(by), sort=False, dropna=False):
        mean, low, high = over_seeds(part.value.tolist())
        if len(part) == 1:
            low, high = part.ci_low.iloc[0], part.ci_high.iloc[0]
        rows.append({**dict(zip(by, key, strict=True)), "value": mean, "low": low, "high": high})
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high"])


def families(drawing: Drawing, lines: Sequence[str]) -> list[list[str]]:
    """Lines in groups of at most `MOST_SERIES`, those of one method together where they fit."""
    methods: dict[str, list[str]] = {}
    for row in drawing.rows:
        label = line_of(row, drawing.setting) if drawing.setting else row["variant"]
        own = methods.setdefault(row["method"], [])
        if label in lines and label not in own:
            own.append(label)
    groups: list[list[str]] = [[]]
    for own in methods.values():
        for start in range(0, len(own), MOST_SERIES):
            part = own[start : start + MOST_SERIES]
            if len(groups[-1]) + len(part) > MOST_SERIES:
                groups.append([])
            groups[-1] += part
    return [group for group in groups if group]


def method_of(drawing: Drawing) -> dict[str, str]:
    """Line → method, in the order of the experiment."""
    return {
        line_of(row, drawing.setting) if drawing.setting else row["variant"]: row["method"]
        for row in drawing.rows
    }
