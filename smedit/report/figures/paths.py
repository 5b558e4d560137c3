"""Paths through the plane of harm and a score: one per variant, along the values of a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from smedit.plan.plan import OBJECTIVE
from smedit.report.figures import scales
from smedit.report.figures.points import MOST_SERIES, families
from smedit.report.figures.sheet import Block, chunks, entries_of, sheet
from smedit.report.figures.style import GREY, styles
from smedit.report.figures.vary import LINE
from smedit.report.metrics import axis_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINED = -1.0
"""Stands for a step size at edit time that is no value, but as it was trained."""

SIZES = (3.0, 7.5)
"""Points across of the marks of the least and of the largest value."""

REFERENCES = tuple(
    {"color": GREY, "marker": marker, "linewidth": 1.1, "linestyle": line, "markeredgecolor": GREY}
    for line, marker in (("-", "x"), ("--", "|"))
)
"""How lines that all others are compared with are drawn."""

SMALL = 7
"""Size of the numbers on a line."""


@dataclass(frozen=True)
class Paths:
    """What is drawn.

    Attributes
    ----------
    points
        Means with a place, a column, a line and an x; ``_harm`` behind the columns for harm.
    methods
        Line → method, in the order of the legend.
    colors
        Line → what its colour stands for: a method or a variant.
    references
        Line → method, of lines that are drawn in grey among all others of it.
    unedited
        Place → the score of the unedited model.
    column
        What the values of the points' columns are; empty if there is one alone.
    published
        The published value of the setting, if there is one.
    score
        Which it is.
    scales
        Of harm and of the score.
    """

    points: pd.DataFrame
    methods: Mapping[str, str]
    colors: Mapping[str, str]
    references: Mapping[str, str]
    unedited: Mapping[str, float]
    column: str
    published: float | None
    score: str
    scales: tuple[scales.Scale, scales.Scale]


def paths(shown: Paths) -> Figure:
    """Draw them: one block of panels per group of variants."""
    points = shown.points
    groups = families(shown.methods, MOST_SERIES - bool(shown.references) * len(REFERENCES))
    cells: list[Any] = list(dict.fromkeys(zip(points.place, points.column, strict=True)))
    rows = [chunks([cell for cell in cells if cell[0] == place]) for place, _ in cells]
    rows = rows if shown.column else [chunks(cells)]
    parts: list[tuple[Any, list[Any]]] = []
    for group in groups:
        looks = styles({line: shown.colors[line] for line in group}) | _grey(shown, group)
        for part in [part for row in list({str(r): r for r in rows}.values()) for part in row]:
            parts.append((looks, part))
    blocks, last = [], None
    for looks, part in parts:
        entries = entries_of(looks, unedited=False) if looks is not last else []
        blocks.append(Block([_title(shown, *cell) for cell in part], entries))
        last = looks
    made = sheet(blocks, [shown.score], 2.5)
    for (looks, part), panels in zip(parts, made.panels, strict=True):
        for panel, (place, column) in zip(panels[0], part, strict=True):
            mine = points[(points.place == place) & (points.column == column)]
            panel.set_xlabel(axis_label("harm"), fontsize=8)
            _panel(panel, mine, looks, shown, shown.unedited[place])
    return made.figure


def _grey(shown: Paths, group: Sequence[str]) -> dict[str, dict[str, Any]]:
    """References of a group's methods, or those that there are."""
    methods = {shown.methods[line] for line in group}
    mine = [line for line, method in shown.references.items() if method in methods]
    return dict(zip(mine or shown.references, REFERENCES, strict=False))


def _title(shown: Paths, place: str, column: Any) -> str:
    return (
        place.replace("\n", ", ") + f"\n{shown.column} {scales.short(column)}"
        if shown.column
        else place
    )


