"""What each further step at edit time does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smedit.report.figures import Drawing, Drawn, Row, figure
from smedit.report.figures.captions import caption
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.lines import lines
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.scales import value_axis
from smedit.report.figures.vary import LINE, line_of, traded

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def with_steps(rows: Sequence[Row]) -> list[str]:
    """For edits in batches of three steps or more at edit time, each of which is scored."""
    steps = [r["edit_steps"] for r in rows if r["protocol"] == "batch" and _by_network(r)]
    return [""] if max(steps, default=0) >= LINE and not traded(rows) else []


def _by_network(row: Row) -> bool:
    return row["shift_rule"] != "fine_tuning"


@figure("What does each further step of an edit do to {measures}?", with_steps)
def stages(drawing: Drawing) -> Drawn:
    """One line per variant over the steps of an edit."""
    table, fixed = at_last_values(drawing, measured(drawing))
    lines_of = {row["variant"]: line_of(row, "edit_steps") for row in drawing.rows}
    table = table.assign(x=table.stage, line=table.variant.map(lines_of))
    points = means(table[table.stage > 0], ["place", "line", "name", "x"])
    if points.empty:
        raise CannotDrawError("no measurement was finished")
    before = means(table[table.stage == 0], ["place", "name"])
    values = [int(x) for x in points.x]

    def axis(panel: Axes, _: str) -> None:
        value_axis(panel, values)
        panel.set_xlim(min(values) - 0.3, max(values) + 0.3)

    picture = lines(
        points, before, method_of(table), drawing.measures, axis, "steps done at edit time"
    )
    return Drawn(picture, caption("Each edit is scored after every step.", points, fixed))
