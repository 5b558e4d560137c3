"""Scores and harm over one setting: sizes, strengths, steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.report.figures import Drawing, axes_of, figure
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import (
    MEASURES,
    at_last_values,
    families,
    means,
    measured,
    method_of,
)
from smedit.report.figures.style import (
    BARS,
    GREY,
    finish,
    harm_axis,
    legend,
    panels,
    percent_axis,
    styles,
    title_rows,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@figure("How do scores and harm depend on {}?", axes_of)
def curve(drawing: Drawing) -> Figure:
    """One line per variant; columns are scores and harm, rows models and datasets."""
    setting = drawing.setting
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table.assign(x=pd.to_numeric(table[setting], errors="coerce")).dropna(subset="x")
    points = means(table[table["last"]], ["place", "line", "name", "x"])
    if points.empty:
        raise CannotDrawError(f"no measurement at any {all_settings()[setting].label} was finished")
    before = means(table[table.stage == 0], ["place", "name", "x"])
    looks = styles({k: v for k, v in method_of(drawing).items() if k in set(points.line)})
    groups = families(drawing, list(looks))
    places = [(place, group) for place in dict.fromkeys(points.place) for group in groups]
    sheet = panels(len(places), len(MEASURES), 2.1, 1.9)
    for row, (place, group) in zip(sheet.axes, places, strict=True):
        for panel, name in zip(row, MEASURES, strict=True):
            here = points[(points.place == place) & (points.name == name)]
            ours = before[(before.place == place) & (before.name == name)].sort_values("x")
            panel.plot(ours.x, ours.value, color=GREY, linewidth=1, zorder=1)
            for label in group:
                line = here[here.line == label].sort_values("x")
                panel.plot(line.x, line.value, **looks[label])
                color = looks[label]["color"]
                panel.vlines(line.x, line.low, line.high, color=color, linewidth=0.7, alpha=0.7)
            harm_axis(panel) if name == "harm" else percent_axis(panel)
            value_axis(panel, points.x.tolist())
    for panel in sheet.axes[-1]:
        panel.set_xlabel(all_settings()[setting].label)
    title_rows(sheet.axes, [place for place, _ in places], MEASURES)
    caption = f"After the last step, mean over seeds. {BARS}"
    caption += f" With {', '.join(fixed)}." if fixed else ""
    return finish(sheet, legend(looks, unedited=True), caption)
