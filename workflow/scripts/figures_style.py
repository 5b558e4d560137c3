"""How every figure looks: colours, markers, panels, legend, caption, files."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from smedit.store.files import replacing

mpl.use("Agg")

PALETTE = sns.color_palette("colorblind")
GREY = "0.6"
METHODS = ("MEND", "MALMEN", "SMEdit", "RLEdit", "UltraEdit", "FT-L")
"""The paper's methods keep their colours; other methods follow by name."""

COLORS = [*PALETTE[:3], PALETTE[4], PALETTE[9], "0.1", PALETTE[3], PALETTE[5], PALETTE[8]]
"""By place in `METHODS`; neighbours differ in lightness too."""

MARKERS = "osD^P*<>"
OTHER_LOCALITY = {", KL": "v", ", norm": "v", ", no locality loss": "p"}
"""End of a variant's name that has another locality loss than its method → marker."""

TEXT = 9
"""Size of captions and legends in points."""


def theme() -> AbstractContextManager[None]:
    """The look of all figures, as a context."""
    settings = {
        **sns.plotting_context("paper"),
        **sns.axes_style("whitegrid"),
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
        "grid.color": "0.9",
        "axes.edgecolor": "0.5",
        "hatch.linewidth": 0.6,
        "pdf.fonttype": 42,
    }
    return mpl.rc_context(settings)


@dataclass(frozen=True)
class Style:
    """How a variant is drawn: colour and marker by method, line and filling by what it changes."""

    color: Any
    marker: str
    line: str
    filled: bool

    def options(self) -> dict[str, Any]:
        """Keyword arguments for matplotlib's ``plot``."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.line,
            "markerfacecolor": self.color if self.filled else "white",
            "markeredgecolor": self.color,
            "linewidth": 1.3,
            "markersize": 5,
        }


def variant_styles(scores: pd.DataFrame) -> dict[str, Style]:
    """Label → style, in the order of a legend.

    Solid line and filled marker: MBPS. Dashed and open: one step. Dotted: another locality loss, or
    none. Dash-dotted: another choice that the paper's names leave open. Take the styles from the
    whole scores table, so that a variant looks the same in every figure.
    """
    plain = method_styles(scores.method)
    order = list(plain)
    names = ["method", "bp_steps", "variant", "label"]
    rows = scores[names].drop_duplicates("label").to_dict("records")
    rows.sort(
        key=lambda r: (
            order.index(r["method"]),
            bool(_other_locality(r["variant"])),
            r["bp_steps"],
            r["label"],
        )
    )
    return {row["label"]: _variant_style(row, plain[row["method"]]) for row in rows}


def _variant_style(row: dict[str, Any], plain: Style) -> Style:
    several, other = row["bp_steps"] > 1, _other_locality(row["variant"])
    line = "-" if several else "--"
    if other:
        line = ":"
    if row["label"] != row["variant"]:
        line = "-."
    return Style(plain.color, other or plain.marker, line, filled=several)


def _other_locality(variant: str) -> str:
    """The marker of a variant with another locality loss; empty if it has its method's own."""
    return next((mark for end, mark in OTHER_LOCALITY.items() if variant.endswith(end)), "")


def method_styles(methods: pd.Series) -> dict[str, Style]:
    """Method → style without changes: the paper's methods first, then all others by name."""
    there = set(methods)
    order = [*METHODS, *sorted(there - set(METHODS))]
    return {
        name: Style(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], "-", filled=True)
        for i, name in enumerate(order)
        if name in there
    }


def legend_entries(styles: dict[str, Style], labels: pd.Series) -> list[Artist]:
    """One legend entry per label that a figure draws."""
    drawn = set(labels)
    return [
        Line2D([], [], label=name, **style.options())
        for name, style in styles.items()
        if name in drawn
    ]


def unedited_entry() -> Artist:
    """The legend entry of the unedited model's line."""
    return Line2D([], [], color=GREY, linewidth=1, label="unedited model")


def panels(
    rows: int, columns: int, width: float, row_height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of rows × columns panels; sizes in inches; options as for ``Figure.subplots``."""
    figure = Figure(figsize=(width, rows * row_height), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def finish(figure: Figure, entries: Sequence[Artist], caption: str) -> Figure:
    """Add one legend above the panels and the caption below them; the figure grows by both."""
    width, height = figure.get_size_inches()
    letter = 0.53 * TEXT / 72
    lines = textwrap.wrap(caption, width=int(width / letter), break_on_hyphens=False)
    longest = max((len(entry.get_label()) for entry in entries), default=0)
    columns = max(1, min(len(entries), int(width / (letter * (longest + 2) + 0.6))))
    top = 0.1 + 0.24 * math.ceil(len(entries) / columns) if entries else 0.05
    bottom = 0.2 + len(lines) * TEXT * 1.3 / 72
    total = height + top + bottom
    figure.set_size_inches(width, total)
    figure.get_layout_engine().set(rect=(0, bottom / total, 1, height / total))
    if entries:
        figure.legend(
            handles=entries,
            loc="upper center",
            bbox_to_anchor=(0.5, 1),
            ncols=columns,
            frameon=False,
            fontsize=TEXT,
            handlelength=3,
        )
    figure.text(
        0.1 / width, 0.1 / total, "\n".join(lines), fontsize=TEXT, va="bottom", linespacing=1.3
    )
    return figure


def log_counts(axes: Axes, values: Sequence[int]) -> None:
    """A logarithmic x axis with a tick at each value, and no others."""
    ticks = sorted(set(values))
    axes.set_xscale("log", base=2)
    axes.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    _ticks(axes, ticks)


def linear_counts(axes: Axes, values: Sequence[int]) -> None:
    """A linear x axis with a tick at each value, and no others."""
    ticks = sorted(set(values))
    axes.set_xlim(ticks[0] - 0.3, ticks[-1] + 0.3)
    _ticks(axes, ticks)


def _ticks(axes: Axes, ticks: Sequence[int]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def log_seconds(axes: Axes) -> None:
    """A logarithmic y axis in seconds, with plain numbers; linear if there is nothing to show."""
    if math.isinf(axes.dataLim.minposy):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG or PDF by its suffix, complete or not at all.

    No date, version or path goes into the file: the same table gives the same bytes.
    """
    _settle(figure)
    kind = path.suffix[1:]
    dated = {"png": ["Software"], "pdf": ["Creator", "Producer", "CreationDate"]}[kind]
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=dpi, metadata=dict.fromkeys(dated))


def _settle(figure: Figure) -> None:
    """Lay the panels out once, and round where they stand.

    The last digits of the layout's solver differ from call to call.
    """
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            axes.set_position([round(place, 6) for place in axes.get_position().bounds])
