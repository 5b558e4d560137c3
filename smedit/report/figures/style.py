"""How every figure looks: theme, colours, markers, lines; and how it is written."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smedit.store.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "0.45"
"""Of the unedited model and other marks that are no series."""

TEXT = 9
"""Size of titles and legends in points."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours without yellow, and a brown. Between any two, as anyone or a reader
without one kind of cones sees them, lie at least 15 units of CIE Lab (a test measures it)."""

MARKERS = "osD^vP*X"
METHODS = ("MEND", "MALMEN", "SMEdit", "RLEdit", "UltraEdit", "FT-L")
"""The paper's methods keep their colours; others get those that a panel leaves."""

HATCHES = ("", "///", "", "...", "")
"""With the colours they tell phases apart in grey print, too."""

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
            # The first comes with matplotlib: the same on every machine.
            "font.family": ["DejaVu Sans", "sans-serif"],
            "grid.color": "0.92",
            "axes.edgecolor": "0.5",
            "svg.hashsalt": "smedit",  # names inside a file do not vary
            "svg.fonttype": "none",  # words stay words, which can be searched and read aloud
        }
    )


def styles(variants: Mapping[str, str]) -> dict[str, Style]:
    """Label → how it is drawn: the colour is the method's, line, marker and filling the variant's.

    Where all are of one method, each has a colour of its own.

    Parameters
    ----------
    variants
        Label → method, in the order of the legend.
    """
    methods = set(variants.values())
    if len(methods) == 1 < len(variants) - 1:
        (own,) = methods
        plain = own if own in variants else next(iter(variants))
        variants = {label: own if label == plain else label for label in variants}
    places = _places(variants)
    seen: dict[str, int] = {}
    found: dict[str, Style] = {}
    for label, method in variants.items():
        place, number = places[method], seen.get(method, 0)
        seen[method] = number + 1
        color = COLORS[place % len(COLORS)]
        found[label] = {
            "color": color,
            "marker": MARKERS[(place + 2 * number + number // 4) % len(MARKERS)],  # eight differ
            "linestyle": LINES[number % len(LINES)],
            "markerfacecolor": color if number % 2 == 0 else "white",
            "markeredgecolor": color,
            "linewidth": 1.4,
            "markersize": 5,
        }
    return found


def _places(variants: Mapping[str, str]) -> dict[str, int]:
    """Method → place of its colour."""
    known = {method: place for place, method in enumerate(METHODS)}
    present = [method for method in dict.fromkeys(variants.values()) if method not in known]
    taken = {known[method] for method in variants.values() if method in known}
    free = [place for place in range(len(COLORS)) if place not in taken]
    free += range(len(COLORS), len(COLORS) + len(present))
    return known | dict(zip(present, free, strict=False))


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
