"""How every figure looks: colours, markers, panels, legend, caption, files."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smedit.report.metrics import axis_label
from smedit.store.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "0.55"
TEXT = 9
"""Size of captions and legends in points."""

HARM_LINEAR = 0.1
"""Below this many nats the axis of harm is linear, above it logarithmic: no value is beyond it."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours, which every reader can tell apart; yellow is left out on white."""

MARKERS = "osD^vP*X"
METHODS = ("MEND", "MALMEN", "SMEdit", "RLEdit", "UltraEdit", "FT-L")
"""The paper's methods keep their colours; others follow in the order of an experiment."""

BARS = (
    "Bars: of one seed the 95 % interval over requests (harm: paragraphs), of two seeds both "
    "values, of more the 95 % interval over seeds."
)
"""What a caption says of uncertainty."""

LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
Style = dict[str, Any]


def theme() -> AbstractContextManager[None]:
    """The look of all figures, as a context."""
    import matplotlib as mpl
    import seaborn as sns

    mpl.use("Agg")
    return mpl.rc_context(
        {
            **sns.plotting_context("paper"),
            **sns.axes_style("whitegrid"),
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
            "grid.color": "0.92",
            "axes.edgecolor": "0.5",
            "svg.hashsalt": "smedit",  # names inside a file do not vary
        }
    )


def styles(variants: Mapping[str, str]) -> dict[str, Style]:
    """Label → how it is drawn: the colour is the method's, line, marker and filling the variant's.

    Parameters
    ----------
    variants
        Label → method, in the order of the legend.
    """
    order = [*METHODS, *sorted(set(variants.values()) - set(METHODS))]
    seen: dict[str, int] = {}
    found: dict[str, Style] = {}
    several = {m for m in variants.values() if list(variants.values()).count(m) > 1}
    for label, method in variants.items():
        place, number = order.index(method), seen.get(method, 0)
        seen[method] = number + 1
        color = COLORS[place % len(COLORS)]
        filled = number % 2 == 0
        found[label] = {
            "color": color,
            "marker": MARKERS[(place + 2 * number) % len(MARKERS)],
            "linestyle": LINES[number % len(LINES)] if method in several else "-",
            "markerfacecolor": color if filled else "white",
            "markeredgecolor": color,
            "linewidth": 1.3,
            "markersize": 5,
        }
    return found


TOP, BOTTOM, RIGHT, GAP = 0.3, 0.6, 0.15, 0.42
"""Inches for column titles, for the labels of the last x axes, and between panels."""


@dataclass(frozen=True)
class Sheet:
    """A figure of panels, whose places are known without trying: that is many times faster.

    Attributes
    ----------
    figure, axes
        The figure, and its panels by row and column.
    size
        Inches of all panels together, with the space between them.
    left
        Inches for what stands left of them.
    """

    figure: Figure
    axes: np.ndarray
    size: tuple[float, float]
    left: float


def panels(
    rows: int, columns: int, width: float, height: float, labels: Sequence[str] = (), **options: Any
) -> Sheet:
    """Rows × columns panels.

    Parameters
    ----------
    rows, columns
        How many.
    width, height
        Of one, in inches.
    labels
        Words on the first y axis; without any it has numbers, and so has every other.
    options
        As for ``Figure.subplots``.
    """
    from matplotlib.figure import Figure

    left = 0.75 + (0.075 * max(map(len, labels)) if labels else 0.15)
    gap = 0.14 if labels else GAP
    whole = columns * (width + gap) - gap, rows * (height + GAP) - GAP
    figure = Figure(figsize=(left + whole[0] + RIGHT, TOP + whole[1] + BOTTOM))
    spaces = {"wspace": gap / width, "hspace": GAP / height}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=spaces, **options)
    return Sheet(figure, axes, whole, left)


