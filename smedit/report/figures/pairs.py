"""A setting of two values: two dots per variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.report.figures import Drawing, Drawn, figure, scales
from smedit.report.figures.captions import caption
from smedit.report.figures.dots import Dots, dots
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.sheet import entries_of
from smedit.report.figures.style import COLORS
from smedit.report.figures.vary import pairs_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = (
    {"marker": "o", "markerfacecolor": "white"},
    {"marker": "D", "markerfacecolor": COLORS[0]},
)
"""Of the smaller and of the larger value."""

JOINED = "A bar joins the two means of a variant; intervals are in the tables."


@figure("What does another {setting} change in {measures}?", pairs_of)
def pairs(drawing: Drawing) -> Drawn:
    """Two dots per variant, joined by a bar."""
    setting = drawing.setting
    label = all_settings()[setting].label
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table.assign(mark=pd.to_numeric(table[setting], errors="coerce"))
    table = table.dropna(subset="mark")
    points = means(table[table["last"]], ["place", "line", "name", "mark"])
    if points.empty:
        raise CannotDrawError(f"no measurement at any {label} was finished")
    before = means(table[table.stage == 0], ["place", "name"])
    picture = two_dots(points, before, list(method_of(table)), drawing.measures, label)
    return Drawn(picture, caption("After the last step.", points, fixed, JOINED))


def two_dots(
    points: pd.DataFrame,
    before: pd.DataFrame,
    order: Sequence[str],
    measures: Sequence[str],
    label: str,
) -> Figure:
    """Draw points that have a place, a line, a name and a mark, of which there are at most two.

    Parameters
    ----------
    points, before
        Means, and those of the unedited model; see `smedit.report.figures.points.means`.
    order
        The lines, from top to bottom.
    measures
        Names of what is shown.
    label
        What a mark is a value of.
    """
    scale = {}
    for name in measures:
        reference = before[before.name == name]
        scale[name] = scales.of(name, [*points[points.name == name].value, *reference.value], [])
    shared = {"color": COLORS[0], "markeredgecolor": COLORS[0], "linestyle": "", "markersize": 5.5}
    values = sorted(set(points.mark))
    marks = {value: shared | LOOKS[min(at, 1)] for at, value in enumerate(values)}
    return dots(
        Dots(
            points=points,
            order=order,
            bars=False,
            looks={(line, value): look for line in order for value, look in marks.items()},
            scale=scale,
            references={(b.place, b.name): b.value for b in before.itertuples(index=False)},
            entries=entries_of(
                {f"{label} {scales.short(value)}": look for value, look in marks.items()},
                unedited=True,
            ),
        )
    )
