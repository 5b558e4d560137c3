"""What is left of the edits along a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smedit.report.figures import Drawing, Drawn, Row, figure
from smedit.report.figures.captions import caption
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.lines import lines
from smedit.report.figures.pairs import JOINED, two_dots
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.vary import LINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def streams(rows: Sequence[Row]) -> list[str]:
    """For edits in sequence that are measured on the way."""
    measured = (r for r in rows if r["protocol"] == "sequential")
    return [""] if any(min(r["points"], r["n_batches"]) > 1 for r in measured) else []


@figure("What is left of the edits along a stream, in {measures}?", streams)
def retention(drawing: Drawing) -> Drawn:
    """Scores of all requests edited so far, and harm, over the number of edits."""
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table[table.protocol == "sequential"]
    table = table.assign(x=table.batches * table.n_edits)
    points = means(table[table.stage > 0], ["place", "line", "name", "x"])
    if points.empty:
        raise CannotDrawError("no stream got to its first point")
    # Before editing, scores are over all requests, not over those that were edited by then.
    before = means(table[table.stage == 0], ["place", "name"])
    ticks = sorted(set(points.x))

    def axis(panel: Axes, _: str) -> None:
        panel.set_xlim(0, 1.05 * ticks[-1])
        panel.set_xticks([0, *ticks][:: -(-len(ticks) // 6)])

    methods, label = method_of(table), "requests edited"
    what = "All requests edited so far; the unedited model's level is over all of the stream's."
    if len(ticks) < LINE:
        marked = points.rename(columns={"x": "mark"})
        picture = two_dots(marked, before, list(methods), drawing.measures, label)
        return Drawn(picture, caption(what, points, fixed, JOINED))
    picture = lines(points, before, methods, drawing.measures, axis, label)
    what += " A line that ends early diverged there."
    return Drawn(picture, caption(what, points, fixed))