def title_rows(axes: np.ndarray, places: Sequence[str], names: Sequence[str]) -> None:
    """Name columns by what they measure and rows by model and dataset."""
    for panel, name in zip(axes[0], names, strict=True):
        panel.set_title(axis_label(name), fontsize=TEXT)
    for panel, place in zip(axes[:, 0], places, strict=True):
        panel.annotate(
            place,
            **{"xy": (0, 0.5), "xycoords": ("figure fraction", "axes fraction")},
            **{"xytext": (4, 0), "textcoords": "offset points", "fontsize": TEXT},
            **{"rotation": 90, "va": "center", "ha": "left"},
        )


def harm_axis(panel: Axes, which: str = "y") -> None:
    """An axis in nats that shows any harm, negative ones too."""
    set_scale = panel.set_yscale if which == "y" else panel.set_xscale
    set_scale("symlog", linthresh=HARM_LINEAR, linscale=0.6)
    axis = panel.yaxis if which == "y" else panel.xaxis
    low, high = axis.get_view_interval()
    ticks = [0.0, *(s * 10.0**p for p in range(-1, 4) for s in (1, -1))]
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
    axis.set_minor_locator(_none())


def percent_axis(panel: Axes, which: str = "y") -> None:
    """From 0 to 100, with room for marks on the edge."""
    (panel.set_ylim if which == "y" else panel.set_xlim)(-4, 104)


def value_axis(panel: Axes, values: Sequence[float]) -> None:
    """The x axis of a setting: a tick at each value, logarithmic where they span a decade."""
    ticks = sorted(set(values))
    positive = [tick for tick in ticks if tick > 0]
    if positive and positive[-1] / positive[0] >= 8:
        least = positive[0]
        log = "log" if ticks[0] > 0 else "symlog"
        panel.set_xscale(log, **({} if log == "log" else {"linthresh": least, "linscale": 0.7}))
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.xaxis.set_minor_locator(_none())
    if len(ticks) > 4 or max(len(f"{tick:g}") for tick in ticks) > 4:
        panel.tick_params(axis="x", labelrotation=45)


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def legend(found: Mapping[str, Style], unedited: bool) -> list[Any]:
    """One entry per label, and one for the unedited model's line."""
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], label=label, **style) for label, style in found.items()]
    grey = Line2D([], [], color=GREY, linewidth=1, label="unedited model")
    return [*entries, grey] if unedited else entries


def finish(sheet: Sheet, entries: Sequence[Any], caption: str) -> Figure:
    """Put one legend above the panels and the caption below them."""
    figure, (wide, high) = sheet.figure, sheet.size
    width = sheet.left + wide + RIGHT
    letter = 0.53 * TEXT / 72
    lines = textwrap.wrap(caption, width=int(width / letter), break_on_hyphens=False)
    longest = max((len(entry.get_label()) for entry in entries), default=0)
    columns = max(1, min(len(entries), int(width / (letter * (longest + 2) + 0.6))))
    above = 0.1 + (0.24 * math.ceil(len(entries) / columns) if entries else 0)
    below = 0.2 + len(lines) * TEXT * 1.3 / 72
    total = above + TOP + high + BOTTOM + below
    figure.set_size_inches(width, total)
    figure.subplots_adjust(
        **{"left": sheet.left / width, "right": (sheet.left + wide) / width},
        **{"bottom": (below + BOTTOM) / total, "top": (below + BOTTOM + high) / total},
    )
    if entries:
        figure.legend(
            **{"handles": entries, "loc": "upper center", "bbox_to_anchor": (0.5, 1)},
            **{"ncols": columns, "frameon": False, "fontsize": TEXT, "handlelength": 3},
        )
    place = (0.1 / width, 0.1 / total)
    figure.text(*place, "\n".join(lines), fontsize=TEXT, va="bottom", linespacing=1.3)
    return figure


def refusal(why: str) -> Figure:
    """A picture that says why there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.2))
    text = "\n".join(textwrap.wrap(f"This figure cannot be drawn: {why}", 70))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=TEXT + 1)
    return figure


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure as PNG or SVG by its suffix, complete or not at all.

    No date, version or path goes into the file: the same table gives the same bytes.
    """
    kind = path.suffix[1:]
    dated = {"png": ["Software"], "svg": ["Creator", "Date"]}[kind]
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=dpi, metadata=dict.fromkeys(dated))
