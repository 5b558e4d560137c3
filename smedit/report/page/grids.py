"""A table as the page shows it: columns that say something, numbers in few digits, bests marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.report.metrics import HEADLINE, METRICS, SCORES, note_on

BESTS = dict.fromkeys(HEADLINE, "higher") | {"harm": "lower"}
"""Column → which of its values is marked, per model and dataset."""

HIDDEN = {"experiment", "run", "runs", "identity", "engine"}
ENDS = ("_low", "_high")


@dataclass(frozen=True)
class Grid:
    """A table for the page.

    Attributes
    ----------
    name
        The CSV that it is of.
    columns
        (heading, word of the glossary or empty) of each.
    rows
        (line of the CSV, cells); a cell is (text, value to sort by, whether it is marked).
    same
        Column → value, of those columns that have one alone.
    note
        What has to be said beside it.
    """

    name: str
    columns: list[tuple[str, str]]
    rows: list[tuple[int, list[tuple[str, Any, bool]]]]
    same: dict[str, str]
    note: str


def grid(name: str, table: pd.DataFrame, bests: Mapping[str, str]) -> Grid:
    """Make one; intervals stand with their value, columns with one value above the table.

    Parameters
    ----------
    name
        Of the CSV.
    table
        Its rows, or some of them; their index gives their lines.
    bests
        As `BESTS`.
    """
    with_interval = {c for c in table if {f"{c}{end}" for end in ENDS} <= set(table)}
    ends = {f"{c}{end}" for c in with_interval for end in ENDS}
    shown = [c for c in table if c not in HIDDEN | ends]
    shown = [c for c in shown if not table[c].isna().all()]
    settings = set(all_settings()) | {"experiment", "objective", "budget"}
    same = {
        c: _text(c, table[c].iloc[0])
        for c in shown
        if c in settings and len(table) > 1 and table[c].nunique(dropna=False) == 1
    }
    columns = _what_differs_first([c for c in shown if c not in same], table)
    marked = _marked(table, bests)
    rows = []
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        cells = []
        for column in columns:
            text = _text(column, row[column])
            low, high = (row.get(f"{column}{end}", math.nan) for end in ENDS)
            if column in with_interval and not pd.isna(low):
                text += f" ({_text(column, low)} to {_text(column, high)})"
            value = row[column]
            cells.append((text, "" if pd.isna(value) else value, (line, column) in marked))
        rows.append((int(line) + 2, cells))
    words = {**METRICS, **SCORES}
    return Grid(
        name,
        [(_heading(c), c if c in words else "") for c in columns],
        rows,
        {_heading(c): text for c, text in same.items()},
        note_on(set(table["shift_rule"])) if "shift_rule" in table else "",
    )


def _what_differs_first(columns: list[str], table: pd.DataFrame) -> list[str]:
    """Settings that go with the variant, which its name stands for, come after all numbers."""
    if "variant" not in columns:
        return columns
    names = table.groupby("variant")
    implied = {
        c
        for c in set(columns) & set(all_settings()) - {"model", "dataset"}
        if names[c].nunique(dropna=False).max() == 1
    }
    return [c for c in columns if c not in implied] + [c for c in columns if c in implied]


def _marked(table: pd.DataFrame, bests: Mapping[str, str]) -> set[tuple[Any, str]]:
    found = set()
    for column, better in bests.items():
        for _, part in table.groupby(["model", "dataset"]) if column in table else ():
            best = part[column].max() if better == "higher" else part[column].min()
            found |= {(line, column) for line in part.index[part[column] == best]}
    return found


def _heading(column: str) -> str:
    known = all_settings().get(column)
    return known.label if known else column.replace("_", " ")


def _text(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if column.startswith(("harm", "drift")) and not column.startswith("harm_at"):
        return f"{value:z.2f}"
    if column.startswith(tuple(HEADLINE)) or column.startswith("unedited"):
        return f"{value:.0f}"
    return f"{value:.3g}"
