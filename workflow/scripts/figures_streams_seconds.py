"""The figure of seconds per edit of a stream, and of the training before it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures_data import (
    StreamTables,
    cells_of,
    largest,
    of_pair,
    over_seeds,
    pairs,
    rows_of,
)
from figures_panels import seeds
from figures_streams_panels import plain_ticks, stream_size
from figures_style import Style, finish, panels, variant_styles
from figures_times import PHASES
from smedit.errors import UserError


def stream_seconds(tables: StreamTables) -> Figure:
    """Seconds of training by phase beside seconds of editing (experiment ``comparison``)."""
    cells = largest(cells_of(tables, "comparison"), "n_edits", "n_sequences")
    timings = tables.timings.merge(cells)  # a stream that diverged at once has no times
    scores = rows_of(tables.scores, cells, "sequential")
    training = timings[timings.per == "training batch"]
    training = training.assign(seconds=training.seconds / training.n_edits)
    editing = timings[timings.per == "edit"]
    unknown = sorted(set(training.phase) - set(PHASES))
    if unknown:
        raise UserError(
            f"sequential_timings.csv: unknown phase {unknown[0]!r} of a training batch; figure "
            f"stream_seconds knows {', '.join(PHASES)}"
        )
    labels = set(scores.label)
    styles = {k: style for k, style in variant_styles(tables.scores).items() if k in labels}
    untrained = set(scores[scores.train_sequences * scores.passes == 0].label)
    rows, height = pairs(scores), 0.6 + 0.19 * len(styles)
    figure, axes = panels(len(rows), 2, width=11, row_height=height, sharex="col", sharey=True)
    for (left, right), pair in zip(axes, rows, strict=True):
        _stack(left, of_pair(training, pair), list(styles), untrained)
        _dots(right, of_pair(editing, pair), styles)
        left.set_ylabel("\n".join(pair), labelpad=8)
    axes[0, 0].set_yticks(range(len(styles)), styles)
    axes[0, 0].set_ylim(len(styles) - 0.4, -0.6)
    axes[0, 0].set_xlim(0, 1.35 * axes[0, 0].get_xlim()[1])
    axes[0, 1].set_xscale("log")
    axes[0, 1].set_xlim(right=1.6 * axes[0, 1].get_xlim()[1])  # room for the numbers
    plain_ticks(axes[0, 1].xaxis)
    for panel, work in zip(axes[0], ("training", "editing"), strict=True):
        panel.set_title(work)
    axes[-1, 0].set_xlabel("seconds per request and pass")
    axes[-1, 1].set_xlabel("seconds per edit")
    entries = [
        Patch(facecolor=color, edgecolor="0.2", hatch=hatch, label=phase)
        for phase, (color, hatch) in PHASES.items()
    ]
    return finish(figure, entries, _caption(scores))


def _stack(panel: Axes, timings: pd.DataFrame, names: list[str], untrained: set[str]) -> None:
    """Bars of the phases, with their sum and the share of the locality loss in it."""
    table = over_seeds(timings, ["label", "phase"], ["seconds"]).pivot(
        index="label", columns="phase", values="seconds"
    )
    table = table.reindex(index=names, columns=list(PHASES)).fillna(0.0)
    base = pd.Series(0.0, index=names)
    for phase, (color, hatch) in PHASES.items():
        panel.barh(
            range(len(names)),
            table[phase],
            left=base,
            height=0.66,
            color=color,
            hatch=hatch,
            edgecolor="0.2",
            linewidth=0.5,
        )
        base = base + table[phase]
    for place, name in enumerate(names):
        total = base[name]
        text = "no training" if name in untrained else "diverged"
        if total:
            text = f"{total:.2g} s, {100 * table.loc[name, 'locality loss'] / total:.0f} %"
        _beside(panel, text, total, place)
    panel.grid(visible=False, axis="y")


def _dots(panel: Axes, timings: pd.DataFrame, styles: dict[str, Style]) -> None:
    points = over_seeds(timings, ["label"], ["seconds"]).set_index("label").seconds
    for place, (name, style) in enumerate(styles.items()):
        if name in points:
            panel.plot(points[name], place, **style.options())
            _beside(panel, f"{points[name]:.2g} s", points[name], place)


def _beside(panel: Axes, text: str, x: float, place: int) -> None:
    panel.annotate(text, (x, place), (6, 0), textcoords="offset points", va="center", fontsize=8)


def _caption(rows: pd.DataFrame) -> str:
    return (
        f"Wall-clock seconds, {seeds(rows)}, no error bars. {stream_size(rows)} "
        f"Left, by phase: one request in one pass of training, mean over all training batches; "
        f"beside each bar the sum, and the share of the locality loss in it. SMEdit and SMEdit, "
        f"KL differ in the locality loss only: the norm needs no forward pass. RLEdit's losses "
        f"look back on earlier batches. MEND and MALMEN are trained as for batch editing. Right: "
        f"one edit, mean over all of the stream, on a logarithmic axis. What the frozen blocks "
        f"compute was stored before and is not in these times."
    )
