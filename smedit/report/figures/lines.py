"""Lines over an x axis, one per variant: a row of panels per measure, at most six in a panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from smedit.report.figures import scales
from smedit.report.figures.points import families
from smedit.report.figures.sheet import Block, Sheet, chunks, entries_of, sheet
from smedit.report.figures.style import GREY, styles
from smedit.report.figures.vary import LINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def lines(
    points: pd.DataFrame,
    before: pd.DataFrame,
    methods: Mapping[str, str],
    measures: Sequence[str],
    axis: Callable[[Axes, str], None],
    label: str,
) -> Figure:
    """Draw points that have a place, a line, a name and an x.

    Parameters
    ----------
    points
        Means; see `smedit.report.figures.points.means`. An empty value stands for a variant that
        diverged there.
    before
        The same of the unedited model, without lines.
    methods
        Line → method, in the order of the legend.
    measures
        Names of what is shown.
    axis
        Sets the x axis of a panel of a place.
    label
        What the x axis says.
    """
    groups = [{line: methods[line] for line in group} for group in families(methods)]
    looks = [styles(group) for group in groups]
    unedited = bool(len(before))
    parts = [(look, part) for look in looks for part in chunks(list(dict.fromkeys(points.place)))]
    blocks = [Block(part, entries_of(look, unedited)) for look, part in parts]
    made = sheet(blocks, measures, 1.75)
    known = points.dropna(subset="value")
    for i, name in enumerate(measures):
        mine = known[known.name == name]
        reference = before[before.name == name]
        ends = [*mine.low, *mine.high]
        scale = scales.of(name, [*mine.value, *reference.value], ends)
        for (look, part), panels in zip(parts, made.panels, strict=True):
            for j, place in enumerate(part):
                ours = reference[reference.place == place]
                _unedited(panels[i, j], ours)
                _panel(panels[i, j], points[_at(points, place, name)], look, scale)
                axis(panels[i, j], place)
    _label(made, label)
    return made.figure


def _at(points: pd.DataFrame, place: str, name: str) -> pd.Series:
    return (points.place == place) & (points.name == name)


def _unedited(panel: Axes, before: pd.DataFrame) -> None:
    """A level line where the unedited model's score is one number, else a line through them."""
    if before.value.nunique() == 1:
        panel.axhline(before.value.iloc[0], color=GREY, linewidth=1, zorder=1)
    elif len(before):
        before = before.sort_values("x")
        panel.plot(before.x, before.value, color=GREY, linewidth=1, zorder=1)


def _panel(
    panel: Axes, points: pd.DataFrame, looks: Mapping[str, dict[str, Any]], scale: scales.Scale
) -> None:
    scale.apply(panel, "y")
    for label, look in looks.items():
        line = points[points.line == label].sort_values("x")
        there = line.dropna(subset="value")
        few = {"linestyle": ""} if len(there) < LINE else {}
        panel.plot(there.x, there.value, **look | few, label=label, zorder=4)
        scales.bars(panel, there, "x", ("low", "high"), "y", scale, color=look["color"])
        lost = line[line.value.isna()].x
        panel.plot(
            lost,
            [scale.low] * len(lost),
            **{"marker": "x", "linestyle": "", "color": look["color"], "markersize": 6},
            **{"clip_on": False, "label": "_diverged", "zorder": 5},
        )


def _label(made: Sheet, label: str) -> None:
    """Name the x axis where it has numbers."""
    for panels in made.panels:
        for panel in panels.ravel() if made.across else panels[-1]:
            panel.set_xlabel(label, fontsize=8)


def with_lost(points: pd.DataFrame, table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Points, and an empty value for what was asked for and diverged with every seed."""
    asked = table[list(by)].drop_duplicates()
    return asked.merge(points, on=list(by), how="left")


DIVERGED = "A cross at the lower edge: every run diverged there."
