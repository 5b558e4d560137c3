"""Variants side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smedit.report.figures import Drawing, Row, figure
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import MEASURES, at_last_values, means, measured, method_of
from smedit.report.figures.style import (
    BARS,
    GREY,
    finish,
    harm_axis,
    panels,
    percent_axis,
    styles,
    title_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def several_variants(rows: Sequence[Row]) -> list[str]:
    """For experiments that have something to compare."""
    return [""] if len({row["variant"] for row in rows}) > 1 else []


@figure("Which variant scores best, and at which harm?", several_variants)
def comparison(drawing: Drawing) -> Figure:
    """One dot per variant, one row of panels per model and dataset; common scales in a column."""
    table, fixed = at_last_values(drawing, measured(drawing))
    points = means(table[table["last"]], ["place", "variant", "name"])
    if points.empty:
        raise CannotDrawError("no measurement was finished")
    before = means(table[table.stage == 0], ["place", "name"])
    looks = styles(method_of(drawing))
    places, order = list(dict.fromkeys(table.place)), list(looks)
    height = 0.55 + 0.2 * len(order)
    sheet = panels(len(places), len(MEASURES), 2.1, height, labels=order, sharey=True)
    for row, place in zip(sheet.axes, places, strict=True):
        for panel, name in zip(row, MEASURES, strict=True):
            here = points[(points.place == place) & (points.name == name)].set_index("variant")
            for value in before[(before.place == place) & (before.name == name)].value:
                panel.axvline(value, color=GREY, linewidth=1, zorder=1)
            for at, label in enumerate(order):
                if label not in here.index:
                    panel.text(
                        0.5,
                        at,
                        "diverged",
                        transform=panel.get_yaxis_transform(),
                        ha="center",
                        va="center",
                        fontsize=7,
                        color=GREY,
                    )
                    continue
                point, style = here.loc[label], looks[label]
                panel.hlines(at, point.low, point.high, color=style["color"], linewidth=1)
                panel.plot(point.value, at, **style)
            harm_axis(panel, "x") if name == "harm" else percent_axis(panel, "x")
            panel.set_yticks(range(len(order)), order)
            panel.set_ylim(len(order) - 0.5, -0.5)
    title_rows(sheet.axes, places, MEASURES)
    caption = f"After the last step, mean over seeds. {BARS} Grey: the unedited model."
    caption += f" With {', '.join(fixed)}." if fixed else ""
    return finish(sheet, [], caption)
