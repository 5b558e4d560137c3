"""Scores and harm over one setting: sizes, strengths, steps."""

from __future__ import annotations

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.report.figures import Drawing, Drawn, figure
from smedit.report.figures.captions import caption
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.lines import DIVERGED, lines, with_lost
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.scales import value_axis
from smedit.report.figures.vary import curves_of


@figure("How do {measures} depend on {setting}?", curves_of)
def curve(drawing: Drawing) -> Drawn:
    """One line per variant over the values of the setting."""
    setting, by = drawing.setting, ["place", "line", "name", "x"]
    label = all_settings()[setting].label
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table.assign(x=pd.to_numeric(table[setting], errors="coerce")).dropna(subset="x")
    found = means(table[table["last"]], by)
    if found.empty:
        raise CannotDrawError(f"no measurement at any {label} was finished")
    before = means(table[table.stage == 0], ["place", "name", "x"])
    points = with_lost(found, table, by)
    values = points.x.tolist()
    picture = lines(
        points,
        before,
        method_of(table),
        drawing.measures,
        lambda panel, _: value_axis(panel, values),
        label,
    )
    what = "After the last step."
    what += f" {DIVERGED}" if points.value.isna().any() else ""
    return Drawn(picture, caption(what, found, fixed))
