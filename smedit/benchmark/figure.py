"""The table of a benchmark → a figure for each of its parts, with a caption. No torch."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from smedit.benchmark.table import COLUMNS, PATHS, labelled
from smedit.errors import UserError, counted, with_status
from smedit.report.figures.scales import value_axis
from smedit.report.figures.style import COLORS, GREY, HATCHES, TEXT, Style, save, styles, theme
from smedit.report.metrics import PHASES as STEP_PHASES
from smedit.store.files import replacing

PHASES = {
    "training batch": ["trace", "shift", "edit loss", "locality loss", "hypernetwork update"],
    "edit and score": ["edit", "score"],
}
"""Piece of work → its phases, in the order in which they run."""

NAMES = {"n_edits": "number of edits", "bp_steps": "backpropagation steps"}

LOCALITY = {"kl": "KL", "norm": "norm"}

MARKERS = {"plain": ("white", "plain path"), "fast": ("0.2", "fast path")}
"""Path → face of its marker, name."""

ALONE = "Peak memory is that of a process that did nothing else, weights and libraries included."


def read_table(path: Path) -> pd.DataFrame:
    """Read ``results/benchmark.csv``, with a column ``label`` for the variant's name.

    Raises
    ------
    UserError
        If it cannot be read, or is another table.
    """
    try:
        table = pd.read_csv(path)
        return labelled(table[COLUMNS])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a benchmark's table ({error}); measure again") from error


def paths(table: pd.DataFrame) -> tuple[Figure, str]:
    """What the fast path saves: plain against fast by phase, saving by saving, and in memory."""
    compared = table[table.label.astype(bool)]
    looks = styles(dict(zip(compared.label, compared.method, strict=True)))
    labels = list(looks)
    figure, axes = _panels(len(labels) + 2)
    for panel, label in zip(axes, labels, strict=False):
        _phases(panel, compared[compared.label == label], compared, label)
        panel.tick_params(labelleft=panel is axes[0])
    _savings(axes[-2], table, looks)
    _memory(axes[-1], table, labels)
    entries = [
        Line2D([], [], color="0.2", marker="o", linestyle="", markerfacecolor=face, label=name)
        for face, name in MARKERS.values()
    ]
    _legend(figure, [*entries, *(Line2D([], [], label=n, **look) for n, look in looks.items())])
    runs = int(table[table.path == "plain"].n.max())
    return figure, (
        f"{table.model.iloc[0]}, {int(table.n_edits.max())} edits: wall-clock seconds of one "
        f"training batch, and of editing and scoring one batch, by phase (diamonds: sums). Medians "
        f"of {runs} repetitions in turns, thin lines from the smallest to the largest; × is the "
        f"median of plain ÷ fast within a repetition. The plain path runs the whole model for "
        f"every minibatch; the fast path's frozen part was stored before. Saving by saving: each "
        f"is added to those left of it, and those in between ran once. {ALONE}"
    )


def growth(table: pd.DataFrame) -> tuple[Figure, str]:
    """How seconds and memory grow with the number of edits, or of steps."""
    (part,) = table.part.unique()
    looks = styles({name: name for name in table.method})
    figure, (time, memory) = _panels(2)
    for panel, quantity in ((time, "seconds"), (memory, "peak_memory_mb")):
        points = _totals(table, quantity)
        slopes = _totals(table, f"slope_of_{quantity}")
        notes: list[str] = []
        for (method, locality), mine in points.groupby(["method", "locality"], sort=False):
            panel.plot(mine[part], mine.value, **looks[method])
            slope = slopes[(slopes.method == method) & (slopes.locality == locality)].iloc[0]
            notes.append(f"slope {slope.value:.2f} ± {slope.high - slope.value:.2f}")
        panel.annotate("\n".join(notes), (0.04, 0.96), xycoords="axes fraction", va="top")
        value_axis(panel, points[part].tolist())
        panel.set_xlabel(NAMES[part])
    _log_seconds(time)
    time.set_ylabel("seconds of a training batch")
    memory.set_ylim(0, memory.get_ylim()[1] * 1.15)
    memory.set_ylabel("peak memory (MB)")
    _legend(figure, [Line2D([], [], label=name, **look) for name, look in looks.items()])
    return figure, (
        f"{table.model.iloc[0]}, one training batch on the fast path; medians of "
        f"{counted(int(_totals(table, 'seconds').n.max()), 'repetition')}. Slopes of log value "
        f"against log count, ± one standard error. {ALONE}"
    )


def locality(table: pd.DataFrame) -> tuple[Figure, str]:
    """KL against norm: seconds of a training batch by phase, and memory, per model."""
    models = list(table.model.unique())
    names = PHASES["training batch"]
    looks: dict[str, dict[str, Any]] = {
        phase: {"facecolor": COLORS[number], "hatch": HATCHES[number], "edgecolor": "white"}
        for number, phase in enumerate(names)
    }
    figure, axes = _panels(len(models) + 1, wide=1.25)
    seconds = table[table.quantity == "seconds"]
    totals = _totals(table, "seconds")
    for panel, model in zip(axes, models, strict=False):
        mine = seconds[seconds.model == model].set_index(["n_edits", "locality", "phase"]).value
        bars = [(n, kind) for n in sorted(set(table.n_edits)) for kind in LOCALITY]
        for y, (n, kind) in enumerate(bars):
            left = 0.0
            for phase in names:
                width = mine.get((n, kind, phase), 0.0)
                panel.barh(y, width, left=left, height=0.75, linewidth=0.4, **looks[phase])
                left += width
        panel.set_yticks(range(len(bars)), [f"{n:.0f} edits, {LOCALITY[kind]}" for n, kind in bars])
        panel.tick_params(labelleft=panel is axes[0])
        panel.invert_yaxis()
        panel.set_xlim(0, totals.value.max() * 1.1)
        panel.set_xlabel("seconds of a training batch")
        panel.set_title(model)
    memory = _totals(table, "peak_memory_mb")
    marks: list[Any] = []
    for place, model in enumerate(models):
        for kind, face in (("kl", "white"), ("norm", "0.2")):
            mine = memory[(memory.model == model) & (memory.locality == kind)]
            look: Style = {"color": "0.2", "marker": "osD^"[place % 4], "markerfacecolor": face}
            axes[-1].plot(mine.n_edits, mine.value, linestyle="-" if place else "--", **look)
            marks.append(Line2D([], [], label=f"{model}, {LOCALITY[kind]}", linestyle="", **look))
    value_axis(axes[-1], memory.n_edits.tolist())
    axes[-1].set_ylim(0, memory.value.max() * 1.15)
    axes[-1].set_xlabel(NAMES["n_edits"])
    axes[-1].set_ylabel("peak memory (MB)")
    patches = [Patch(label=STEP_PHASES.get(phase, phase), **look) for phase, look in looks.items()]
    _legend(figure, patches)
    axes[-1].legend(handles=marks, loc="lower right", fontsize=TEXT)
    return figure, (
        "SMEdit trained with KL and with the norm on random weights of these architectures, one "
        "training batch on the fast path, which stores KL's reference before. Each phase is the "
        f"median of {int(totals.n.max())}. {ALONE}"
    )


def in_sequence(table: pd.DataFrame) -> tuple[Figure, str]:
    """Seconds of training per request by variant, and each against the first."""
    figure, axes = _panels(2)
    names = list(table.label.unique())
    for panel, quantity in zip(axes, ("seconds", "ratio"), strict=True):
        points = table[table.quantity == quantity]
        for place, (model, mine) in enumerate(points.groupby("model", sort=False)):
            x, color = [i + 0.2 * place for i in range(len(mine))], COLORS[place % len(COLORS)]
            panel.vlines(x, mine.low, mine.high, color=color, linewidth=0.9)
            panel.plot(x, mine.value, "osD^"[place % 4], color=color, markersize=5, label=model)
        panel.set_xticks(range(len(names)), names, rotation=25, ha="right")
    _log_seconds(axes[0])
    axes[0].set_ylabel("seconds per request")
    axes[1].set_ylim(bottom=0)
    axes[1].set_ylabel(f"÷ {names[0]}")
    _legend(figure, axes[0].get_legend_handles_labels()[0])
    return figure, (
        "Training in sequence: one pass over a stream on the fast path, medians of "
        f"{int(table.n.max())} repetitions in turns, lines from the smallest to the largest; on "
        "the right, the ratios within a repetition."
    )


FIGURES: Mapping[str, Callable[[pd.DataFrame], tuple[Figure, str]]] = {
    "paths": paths,
    "n_edits": growth,
    "bp_steps": growth,
    "locality": locality,
    "in_sequence": in_sequence,
}
"""Part of a benchmark → its figure and its caption."""


def _panels(number: int, wide: float = 1.0) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(3.1 * wide * number + 0.9, 3.4), layout="constrained")
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def _legend(figure: Figure, entries: Sequence[Any]) -> None:
    columns = max(2, int(figure.get_figwidth() / 1.9))
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": columns}
    figure.legend(handles=entries, frameon=False, fontsize=TEXT, **place)


def _totals(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return rows[(rows.quantity == quantity) & (rows.phase == "total")]


def _phases(panel: Axes, rows: pd.DataFrame, compared: pd.DataFrame, label: str) -> None:
    """Seconds of each phase and each piece, plain and fast, joined by a line."""
    places = [(piece, phase) for piece, names in PHASES.items() for phase in [*names, "total"]]
    seconds = rows[rows.quantity == "seconds"].set_index(["path", "piece", "phase"])
    for y, (piece, phase) in enumerate(places):
        both = [seconds.xs((path, piece, phase)) for path in MARKERS]
        panel.hlines(y, both[0].value, both[1].value, color=GREY, linewidth=1.2)
        for point, (face, _) in zip(both, MARKERS.values(), strict=True):
            panel.hlines(y, point.low, point.high, color="0.2", linewidth=0.7)
            marker = "D" if phase == "total" else "o"
            panel.plot(point.value, y, marker, color="0.2", markerfacecolor=face, markersize=5)
        if phase == "total":
            ratio = _totals(rows[(rows.path == "fast") & (rows.piece == piece)], "speedup").value
            panel.annotate(
                f"{ratio.iloc[0]:.1f}×",
                (both[0].high, y),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    panel.set_yticks(
        range(len(places)), [piece if phase == "total" else phase for piece, phase in places]
    )
    for tick, (_, phase) in zip(panel.get_yticklabels(), places, strict=True):
        tick.set_fontweight("bold" if phase == "total" else "normal")
    panel.invert_yaxis()
    panel.set_xscale("log")
    shown = compared[(compared.quantity == "seconds") & (compared.value > 0)]
    panel.set_xlim(shown.low[shown.low > 0].min() / 1.5, shown.high.max() * 5)
    panel.set_xlabel("seconds")
    panel.set_title(label)


def _savings(panel: Axes, rows: pd.DataFrame, looks: Mapping[Any, Style]) -> None:
    """Seconds of a training batch, as one saving after another is added."""
    rows = _totals(rows[rows.piece == "training batch"], "seconds")
    names = [path for path in PATHS if path in set(rows.path)]
    for label, mine in rows.groupby("label", sort=False):
        if len(mine) == len(names):
            values = mine.set_index("path").value[names]
            panel.plot(range(len(names)), values, **looks[label])
    panel.set_xticks(range(len(names)), names, rotation=25, ha="right")
    _log_seconds(panel)
    panel.set_ylabel("seconds")
    panel.set_title("training batch, saving by saving")


def _memory(panel: Axes, rows: pd.DataFrame, labels: Sequence[str]) -> None:
    """Peak memory of both paths by variant."""
    memory = _totals(rows, "peak_memory_mb").set_index(["label", "path"]).value
    for x, label in enumerate(labels):
        both = [memory[label, path] for path in MARKERS]
        panel.vlines(x, *both, color=GREY, linewidth=1.2)
        for value, (face, _) in zip(both, MARKERS.values(), strict=True):
            panel.plot(x, value, "o", color="0.2", markerfacecolor=face, markersize=5)
    panel.set_xticks(range(len(labels)), [name.replace(" + ", "\n+ ") for name in labels])
    panel.set_xlim(-0.5, len(labels) - 0.5)
    panel.set_ylim(0, memory.max() * 1.1)
    panel.set_ylabel("peak memory (MB)")


def _log_seconds(axes: Axes) -> None:
    """A logarithmic y axis in seconds, with plain numbers; linear if there is nothing to show."""
    if math.isinf(axes.dataLim.minposy):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


@with_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure that the command line asks for, and write its caption."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="what `job benchmark` wrote")
    parser.add_argument("--part", choices=FIGURES, required=True, help="of the benchmark")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="PNG and SVG to write")
    parser.add_argument("--caption", type=Path, required=True, help="text to write")
    options = parser.parse_args(arguments)
    table = read_table(options.table)
    mine = table[table.part == options.part]
    if mine.empty:
        raise UserError(f"{options.table}: has no part {options.part}; measure it, or name another")
    with theme():
        figure, caption = FIGURES[options.part](mine)
        for path in options.out:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(figure, path)
    first = mine.iloc[0]
    place = f"{first.device}, {first.precision}, {first.threads} threads."
    with replacing(options.caption) as part:
        part.write_text(f"{caption} Device: {place}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
