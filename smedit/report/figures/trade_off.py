"""A score against harm: what each variant can reach at which price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.report.figures import Drawing, Row, axes_of, figure
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import at_last_values, families, means, measured, method_of
from smedit.report.figures.style import (
    GREY,
    finish,
    harm_axis,
    legend,
    panels,
    percent_axis,
    styles,
    title_rows,
)
from smedit.report.metrics import HEADLINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def strengths(rows: Sequence[Row]) -> list[str]:
    """For settings of strength that vary within a variant."""
    return [name for name in axes_of(rows) if all_settings()[name].searched]


@figure("Which score does a variant reach at which harm, over {}?", strengths)
def trade_off(drawing: Drawing) -> Figure:
    """Each variant is a line through its values of the setting, from the least to the largest."""
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table[table["last"]]
    table = table.assign(x=pd.to_numeric(table[drawing.setting], errors="coerce"))
    points = means(table.dropna(subset="x"), ["place", "line", "name", "x"])
    if points.empty:
        raise CannotDrawError("no measurement was finished")
    wide = points.pivot(index=["place", "line", "x"], columns="name", values="value").reset_index()
    looks = styles({k: v for k, v in method_of(drawing).items() if k in set(points.line)})
    groups = families(drawing, list(looks))
    places = [(place, group) for place in dict.fromkeys(points.place) for group in groups]
    sheet = panels(len(places), len(HEADLINE), 2.5, 2.2, sharex=True)
    for row, (place, group) in zip(sheet.axes, places, strict=True):
        for panel, name in zip(row, HEADLINE, strict=True):
            panel.axvline(0, color=GREY, linewidth=1, zorder=1)
            for label in group:
                line = wide[(wide.place == place) & (wide.line == label)].sort_values("x")
                if name in line:
                    panel.plot(line.harm, line[name], **looks[label])
                    panel.plot(line.harm[:1], line[name][:1], **looks[label] | {"markersize": 8})
            percent_axis(panel)
            harm_axis(panel, "x")
    for panel in sheet.axes[-1]:
        panel.set_xlabel("harm (nats per token)")
    title_rows(sheet.axes, [place for place, _ in places], HEADLINE)
    caption = f"Each line goes through the values of: {all_settings()[drawing.setting].label}; the "
    caption += "large mark is the least of them. Better is up and left. Means over seeds."
    caption += f" With {', '.join(fixed)}." if fixed else ""
    return finish(sheet, legend(looks, unedited=False), caption)
