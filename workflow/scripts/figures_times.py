"""The figure of seconds per phase of a training step."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures_data import Tables, cells_of, count, largest, of_pair, over_seeds, pairs, rows_of
from figures_panels import WHY, seeds
from figures_style import PALETTE, finish, panels
from smedit.errors import UserError
from smedit.plan.grid import CELL_COLUMNS

PHASES = {
    "trace": (PALETTE[9], ""),
    "shift": (PALETTE[5], "...."),
    "edit loss": (PALETTE[7], "////"),
    "locality loss": (PALETTE[3], "xxxx"),
    "hypernetwork update": (PALETTE[4], "----"),
}
"""Phase → colour and hatch, in the order in which a training step runs them."""

COMPARED = ("MEND", "MALMEN", "SMEdit, KL", "SMEdit")
"""The last two differ in the locality loss only."""


def step_time(tables: Tables) -> Figure:
    """Seconds of a training step by phase: KL against norm (experiment ``data_size``)."""
    cells = largest(cells_of(tables, "data_size"), "train_batches")
    scores = rows_of(tables.scores, cells, "scores")
    scores = scores[scores.label.isin(COMPARED)]
    timings = rows_of(tables.timings, cells, "timings")
    timings = timings[(timings.per == "training step") & timings.label.isin(COMPARED)]
    unknown = sorted(set(timings.phase) - set(PHASES))
    if unknown or scores.empty:
        what = f"unknown phase {unknown[0]!r}" if unknown else f"none of {', '.join(COMPARED)}"
        raise UserError(
            f"timings.csv: {what} among the training steps of the experiment data_size; figure "
            f"step_time knows the phases {', '.join(PHASES)}"
        )
    names = [name for name in COMPARED if name in set(scores.label)]
    sizes = sorted(scores.n_edits.unique())
    rows, width = len(pairs(scores)), min(14.0, 3.9 * len(sizes) + 0.5)
    figure, axes = panels(rows, len(sizes), width=width, row_height=2.5, sharey="row")
    for row, pair in zip(axes, pairs(scores), strict=True):
        mine = of_pair(timings, pair)
        for panel, size in zip(row, sizes, strict=True):
            _stack(panel, mine[mine.n_edits == size], names)
        row[0].set_ylabel(f"{pair[0]}\n{pair[1]}\n\ntime of a training step (s)")
    for panel, size in zip(axes[0], sizes, strict=True):
        panel.set_title(f"{size} edits")
    entries = [
        Patch(facecolor=color, edgecolor="0.2", hatch=hatch, label=phase)
        for phase, (color, hatch) in PHASES.items()
    ]
    trained = timings[CELL_COLUMNS].drop_duplicates()
    lacking = len(trained) < len(scores[CELL_COLUMNS].drop_duplicates())
    return finish(
        figure,
        entries,
        _caption(timings) + (f" Diverged: training ended, {WHY}" if lacking else ""),
    )


def _stack(panel: Axes, timings: pd.DataFrame, names: list[str]) -> None:
    table = over_seeds(timings, ["label", "phase"], ["seconds"]).pivot(
        index="label", columns="phase", values="seconds"
    )
    table = table.reindex(index=names, columns=list(PHASES)).fillna(0.0)
    base = pd.Series(0.0, index=names)
    for phase, (color, hatch) in PHASES.items():
        panel.bar(
            range(len(names)),
            table[phase],
            bottom=base,
            width=0.62,
            color=color,
            hatch=hatch,
            edgecolor="0.2",
            linewidth=0.5,
        )
        base = base + table[phase]
    for place, name in enumerate(names):
        total = base[name]
        text = "diverged"
        if total:
            share = 100 * table.loc[name, "locality loss"] / total
            text = f"{total:{'.3g' if total < 1000 else '.0f'}} s\n{share:.1f} %"
        panel.annotate(
            text,
            (place, total),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    panel.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
    panel.set_xlim(-0.6, len(names) - 0.4)
    panel.grid(visible=False, axis="x")
    panel.set_ylim(0, max(panel.get_ylim()[1], base.max() * 1.3))


def _caption(timings: pd.DataFrame) -> str:
    if timings.empty:
        return "Seconds of one training step by phase: no training came to its end."
    steps = f"{count(timings.n, 'step', 'steps')} ({seeds(timings)}; no error bars)"
    return (
        f"Wall-clock seconds of one training step by phase, mean over {steps}. Above "
        f"each bar: the sum of the phases, and the share of the locality loss in it. SMEdit and "
        f"SMEdit, KL take two backpropagation steps "
        f"and differ in the locality loss only: the norm needs no forward pass. MEND and MALMEN "
        f"take one step. A batch is traced once and the trace is reused by its second step "
        f"(train_from original), so with two steps the mean holds half a trace. What the frozen "
        f"blocks compute, also KL's reference, was stored before and is not in these times. "
        f"Panels of one row share the vertical axis."
    )
