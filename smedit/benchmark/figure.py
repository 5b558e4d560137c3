"""The table of a benchmark → its figure, as PNG and SVG. Never imports torch."""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from smedit.benchmark.table import COLUMNS, PATHS, labelled
from smedit.errors import UserError, with_status
from smedit.report.figures.scales import value_axis
from smedit.report.figures.style import COLORS, GREY, TEXT, Style, save, styles, theme

PHASES = {
    "training batch": ["trace", "shift", "edit loss", "locality loss", "hypernetwork update"],
    "edit and score": ["edit", "score"],
}
"""Piece of work → its phases, in the order in which they run."""

PARTS = ("paths", "n_edits", "bp_steps", "locality", "in_sequence")

NAMES = {"n_edits": "number of edits", "bp_steps": "backpropagation steps"}

LOCALITY = {"kl": ("--", False, "KL"), "norm": ("-", True, "norm")}
"""Locality loss → line, whether markers are filled, name."""

MARKERS = {"plain": ("white", "plain path"), "fast": ("0.2", "fast path")}
"""Path → face of its marker, name."""


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


def benchmark(table: pd.DataFrame) -> Figure:
    """Plain against fast path by phase; each saving; growth; KL and norm; streams."""
    parts = [part for part in PARTS if part in set(table.part)]
    compared = table[(table.part == "paths") & table.label.astype(bool)]
    looks = styles(dict(zip(compared.label, compared.method, strict=True)))
    growing = table[table.part.isin(["n_edits", "bp_steps"])]
    methods = styles({name: name for name in growing.method})
    labels = list(looks)
    columns, top = max(len(parts), len(labels)), int(bool(labels))
    size = (max(6.5, 3.5 * columns), (top + 2) * 2.7 + 1.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(top + 2, columns, squeeze=False)
    for panel, label in zip(axes[0], labels, strict=False):
        _phases(panel, compared[compared.label == label], compared, label)
        panel.tick_params(labelleft=panel is axes[0, 0])
    for part, time, memory in zip(parts, axes[top], axes[top + 1], strict=False):
        mine = table[table.part == part]
        if part == "paths":
            _savings(time, mine, looks)
            _memory(memory, mine, labels)
            continue
        if part == "in_sequence":
            _in_sequence(time, memory, mine)
            continue
        for panel, quantity, unit in (
            (time, "seconds", "seconds"),
            (memory, "peak_memory_mb", "peak memory (MB)"),
        ):
            if part == "locality":
                _locality(panel, _totals(mine, quantity))
            else:
                _growth(panel, mine, part, quantity, methods)
            panel.set_ylabel(unit)
        _log_seconds(time)
        memory.set_ylim(0, memory.get_ylim()[1] * 1.15)
        time.set_title("KL and norm" if part == "locality" else f"growth with {part}")
    for row, used in zip(axes, [len(labels)] * top + [len(parts)] * 2, strict=True):
        for panel in row[used:]:
            panel.remove()
    entries = [
        Line2D([], [], color="0.2", marker="o", linestyle="", markerfacecolor=face, label=name)
        for face, name in (MARKERS.values() if top else ())
    ]
    others = dict(_locality_styles(table[table.part == "locality"]).values())
    for name, style in {**looks, **methods, **others}.items():
        entries.append(Line2D([], [], label=name, **style))
    figure.legend(
        handles=entries, loc="outside upper center", ncols=columns + 1, frameon=False, fontsize=TEXT
    )
    caption = textwrap.wrap(_caption(table, parts), int(size[0] * 72 / (0.53 * TEXT)))
    figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=TEXT)
    return figure


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
                (both[0].value, y),
                (7, 0),
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
    panel.set_xlim(shown.low[shown.low > 0].min() / 1.5, shown.high.max() * 4)
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


def _growth(
    panel: Axes, rows: pd.DataFrame, part: str, quantity: str, looks: Mapping[Any, Style]
) -> None:
    """Total seconds or peak memory against what grows, with the fitted slope."""
    points, slopes = _totals(rows, quantity), _totals(rows, f"slope_of_{quantity}")
    notes: list[str] = []
    for (method, locality), mine in points.groupby(["method", "locality"], sort=False):
        panel.plot(mine[part], mine.value, **looks[method])
        slope = slopes[(slopes.method == method) & (slopes.locality == locality)].iloc[0]
        notes.append(f"slope {slope.value:.2f} ± {slope.high - slope.value:.2f}")
    panel.annotate("\n".join(notes), (0.04, 0.96), xycoords="axes fraction", va="top", fontsize=8)
    value_axis(panel, points[part].tolist())
    panel.set_xlabel(NAMES[part])


