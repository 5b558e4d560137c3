"""Where the time of a training step goes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from smedit.report.figures import Drawing, Drawn, Row, figure
from smedit.report.figures.captions import caption
from smedit.report.figures.dots import LABEL
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import at_last_values, once, places_of
from smedit.report.figures.sheet import LETTER, Block, chunks, sheet
from smedit.report.figures.style import COLORS, HATCHES
from smedit.report.metrics import PHASES


def trained_variants(rows: Sequence[Row]) -> list[str]:
    """For experiments that train several variants."""
    trained = {row["variant"] for row in rows if row["training"] != "none" and row["train_batches"]}
    return [""] if len(trained) > 1 else []


@figure("Where does the time of a training step go?", trained_variants, {"": ("seconds",)})
def phases(drawing: Drawing) -> Drawn:
    """Seconds by phase, stacked; one bar per variant, one panel per model and dataset."""
    from matplotlib.patches import Patch

    table = drawing.tables["timings"]
    table = table[(table.per == "training step") & table.phase.isin(PHASES)]
    table, fixed = at_last_values(drawing, table)
    if table.empty:
        raise CannotDrawError("nothing was trained")
    table = once(table.assign(place=places_of(table)), "variant")
    by = ["place", "variant", "phase"]
    seconds = table.groupby(by, sort=False).seconds.mean()
    seeds = table.groupby(by, sort=False).seed.nunique().rename("seeds")
    order = list(dict.fromkeys(table.variant))
    names = [textwrap.fill(variant, LABEL) for variant in order]
    looks = {
        phase: {"facecolor": COLORS[number], "hatch": HATCHES[number], "edgecolor": "white"}
        for number, phase in enumerate(PHASES)
    }
    entries = [Patch(label=PHASES[phase], **look) for phase, look in looks.items()]
    longest = max(len(part) for name in names for part in name.split("\n"))
    parts = chunks(list(dict.fromkeys(table.place)))
    blocks = [Block(part, entries) for part in parts]
    high = 0.2 + sum(0.24 + 0.13 * name.count("\n") for name in names)
    made = sheet(blocks, ["seconds"], high, 0.3 + LETTER * longest, on_x=True)
    most = seconds.groupby(["place", "variant"]).sum().max()
    for part, panels in zip(parts, made.panels, strict=True):
        for panel, place in zip(panels[0], part, strict=True):
            start = dict.fromkeys(order, 0.0)
            for phase, look in looks.items():
                widths = [seconds.get((place, variant, phase), 0.0) for variant in order]
                left = list(start.values())
                panel.barh(range(len(order)), widths, left=left, height=0.7, linewidth=0.5, **look)
                start = {v: s + w for (v, s), w in zip(start.items(), widths, strict=True)}
            panel.set_xlabel("seconds per training step", fontsize=8)
            panel.set_yticks(range(len(order)), names, fontsize=8)
            panel.set_ylim(len(order) - 0.5, -0.5)
            panel.set_xlim(0, 1.05 * most)
    what = "In sequence, a training step is a batch with all its backpropagation steps. Other jobs "
    what += "may have run on the machine."
    points = seeds.reset_index().assign(requests=0)
    return Drawn(made.figure, caption(what, points, fixed, BARS))


BARS = "A bar's length is the median over the training batches of a run, and the mean over seeds."
