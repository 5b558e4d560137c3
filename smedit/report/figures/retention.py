"""What is left of the edits along a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smedit.report.figures import Drawing, Row, figure
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
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def streams(rows: Sequence[Row]) -> list[str]:
    """For edits in sequence that are measured on the way."""
    measured = (r for r in rows if r["protocol"] == "sequential")
    return [""] if any(r["points"] > 1 and r["n_batches"] > 1 for r in measured) else []


@figure("What is left of the edits along a stream?", streams)
def retention(drawing: Drawing) -> Figure:
    """Scores of all requests edited so far, and harm, over the number of edits."""
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table[(table.protocol == "sequential") & (table.stage > 0)]
    if table.empty:
        raise CannotDrawError("no stream got to its first point")
    table = table.assign(edits=table.batches * table.n_edits)
    points = means(table, ["place", "line", "name", "edits"])
    looks = styles({k: v for k, v in method_of(drawing).items() if k in set(points.line)})
    groups = families(drawing, list(looks))
    places = [(place, group) for place in dict.fromkeys(points.place) for group in groups]
    sheet = panels(len(places), len(MEASURES), 2.1, 1.9, sharex=True)
    for row, (place, group) in zip(sheet.axes, places, strict=True):
        for panel, name in zip(row, MEASURES, strict=True):
            here = points[(points.place == place) & (points.name == name)]
            for label in group:
                line = here[here.line == label].sort_values("edits")
                color = looks[label]["color"]
                panel.plot(line.edits, line.value, **looks[label])
                panel.vlines(line.edits, line.low, line.high, color=color, linewidth=0.7, alpha=0.7)
            if name == "harm":
                panel.axhline(0, color=GREY, linewidth=1, zorder=1)
            harm_axis(panel) if name == "harm" else percent_axis(panel)
            panel.set_xlim(left=0)
    title_rows(sheet.axes, [place for place, _ in places], MEASURES)
    for panel in sheet.axes[-1]:
        panel.set_xlabel("requests edited")
    caption = f"All requests edited so far, mean over seeds. {BARS} A line that ends early "
    caption += "diverged there."
    caption += f" With {', '.join(fixed)}." if fixed else ""
    return finish(sheet, legend(looks, unedited=False), caption)