def _locality(panel: Axes, points: pd.DataFrame) -> None:
    for key, (_, style) in _locality_styles(points).items():
        mine = points[(points.model == key[0]) & (points.locality == key[1])]
        panel.plot(mine.n_edits, mine.value, **style)
    value_axis(panel, points.n_edits.tolist())
    panel.set_xlabel(NAMES["n_edits"])


def _in_sequence(time: Axes, ratio: Axes, rows: pd.DataFrame) -> None:
    """Seconds of training per request by variant; below, each against the first."""
    for panel, quantity in ((time, "seconds"), (ratio, "ratio")):
        points = rows[rows.quantity == quantity]
        for place, (model, mine) in enumerate(points.groupby("model", sort=False)):
            x, color = [i + 0.2 * place for i in range(len(mine))], COLORS[place % len(COLORS)]
            panel.vlines(x, mine.low, mine.high, color=color, linewidth=0.9)
            panel.plot(x, mine.value, "osD^"[place % 4], color=color, markersize=5, label=model)
        names = points.label.unique()
        panel.set_xticks(range(len(names)), names, rotation=25, ha="right")
    _log_seconds(time)
    time.set_ylabel("seconds per request")
    time.set_title("training in sequence")
    time.legend(fontsize=8)
    ratio.set_ylim(bottom=0)
    ratio.set_ylabel(f"÷ {names[0]}")


def _locality_styles(points: pd.DataFrame) -> dict[tuple[str, str], tuple[str, Style]]:
    """(model, locality) → name and style: colour and marker by model, line by locality."""
    found: dict[tuple[str, str], tuple[str, Style]] = {}
    for place, model in enumerate(points.model.unique()):
        for locality, (line, filled, name) in LOCALITY.items():
            color, marker = COLORS[(3 + place) % len(COLORS)], "P*v^"[place % 4]
            face = color if filled else "white"
            look = {"color": color, "marker": marker, "linestyle": line, "markerfacecolor": face}
            found[model, locality] = f"{model}, {name}", look
    return found


def _log_seconds(axes: Axes) -> None:
    """A logarithmic y axis in seconds, with plain numbers; linear if there is nothing to show."""
    if math.isinf(axes.dataLim.minposy):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _caption(table: pd.DataFrame, parts: Sequence[str]) -> str:
    first = table.iloc[0]
    text = f"Device: {first.device}, {first.precision}, {first.threads} threads. "
    if "paths" in parts:
        paths = table[table.part == "paths"]
        n, runs = int(paths.n_edits.max()), int(paths[paths.path == "plain"].n.max())
        text += (
            f"Top: {first.model}, {n} edits, wall-clock seconds of one training batch and of "
            f"editing and scoring one batch, by phase (diamonds: sums); medians of {runs} "
            f"repetitions in turns, thin lines from the smallest to the largest; × is the median "
            f"of plain ÷ fast within a repetition. The plain path runs the whole model for every "
            f"minibatch; the fast path's frozen part was stored before. Saving by saving: each "
            f"is added to those left of it, and those in between ran once. "
        )
    if {"n_edits", "bp_steps"} & set(parts):
        text += (
            "Growth: one training batch on the fast path; slopes of log value against log count, "
            "± one standard error. "
        )
    if "locality" in parts:
        text += (
            "KL and norm: SMEdit on random weights, one training batch on the fast path, which "
            "stores KL's reference before. "
        )
    if "in_sequence" in parts:
        runs = int(table[table.part == "in_sequence"].n.max())
        text += (
            f"Training in sequence: one pass over a stream on the fast path, medians of {runs} "
            f"repetitions in turns, lines from the smallest to the largest; below, the ratios "
            f"within a repetition. "
        )
    if set(parts) != {"in_sequence"}:
        text += (
            "Peak memory is that of a process that did nothing else, weights and libraries "
            "included, on a linear axis. "
        )
    return text + "Axes of seconds are logarithmic."


@with_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="what `job benchmark` wrote")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="PNG and SVG to write")
    options = parser.parse_args(arguments)
    with theme():
        figure = benchmark(read_table(options.table))
        for path in options.out:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
