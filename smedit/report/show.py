"""The summary of a run of the workflow, as a person reads it in a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from smedit.errors import UserError
from smedit.plan.settings import all_settings
from smedit.report.metrics import note_on

SCORES = {
    "efficacy": "effic.",
    "generalization": "gener.",
    "specificity": "specif.",
    "agreement": "agree.",
    "harm": "harm",
}
"""Column of the summary → its heading."""

WIDTH = 100


def show(results: Path, filters: Mapping[str, str | None]) -> str:
    """The summary as a table, and where everything else is.

    Parameters
    ----------
    results
        The folder of the tables.
    filters
        Column → the value that its rows must have; None takes all.

    Raises
    ------
    UserError
        If there is no summary there, or a filter leaves nothing.
    """
    path = results / "summary.csv"
    if not path.is_file():
        raise UserError(f"{path}: there is no summary yet; run the workflow, or name --results")
    table = pd.read_csv(path)
    for column, value in filters.items():
        if value is not None:
            known = ", ".join(sorted(set(table[column].astype(str))))
            table = table[table[column].astype(str) == value]
            if table.empty:
                raise UserError(f"--{column}: there is no {value!r}; known: {known}")
    parts = [
        f"{experiment}, {model}, {dataset}\n{_aligned(part)}"
        for (experiment, model, dataset), part in table.groupby(
            ["experiment", "model", "dataset"], sort=False
        )
    ]
    legend = (
        "Percent; harm in nats per token. In parentheses: of one seed the 95 % interval over\n"
        "requests (harm: paragraphs), of two seeds both values, of more the 95 % interval over\n"
        "seeds. Each table begins with the unedited model."
    )
    note = textwrap.fill(note_on(set(table["shift_rule"])), 88)
    return "\n\n".join([*parts, legend + (f"\n{note}" if note else "")])


def places(results: Path, figures: Path) -> str:
    """Where report, tables, figures and logs are, a line each."""
    return (
        f"report   {results}/report.html\n"
        f"tables   {results}/summary.csv and the others beside it (smedit show)\n"
        f"figures  {figures}/*.png\n"
        f"runs     {results}/runs/*.json, the log of each beside it (index: {results}/runs.csv)"
    )


def _aligned(part: pd.DataFrame) -> str:
    """One experiment on one model and dataset: a line per variant and size."""
    varied = [
        name
        for name, said in all_settings().items()
        if name in part and not said.choice and part.groupby("variant")[name].nunique().max() > 1
    ]
    first = part.iloc[0]
    before = {"variant": "unedited"} | {
        name: "–" if math.isnan(v := first[f"unedited_{name}"]) else f"{v:.0f}"
        for name in list(SCORES)[:3]
    }
    rows = [before | {"agreement": "100", "harm": "0"}]
    for row in part.to_dict("records"):
        cells = {"variant": row["variant"]}
        cells |= {name: _short(row[name]) for name in varied}
        for name in SCORES:
            cells[name] = _cell(row, name)
        rows.append(cells)
    headings = {"variant": "variant", **{name: name for name in varied}, **SCORES}
    widths = {
        key: max(len(heading), *(len(row.get(key, "")) for row in rows))
        for key, heading in headings.items()
    }
    lines = [headings, *rows]
    return "\n".join(
        "  "
        + "  ".join(
            f"{line.get(key, ''):<{width}}" if key == "variant" else f"{line.get(key, ''):>{width}}"
            for key, width in widths.items()
        )
        for line in lines
    )


def _cell(row: Mapping[Any, Any], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(value):
        return "diverged" if row["diverged"] else "–"
    digits = 2 if name == "harm" else 0
    text = f"{value:z.{digits}f}"
    return text if math.isnan(low) else f"{text} ({low:z.{digits}f}–{high:z.{digits}f})"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value)
