"""From the scores table to what a figure draws: last points, means over seeds, groups of lines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from smedit.plan.settings import all_settings, without_effect
from smedit.report.figures import Drawing
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.vary import axes_of, line_of
from smedit.report.metrics import is_headline
from smedit.report.sides import SAME
from smedit.report.statistics import over_seeds
from smedit.report.tables import PLACE

MOST_SERIES = 6
"""Series in one panel; more are spread over several blocks of panels, whole methods together."""

MEASURED_BY = [*SAME, "edit_steps"]
"""What is asked of a run, where the same may be asked under two labels."""


def measured(drawing: Drawing) -> pd.DataFrame:
    """The rows of the scores table that stand for the names that a drawing shows.

    Beside the table's columns: ``name``, ``line`` (the variant apart from the figure's setting),
    ``place`` (model and dataset) and ``last`` (whether it is the last point of its measurement).
    """
    scores = drawing.tables["scores"]
    scores = scores[(scores["rows"] == "eval") & scores.scope.isin(["all", "text", "sample"])]
    pairs = list(zip(scores.metric, scores.score, strict=True))
    parts = [
        scores[[is_headline(name, *pair) for pair in pairs]].assign(name=name)
        for name in drawing.measures
    ]
    table = pd.concat(parts)
    if table.empty:
        raise CannotDrawError("there are no scores")
    own = table.groupby(PLACE, dropna=False, sort=False).ngroup()
    point = table.batches * 1000 + table.stage
    last = point == point.groupby(own).transform("max")
    lines = {row["variant"]: line_of(row, drawing.setting) for row in drawing.rows}
    table = table.assign(
        line=table.variant.map(lines),
        place=places_of(table),
        last=last & (table.stage >= table.edit_steps.fillna(1)),
    )
    return once(table, "line")


def places_of(table: pd.DataFrame) -> pd.Series:
    """Model and dataset, as the title of a panel."""
    return table.model + "\n" + table.dataset


def once(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One entry of a column where two stand for the same runs: it gets both names."""
    known: dict[Hashable, str] = {}
    names: dict[str, list[str]] = {}
    for line, part in table.groupby(column, sort=False):
        of_run = part[["run", *MEASURED_BY]].drop_duplicates().astype(str)
        key = tuple(sorted(map(tuple, of_run.to_numpy())))
        names.setdefault(known.setdefault(key, str(line)), []).append(str(line))
    same = {line: " = ".join(lines) for lines in names.values() for line in lines}
    kept = table[table[column].isin(list(names))]
    return kept.assign(**{column: kept[column].map(same)})


def at_last_values(
    drawing: Drawing, table: pd.DataFrame, but: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """The part where what varies, but for choices and the figure's own setting, has its last value.

    Parameters
    ----------
    drawing, table
        The figure, and what it is drawn from.
    but
        Settings that may vary all the same.

    Returns
    -------
    pandas.DataFrame, list of str
        The part, and in words what was kept fixed.
    """
    fixed, said = pd.Series(True, index=table.index), []
    for name in axes_of(drawing.rows):
        if name in (drawing.setting, *but) or all_settings()[name].choice:
            continue
        used = [row for row in drawing.rows if name not in without_effect(row)]
        values = {(r["model"], r["dataset"]): r[name] for r in used}
        pairs = zip(table.model, table.dataset, strict=True)
        wanted = pd.Series([values.get(pair) for pair in pairs], table.index)
        present = pd.to_numeric(table[name], errors="coerce")
        fixed &= (present == pd.to_numeric(wanted)) | table[name].isna()
        distinct = [value for value in dict.fromkeys(values.values()) if value is not None]
        said.append(f"{all_settings()[name].label} {' or '.join(f'{v:g}' for v in distinct)}")
    return table[fixed], said


def means(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds with its interval: of several seeds the t interval, of one the row's own.

    Beside these, ``least`` and ``most`` of the seeds, ``seeds``, their number, and ``requests``,
    how many the value of one is over.
    """
    rows = []
    for key, part in table.groupby(list(by), sort=False, dropna=False):
        mean, low, high = over_seeds(part.value.tolist())
        if len(part) == 1:
            low, high = part.ci_low.iloc[0], part.ci_high.iloc[0]
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                **{"value": mean, "low": low, "high": high, "seeds": len(part)},
                **{"least": part.value.min(), "most": part.value.max()},
                "requests": int(part.n_resampled.max()),
            }
        )
    columns = [*by, "value", "low", "high", "seeds", "least", "most", "requests"]
    return pd.DataFrame(rows, columns=columns)


def families(methods: Mapping[str, str], most: int = MOST_SERIES) -> list[list[str]]:
    """Lines in small groups, those of one method together where they fit.

    Parameters
    ----------
    methods
        Line → method.
    most
        Lines in a group.
    """
    groups = _grouped(methods, most)
    for size in range(-(-len(methods) // len(groups)), most):  # about as many in each
        even = _grouped(methods, size)
        if len(even) == len(groups):
            return even
    return groups


def _grouped(methods: Mapping[str, str], most: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    for method in dict.fromkeys(methods.values()):
        own = [line for line, of in methods.items() if of == method]
        parts = -(-len(own) // most)
        size = -(-len(own) // parts)
        for part in (own[start : start + size] for start in range(0, len(own), size)):
            if parts == 1 and len(groups[-1]) + len(part) <= most:
                groups[-1] += part
            else:
                groups.append(part)
    return [group for group in groups if group]


def method_of(table: pd.DataFrame) -> dict[str, str]:
    """Line → method, in the order of the experiment."""
    return dict(zip(table.line, table.method, strict=True))
