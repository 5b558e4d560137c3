"""The axes of what is measured: common limits, ticks, and bars that end in a mark at an edge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HARM_LINEAR = 0.1
"""Below this many nats the axis of harm is linear, above it logarithmic."""

BEYOND_EDGE = "_beyond"
"""Name of the arrows at an edge; matplotlib keeps names that begin so out of legends."""

BEYOND = 2.5
"""How many times the largest harm an interval may reach before it is cut at the edge."""


@dataclass(frozen=True)
class Scale:
    """The axis of one measure, the same in all panels that are compared.

    Attributes
    ----------
    name
        The measure.
    low, high
        The limits; every value lies between them.
    bounds
        Beyond these there are no values, although an interval may reach there.
    """

    name: str
    low: float
    high: float
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def apply(self, panel: Axes, which: str) -> None:
        """Set the ``x`` or the ``y`` axis of a panel."""
        axis = panel.yaxis if which == "y" else panel.xaxis
        if self.name == "harm":
            set_scale = panel.set_yscale if which == "y" else panel.set_xscale
            set_scale("symlog", linthresh=HARM_LINEAR, linscale=0.6)
            shown = self.ticks(_inches(panel, which))
            axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
            axis.set_minor_locator(_none())
        elif self.low < -5:
            from matplotlib.ticker import MaxNLocator

            axis.set_major_locator(MaxNLocator(4, prune="both"))
        (panel.set_ylim if which == "y" else panel.set_xlim)(self.low, self.high)

    def ticks(self, inches: float) -> list[float]:
        """Of the axis of harm: 0, decades, and their threes where an axis so long has room."""
        ends = (max(abs(end), HARM_LINEAR) / HARM_LINEAR for end in (self.low, self.high))
        decades = 1 + sum(map(math.log10, ends))
        threes = (1, 3) if inches > 0.7 * decades else (1,)
        above = [s * 10.0**p for p in range(-1, 8) for s in threes]
        known = [*(-tick for tick in reversed(above)), 0.0, *above]
        return [tick for tick in known if self.low <= tick <= self.high]


def _inches(panel: Axes, which: str) -> float:
    box = panel.get_position()
    wide, high = panel.figure.get_size_inches()
    return box.width * wide if which == "x" else box.height * high


def percent(name: str, values: Iterable[float]) -> Scale:
    """From 0 to a round number above all values, with room for marks on the edges."""
    most = max((v for v in values if not math.isnan(v)), default=100)
    top = min(100, 20 * math.ceil(max(most, 20) / 20))
    return Scale(name, -0.04 * top, 1.04 * top, (0, 100))


def harm(values: Iterable[float], ends: Iterable[float] = ()) -> Scale:
    """Around all values and 0; ends of intervals are shown unless they are far away."""
    values = [v for v in values if not math.isnan(v)]
    ends = [e for e in ends if not math.isnan(e)]
    most, least = max(values, default=1), min(values, default=0)
    top = max(most, min(max(ends, default=0), BEYOND * most))
    bottom = min(0, least, max(min(ends, default=0), -HARM_LINEAR / 4))
    return Scale("harm", 1.4 * bottom - 0.02, max(1.4 * top, 0.12))


def difference(name: str, values: Iterable[float], ends: Iterable[float] = ()) -> Scale:
    """Around all values and 0; ends of intervals are cut where they go far beyond them."""
    most = max([10.0, *(abs(v) for v in values if not math.isnan(v))])
    far = max([0.0, *(abs(e) for e in ends if not math.isnan(e))])
    most = min(100, 1.1 * max(most, min(far, 1.5 * most)))
    return Scale(name, -most, most)


def of(name: str, values: Sequence[float], ends: Sequence[float]) -> Scale:
    """The scale of a measure."""
    return harm(values, ends) if name == "harm" else percent(name, [*values, *ends])


def bars(
    panel: Axes,
    points: pd.DataFrame,
    at: str,
    ends: tuple[str, str],
    which: str,
    scale: Scale,
    **look: Any,
) -> None:
    """Thin bars along an axis of this scale; where one leaves the panel, an arrow says so.

    Parameters
    ----------
    panel
        Where to draw.
    points
        One row per bar.
    at
        The column of places on the other axis.
    ends
        The columns of the bar's ends.
    which
        The axis along which bars lie.
    scale
        Of that axis.
    look
        Colour and the like.
    """
    points = points.dropna(subset=list(ends))
    places = points[at].to_numpy()
    lows, highs = (points[end].clip(*scale.bounds) for end in ends)
    look = {"linewidth": 1.1, "alpha": 0.45, "zorder": 2} | look
    along = panel.vlines if which == "y" else panel.hlines
    along(places, lows.clip(lower=scale.low), highs.clip(upper=scale.high), **look)
    for beyond, edge, mark in (
        (lows < scale.low, scale.low, "v" if which == "y" else "<"),
        (highs > scale.high, scale.high, "^" if which == "y" else ">"),
    ):
        there = places[beyond.to_numpy()]
        if len(there):
            edges = [edge] * len(there)
            xy = (there, edges) if which == "y" else (edges, there)
            arrow = {"color": look["color"], "markersize": 3.5, "linestyle": "", "zorder": 3}
            panel.plot(*xy, marker=mark, clip_on=False, label=BEYOND_EDGE, **arrow)


def value_axis(panel: Axes, values: Sequence[float]) -> None:
    """The x axis of a setting: a tick at each value that has room, logarithmic over a decade."""
    ticks = sorted(set(values))
    positive, places = [tick for tick in ticks if tick > 0], ticks
    if positive and positive[-1] / positive[0] >= 8:
        least = positive[0]
        log = "log" if ticks[0] > 0 else "symlog"
        panel.set_xscale(log, **({} if log == "log" else {"linthresh": least, "linscale": 0.7}))
        places = [math.log10(tick / least) if tick > 0 else -0.7 for tick in ticks]
    ticks = _apart(ticks, places)
    panel.set_xticks(ticks, list(map(short, ticks)))
    panel.xaxis.set_minor_locator(_none())
    if len(ticks) > 6 or max(map(len, map(short, ticks))) > 4:
        panel.tick_params(axis="x", labelrotation=45)


def _apart(ticks: Sequence[float], places: Sequence[float]) -> list[float]:
    """The last tick, and of the others those that are not too near to the next one shown."""
    least, kept = (places[-1] - places[0]) / 8, [len(ticks) - 1]
    for at in range(len(ticks) - 2, -1, -1):
        if places[kept[-1]] - places[at] > least:
            kept.append(at)
    return [ticks[at] for at in reversed(kept)]


def short(value: float) -> str:
    """A number in few letters: ``1e-5``."""
    plain = f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    by_power = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return plain if len(plain) <= 5 and "e" not in plain else min(plain, by_power, key=len)


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
