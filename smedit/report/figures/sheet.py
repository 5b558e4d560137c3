"""Panels in rows: one row per measure with a common scale, one column per model and dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smedit.report.figures.style import GREY, TEXT
from smedit.report.metrics import axis_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 8.2
"""Inches of every figure: on a page they all have letters of one size."""

MOST_COLUMNS = 4
RIGHT, TITLE, TICKS, BETWEEN, ENTRY = 0.14, 0.17, 0.5, 0.14, 0.155
"""Inches right of the panels, for a line of a title, for an x axis with its label, between panels,
and for a line of a legend."""

LETTER = 0.55 * TEXT / 72
"""Inches of a letter."""


@dataclass(frozen=True)
class Block:
    """Panels that share a legend: the columns' titles, and the legend's entries."""

    titles: Sequence[str]
    entries: Sequence[Any] = ()


def chunks(places: Sequence[Any], most: int = MOST_COLUMNS) -> list[list[Any]]:
    """Places in rows that fit beside each other, about as many in each."""
    rows = -(-len(places) // most)
    size = -(-len(places) // rows)
    return [list(places[start : start + size]) for start in range(0, len(places), size)]


@dataclass(frozen=True)
class Sheet:
    """A figure, and for each block its panels by measure and place.

    Attributes
    ----------
    figure
        The figure.
    panels
        Per block, measures × places.
    across
        Whether measures stand side by side: there is one place alone.
    """

    figure: Figure
    panels: list[np.ndarray]
    across: bool


def sheet(
    blocks: Sequence[Block],
    measures: Sequence[str],
    height: float,
    left: float = 0.62,
    on_x: bool = False,
) -> Sheet:
    """Lay out panels; their places are known without trying, which is many times faster.

    Parameters
    ----------
    blocks
        From top to bottom.
    measures
        The rows of each block; its columns where there is one place alone.
    height
        Of one panel, in inches.
    left
        Inches for numbers or words on the first y axis.
    on_x
        Whether measures are on the x axis, and words on y; else they are on y.
    """
    from matplotlib.figure import Figure

    across = max(len(block.titles) for block in blocks) == 1 < len(measures)
    rows = 1 if across else len(measures)
    columns = len(measures) if across else max(len(block.titles) for block in blocks)
    gap = BETWEEN if on_x or not across else 0.62
    below = TICKS if on_x else BETWEEN
    legends = [_legend_lines(block.entries) for block in blocks]
    deep = 1 if across else 1 + max(title.count("\n") for b in blocks for title in b.titles)
    heads = [0.14 + ENTRY * lines + TITLE * deep for lines in legends]
    inner = rows * height + (rows - 1) * below
    total = sum(heads) + len(blocks) * (inner + TICKS)
    width = (WIDTH - left - RIGHT - (columns - 1) * gap) / columns
    if columns == 1:
        width = min(width, 5.0)
    figure = Figure(figsize=(WIDTH, total))
    found, top = [], total
    for block, head in zip(blocks, heads, strict=True):
        shape = (len(measures), len(block.titles))
        panels = np.empty(shape, dtype=object)
        if block.entries:
            _legend(figure, block.entries, (left / WIDTH, top / total))
        for i, j in np.ndindex(shape):
            row, column = (0, i) if across else (i, j)
            x = left + column * (width + gap)
            y = top - head - height - row * (height + below)
            frame = (x / WIDTH, y / total, width / WIDTH, height / total)
            panels[i, j] = panel = figure.add_axes(frame)
            _name(panel, measures[i], block.titles[j], (row, column), on_x, across)
            if not on_x:
                panel.tick_params(labelbottom=row == rows - 1)
        found.append(panels)
        top -= head + inner + TICKS
    return Sheet(figure, found, across)


def _name(
    panel: Any, measure: str, title: str, at: tuple[int, int], on_x: bool, across: bool
) -> None:
    row, column = at
    if row == 0 and (column == 0 or not across):
        panel.set_title(title.replace("\n", ", ") if across else title, fontsize=TEXT)
    if on_x:
        panel.set_xlabel(axis_label(measure), fontsize=TEXT - 1)
        panel.tick_params(labelleft=column == 0)
    else:
        panel.set_ylabel(axis_label(measure) if across or column == 0 else "", fontsize=TEXT - 1)
        panel.tick_params(labelleft=across or column == 0)


def _legend_columns(entries: Sequence[Any]) -> int:
    """As many as fit beside each other, each as wide as its longest label."""
    lengths = [len(entry.get_label()) for entry in entries]
    for columns in range(len(lengths), 1, -1):
        parts = np.array_split(lengths, columns)
        if sum(LETTER * max(part) + 0.62 for part in parts) < WIDTH - 0.7:
            return columns
    return 1


def _legend_lines(entries: Sequence[Any]) -> int:
    return math.ceil(len(entries) / _legend_columns(entries)) if entries else 0


def _legend(figure: Figure, entries: Sequence[Any], at: tuple[float, float]) -> None:
    figure.legend(
        **{"handles": list(entries), "loc": "upper left", "bbox_to_anchor": at},
        **{"ncols": _legend_columns(entries), "frameon": False, "fontsize": TEXT - 0.5},
        **{"handlelength": 2.6, "borderpad": 0.1, "labelspacing": 0.25, "columnspacing": 1.2},
    )


def entries_of(looks: dict[str, dict[str, Any]], unedited: bool) -> list[Any]:
    """The entries of a legend: one per label, and one for the unedited model's line."""
    from matplotlib.lines import Line2D

    found = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    grey = Line2D([], [], color=GREY, linewidth=1, label="unedited model")
    return [*found, grey] if unedited else found
