"""Where the time of a training step goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smedit.report.figures import Drawing, Row, figure
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import at_last_values
from smedit.report.figures.style import COLORS, finish, panels
from smedit.report.metrics import PHASES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def trained_variants(rows: Sequence[Row]) -> list[str]:
    """For experiments that train several variants."""
    trained = {row["variant"] for row in rows if row["training"] != "none" and row["train_batches"]}
    return [""] if len(trained) > 1 else []


@figure("Where does the time of a training step go?", trained_variants)
def phases(drawing: Drawing) -> Figure:
    """Seconds by phase, stacked; one bar per variant, one panel per model and dataset."""
    table = drawing.tables["timings"]
    table = table[(table.per == "training step") & table.phase.isin(PHASES)]
    table, fixed = at_last_values(drawing, table)
    if table.empty:
        raise CannotDrawError("nothing was trained")
    table = table.assign(place=table.model + "\n" + table.dataset)
    seconds = table.groupby(["place", "variant", "phase"], sort=False).seconds.mean()
    order = [
        v for v in dict.fromkeys(r["variant"] for r in drawing.rows) if v in set(table.variant)
    ]
    places = list(dict.fromkeys(table.place))
    sheet = panels(1, len(places), 3.0, 0.7 + 0.24 * len(order), labels=order, sharey=True)
    entries = []
    for panel, place in zip(sheet.axes[0], places, strict=True):
        start = dict.fromkeys(order, 0.0)
        for number, (phase, label) in enumerate(PHASES.items()):
            widths = [seconds.get((place, variant, phase), 0.0) for variant in order]
            bars = panel.barh(
                range(len(order)),
                widths,
                left=list(start.values()),
                height=0.7,
                color=COLORS[number],
                label=label,
                edgecolor="white",
                linewidth=0.5,
            )
            start = {v: s + w for (v, s), w in zip(start.items(), widths, strict=True)}
            if panel is sheet.axes[0, 0]:
                entries.append(bars)
        panel.set_title(place.replace("\n", ", "), fontsize=9)
        panel.set_xlabel("seconds per training step")
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(len(order) - 0.5, -0.5)
    caption = "Means over all training steps of a run, and over seeds; other jobs may have run on "
    caption += "the machine. In sequence, a step is a batch with all its backpropagation steps."
    caption += f" With {', '.join(fixed)}." if fixed else ""
    return finish(sheet, entries, caption)
