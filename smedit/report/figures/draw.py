"""All figures of a plan, drawn from its tables; their captions go into a table of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from smedit.report.figures import SUFFIXES, Drawn, Row, figures
from smedit.report.figures.style import refusal, save, theme
from smedit.report.metrics import note_on

log = logging.getLogger("smedit")


class CannotDrawError(Exception):
    """Why a figure cannot be drawn from what was measured."""


def draw(rows: Sequence[Row], tables: Mapping[str, pd.DataFrame], out: Path) -> pd.DataFrame:
    """Write every figure as ``NAME.png`` and ``NAME.svg``.

    One that cannot be drawn becomes a picture that says why, and stops nothing.

    Returns
    -------
    pandas.DataFrame
        One row per figure: ``figure`` (its name), ``experiment``, ``kind``, ``setting``,
        ``question``, ``caption``, and ``drawn``: true, or why it could not be.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = []
    with theme():
        for name, kind, drawing in figures(rows):
            mine = {
                key: table[table.experiment == drawing.experiment]
                for key, table in tables.items()
                if "experiment" in table
            }
            why, note = "true", note_on({row["shift_rule"] for row in drawing.rows})
            try:
                made = kind.draw(replace(drawing, tables=mine))
            except CannotDrawError as error:
                why = str(error)
                log.warning("%s cannot be drawn: %s", name, why)
                made = Drawn(refusal(why), "")
            for suffix in SUFFIXES:
                save(made.figure, out / f"{name}.{suffix}")
            found.append(
                {
                    **{"figure": name, "experiment": drawing.experiment, "kind": kind.name},
                    **{"setting": drawing.setting, "question": kind.asks(drawing)},
                    **{"caption": f"{made.caption} {note}".strip(), "drawn": why},
                }
            )
    columns = ["figure", "experiment", "kind", "setting", "question", "caption", "drawn"]
    return pd.DataFrame(found, columns=columns)