def _panel(
    panel: Axes,
    points: pd.DataFrame,
    looks: Mapping[str, dict[str, Any]],
    shown: Paths,
    unedited: float,
) -> None:
    harm, score = shown.scales
    harm.apply(panel, "x")
    score.apply(panel, "y")
    budget = OBJECTIVE["harm_at_most"]
    panel.axvline(budget, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    panel.annotate(
        f"budget {budget:g} nats",
        **{"xy": (budget, 0), "xycoords": ("data", "axes fraction"), "xytext": (-2, 3)},
        **{"textcoords": "offset points", "rotation": 90, "ha": "right", "va": "bottom"},
        **{"fontsize": SMALL, "color": GREY},
    )
    panel.plot(0, unedited, "+", color="black", markersize=10, markeredgewidth=1.6, zorder=6)
    values = sorted(set(shown.points.x))
    ends = []
    for label, look in looks.items():
        line = points[points.line == label].sort_values("x")
        along = line[line.x != TRAINED]
        if len(along) >= LINE:
            path = look | {"marker": "", "label": label}
            panel.plot(along.value_harm, along.value, **path, zorder=3)
        thin = {"color": look["color"], "linewidth": 0.8, "alpha": 0.35}
        scales.bars(panel, line, "value_harm", ("least", "most"), "y", score, **thin)
        scales.bars(panel, line, "value", ("least_harm", "most_harm"), "x", harm, **thin)
        for point in line.itertuples():
            share = values.index(point.x) / max(1, len(values) - 1)
            size = SIZES[0] + share * (SIZES[1] - SIZES[0])
            mark = {"markersize": size} if point.x != TRAINED else {"markersize": 9, "marker": "*"}
            panel.plot(point.value_harm, point.value, **look | mark, zorder=4)
            if point.x == shown.published:
                ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 11}
                panel.plot(point.value_harm, point.value, "o", **ring, zorder=5)
        if len(along) > 1:
            ends += [(along.iloc[end], look["color"]) for end in (-1, 0)]
    _number(panel, ends, [(0, unedited), *zip(points.value_harm, points.value, strict=True)])


PLACES = (
    *((6, 0, "left"), (0, 8, "center"), (0, -8, "center"), (-6, 0, "right")),
    *((6, 8, "left"), (6, -8, "left"), (-6, 8, "right"), (-6, -8, "right")),
)
"""Where a number may stand beside its mark: points to the right and up, and how it is aligned."""


def _number(panel: Axes, ends: list[tuple[Any, str]], marks: list[tuple[float, float]]) -> None:
    """Name the values at the ends of lines, where there is room; equal ones close by once."""
    scale = 72 / panel.figure.dpi
    to_points = panel.transData.transform
    taken = [
        (x * scale - 3, y * scale - 3, x * scale + 3, y * scale + 3) for x, y in to_points(marks)
    ]
    frame = panel.get_window_extent()
    named: list[tuple[str, float, float]] = []
    for point, color in ends:
        text = scales.short(point.x)
        x, y = scale * to_points((point.value_harm, point.value))
        if any(text == other and abs(x - a) + abs(y - b) < 45 for other, a, b in named):
            continue
        wide, high = 0.62 * SMALL * len(text), SMALL
        for right, up, side in PLACES:
            left = x + right - {"left": 0, "center": wide / 2, "right": wide}[side]
            box = (left, y + up - high / 2, left + wide, y + up + high / 2)
            inside = (
                frame.x0 * scale < box[0]
                and box[2] < frame.x1 * scale
                and frame.y0 * scale < box[1]
                and box[3] < frame.y1 * scale
            )
            if inside and not any(_overlap(box, other) for other in taken):
                break
        else:
            continue
        taken.append(box)
        named.append((text, x, y))
        panel.annotate(
            text,
            (point.value_harm, point.value),
            **{"xytext": (right, up), "textcoords": "offset points", "ha": side, "va": "center"},
            **{"fontsize": SMALL, "color": color, "zorder": 7},
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4},
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
