"""What a second step adds, and the norm in place of KL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smedit.report.figures import Drawing, Row, figure
from smedit.report.figures.comparison import several_variants
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import at_last_values, means
from smedit.report.figures.style import BARS, GREY, finish, panels, styles, title_rows
from smedit.report.metrics import HEADLINE, is_headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def with_pairs(rows: Sequence[Row]) -> list[str]:
    """For experiments where two variants differ in one choice."""
    steps = {(row["method"], row["locality"], row["bp_steps"]) for row in rows}
    second = any(s == 2 and (m, loc, 1) in steps for m, loc, s in steps)
    norm = any(loc == "norm" and (m, "kl", s) in steps for m, loc, s in steps)
    return several_variants(rows) if second or norm else []


@figure("What do a second step, and the norm in place of KL, gain?", with_pairs)
def gains(drawing: Drawing) -> Figure:
    """Differences in points, paired by request: one dot per pair of variants."""
    table = drawing.tables["gains"]
    parts = [
        table[
            [is_headline(name, m, s) for m, s in zip(table.metric, table.score, strict=True)]
        ].assign(name=name)
        for name in HEADLINE
    ]
    import pandas as pd

    found = pd.concat(parts) if len(table) else table
    if found.empty:
        raise CannotDrawError("no two variants differ in one choice alone")
    found = found.assign(
        value=found.gain,
        place=found.model + "\n" + found.dataset,
        pair=found.variant + ": " + found.gain_of,
    )
    found, fixed = at_last_values(drawing, found)
    points = means(found, ["place", "pair", "method", "name"])
    order = list(dict.fromkeys(points.pair))
    looks = styles(dict(zip(points.pair, points.method, strict=True)))
    places = list(dict.fromkeys(points.place))
    sheet = panels(
        len(places),
        len(HEADLINE),
        2.3,
        0.55 + 0.2 * len(order),
        labels=order,
        sharey=True,
        sharex=True,
    )
    for row, place in zip(sheet.axes, places, strict=True):
        for panel, name in zip(row, HEADLINE, strict=True):
            here = points[(points.place == place) & (points.name == name)].set_index("pair")
            panel.axvline(0, color=GREY, linewidth=1, zorder=1)
            for at, label in enumerate(order):
                if label in here.index:
                    point, style = here.loc[label], looks[label]
                    panel.hlines(at, point.low, point.high, color=style["color"], linewidth=1)
                    panel.plot(point.value, at, **style)
            panel.set_yticks(range(len(order)), order)
            panel.set_ylim(len(order) - 0.5, -0.5)
    title_rows(sheet.axes, places, HEADLINE)
    for panel in sheet.axes[-1]:
        panel.set_xlabel("percentage points gained")
    caption = f"The same requests edited with and without it, mean over seeds. {BARS}"
    caption += f" With {', '.join(fixed)}." if fixed else ""
    return finish(sheet, [], caption)
