"""All figures of a plan, drawn from its tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from smedit.report.figures import SUFFIXES, Row, figures
from smedit.report.figures.style import refusal, save, theme

log = logging.getLogger("smedit")


class CannotDrawError(Exception):
    """Why a figure cannot be drawn from what was measured."""


def draw(rows: Sequence[Row], tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write every figure as ``NAME.png`` and ``NAME.svg``.

    One that cannot be drawn becomes a picture that says why, and stops nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    with theme():
        for name, kind, drawing in figures(rows):
            mine = {
                key: table[table.experiment == drawing.experiment]
                for key, table in tables.items()
                if "experiment" in table
            }
            try:
                figure = kind.draw(replace(drawing, tables=mine))
            except CannotDrawError as error:
                log.warning("%s cannot be drawn: %s", name, error)
                figure = refusal(str(error))
            for suffix in SUFFIXES:
                save(figure, out / f"{name}.{suffix}")
