"""Dots of variants below each other: a row of panels per measure, each with a common scale."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from smedit.report.figures import scales
from smedit.report.figures.sheet import LETTER, Block, chunks, sheet
from smedit.report.figures.style import GREY
from smedit.report.metrics import axis_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL = 30
"""Letters on a line of a variant's name."""


@dataclass(frozen=True)
class Dots:
    """What is drawn.

    Attributes
    ----------
    points
        Means with a place, a line, a name and a mark; see `smedit.report.figures.points.means`.
    order
        The lines, from top to bottom.
    looks
        Line and mark → style of its dot.
    scale
        Measure → its axis.
    references
        Place and measure → a value that a grey line marks.
    entries
        Of the legend.
    label
        What the axes say, with ``{}`` for the measure; else its label.
    bars
        Whether intervals are drawn.
    """

    points: pd.DataFrame
    order: Sequence[str]
    looks: Mapping[tuple[str, Any], Mapping[str, Any]]
    scale: Mapping[str, scales.Scale]
    references: Mapping[tuple[str, str], float]
    entries: Sequence[Any] = ()
    label: str = ""
    bars: bool = True


def dots(shown: Dots) -> Figure:
    """Draw them; two marks of a line are joined."""
    names = [textwrap.fill(line, LABEL) for line in shown.order]
    rows = len(names) * (0.2 + 0.12 * max(name.count("\n") for name in names))
    longest = max(len(part) for name in names for part in name.split("\n"))
    places = list(dict.fromkeys(shown.points.place))
    parts = chunks(places)
    blocks = [Block(part, shown.entries) for part in parts]
    made = sheet(blocks, list(shown.scale), rows + 0.15, 0.3 + LETTER * longest, on_x=True)
    for part, panels in zip(parts, made.panels, strict=True):
        for i, (name, scale) in enumerate(shown.scale.items()):
            for j, place in enumerate(part):
                panel = panels[i, j]
                scale.apply(panel, "x")
                if shown.label:
                    label = shown.label.format(axis_label(name).split(" (")[0])
                    panel.set_xlabel(label, fontsize=8)
                panel.set_yticks(range(len(names)), names, fontsize=8)
                panel.set_ylim(len(names) - 0.5, -0.5)
                if (place, name) in shown.references:
                    panel.axvline(shown.references[place, name], color=GREY, linewidth=1, zorder=1)
                here = shown.points[(shown.points.place == place) & (shown.points.name == name)]
                for at, line in enumerate(shown.order):
                    _row(panel, at, here[here.line == line], shown, scale)
    return made.figure


def _row(panel: Axes, at: int, points: pd.DataFrame, shown: Dots, scale: scales.Scale) -> None:
    if points.empty:
        return
    known = points.dropna(subset="value")
    if known.empty:
        panel.text(
            *(0.5, at, "diverged"),
            **{"transform": panel.get_yaxis_transform(), "ha": "center", "va": "center"},
            **{"fontsize": 7, "color": GREY, "zorder": 6},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
        return
    known = known.assign(y=at)
    if len(known) > 1:
        ends = known.value.min(), known.value.max()
        panel.hlines(at, *ends, color="0.75", linewidth=2.5, zorder=2)
    for point in known.itertuples():
        look = shown.looks[point.line, point.mark]
        if len(known) == 1 and shown.bars:
            scales.bars(panel, known, "y", ("low", "high"), "x", scale, color=look["color"])
        panel.plot(point.value, at, **look, zorder=4)
