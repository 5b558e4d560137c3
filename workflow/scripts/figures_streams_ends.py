"""The figures at the end of a stream: stream_bp_steps, stream_shapes, stream_passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures_data import METRICS, StreamTables, cells_of, largest, of_pair, pairs, rows_of
from figures_panels import OWN_SCALES, draw_lines
from figures_streams_panels import (
    divergence_notes,
    draw_ends,
    ends,
    finish_streams,
    log_values,
    perplexity_axis,
    perplexity_notes,
    rows_of_experiment,
    scoped,
    score_notes,
    stream_size,
)
from figures_style import Style, panels, variant_styles

ENDED = "a stream that ended early"
GROUP_GAP = 0.6
"""Between the shapes of two batch sizes, in steps of the x axis."""


def stream_bp_steps(tables: StreamTables) -> Figure:
    """Scores, perplexity and seconds against backpropagation steps (experiment ``bp_steps``).

    Without a table of seconds, their panel is left out.
    """
    rows = rows_of_experiment(tables, "bp_steps")
    rows = _without_steps(rows).assign(place=rows.bp_steps)
    # Every label stands for all numbers of steps, so that none of them is told by the line.
    styles = variant_styles(rows.assign(variant=rows.label, bp_steps=2))
    timed = len(tables.timings) > 0
    figure, axes = panels(len(pairs(rows)), len(METRICS) + 1 + timed, width=14, row_height=2.4)
    _scores_and_perplexity(axes[:, : len(METRICS) + 1], rows, styles)
    text = ""
    if timed:
        _editing_time(axes[:, -1], tables, styles)
        text = (
            " Editing time: wall-clock seconds of all of the stream's editing per edit, on a "
            "logarithmic axis, without error bars."
        )
    steps = sorted(rows.bp_steps.unique())
    for panel in axes.flat:
        panel.set_xticks(steps, [str(step) for step in steps])
    for panel in axes[-1]:
        panel.set_xlabel("backpropagation steps")
    caption = (
        f"The end of a stream against the number of backpropagation steps, in training and at "
        f"edit time. Scores are those of all edits. {stream_size(rows)} {score_notes(ends(rows))} "
        f"{perplexity_notes(rows)}{text} {OWN_SCALES}{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)


def _editing_time(column: np.ndarray, tables: StreamTables, styles: dict[str, Style]) -> None:
    """Seconds per edit, one panel per model and dataset; none of a stream that diverged at once."""
    cells = largest(cells_of(tables, "bp_steps"), "n_edits", "n_sequences")
    seconds = tables.timings.merge(cells)
    seconds = _without_steps(seconds[(seconds.phase == "edit") & (seconds.per == "edit")])
    for panel, pair in zip(column, pairs(cells), strict=True):
        draw_lines(panel, of_pair(seconds, pair), "bp_steps", ["seconds"], styles)
        log_values(panel)
        panel.set_ylabel("seconds per edit")
    column[0].set_title("editing time")


def _without_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Labels that do not tell the number of steps: it is on the x axis."""
    return table.assign(label=table.variant.str.replace(r" (\+|w/o) MBPS", "", regex=True))


def stream_passes(tables: StreamTables) -> Figure:
    """What training adds: scores and perplexity against passes (experiment ``passes``)."""
    rows = rows_of_experiment(tables, "passes")
    passes = sorted(rows.passes.unique())
    rows = rows.assign(place=rows.passes.map(passes.index))
    styles = variant_styles(tables.scores)
    figure, axes = panels(len(pairs(rows)), len(METRICS) + 1, width=14, row_height=2.5)
    _scores_and_perplexity(axes, rows, styles)
    for panel in axes.flat:
        panel.set_xticks(range(len(passes)), [str(value) for value in passes])
    for panel in axes[-1]:
        panel.set_xlabel("passes through the training stream")
    caption = (
        f"The end of a stream against the passes of training; each ends with one update of the "
        f"hypernetworks, and 0 leaves them as they were drawn; methods without training stand "
        f"there too. Scores are those of all edits. {stream_size(rows)} {score_notes(ends(rows))} "
        f"{perplexity_notes(rows)} The numbers of passes "
        f"stand at equal distances. {OWN_SCALES}{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)


def stream_shapes(tables: StreamTables) -> Figure:
    """Scores of few large and many small batches (experiment ``shapes``)."""
    rows = rows_of(tables.scores, cells_of(tables, "shapes"), "sequential")
    shape_of_row = list(zip(rows.n_edits, rows.n_sequences, strict=True))
    sizes = sorted(set(rows.n_edits))
    places = {
        shape: place + GROUP_GAP * sizes.index(shape[0])
        for place, shape in enumerate(sorted(set(shape_of_row)))
    }
    rows = rows.assign(place=[places[shape] for shape in shape_of_row])
    styles = variant_styles(tables.scores)
    figure, axes = panels(len(pairs(rows)), len(METRICS), width=14, row_height=2.6)
    for row, pair in zip(axes, pairs(rows), strict=True):
        for panel, metric in zip(row, METRICS, strict=True):
            shown = scoped(of_pair(rows, pair), "all", metric)
            for _, of_one_size in shown.groupby("n_edits"):
                draw_ends(panel, of_one_size, styles)
            panel.set_xticks(list(places.values()), [str(shape[1]) for shape in places])
            panel.grid(visible=False, axis="x")
            panel.set_ylabel(f"{shown.score.iloc[0]} (%)")
        row[0].set_ylabel(f"{pair[0]}\n{pair[1]}\n\n{row[0].get_ylabel()}")
    for panel, metric in zip(axes[0], METRICS, strict=True):
        panel.set_title(metric)
    for panel in axes[-1]:
        _name_sizes(panel, places)
    caption = (
        f"The end of a stream against its shape: how many facts a batch has, and how many batches "
        f"there are; lines join streams of equal batches. Scores are those of all edits. "
        f"{stream_size(rows)} {score_notes(ends(rows))} {OWN_SCALES}{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)


def _name_sizes(panel: Axes, places: dict[tuple[int, int], float]) -> None:
    """Below the numbers of batches: how many facts each of these batches has."""
    panel.set_xlabel("batches in the stream", labelpad=18)
    for size in sorted({size for size, _ in places}):
        middle = np.mean([place for (n_edits, _), place in places.items() if n_edits == size])
        panel.annotate(
            f"of {size} facts",
            (middle, 0),
            (0, -18),
            xycoords=panel.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
        )


def _scores_and_perplexity(
    axes: Sequence[Sequence[Axes]], rows: pd.DataFrame, styles: dict[str, Style]
) -> None:
    """Fill rows (model, dataset) × columns (each metric, perplexity) with the ends of streams."""
    for row, pair in zip(axes, pairs(rows), strict=True):
        mine = of_pair(rows, pair)
        for panel, metric in zip(row, METRICS, strict=False):
            shown = scoped(mine, "all", metric)
            draw_ends(panel, shown, styles)
            panel.set_ylabel(f"{shown.score.iloc[0]} (%)")
        perplexity = scoped(mine, "held-out text", "perplexity")
        draw_ends(row[-1], perplexity, styles)
        perplexity_axis(row[-1], perplexity)
        row[0].set_ylabel(f"{pair[0]}\n{pair[1]}\n\n{row[0].get_ylabel()}")
    for panel, title in zip(axes[0], [*METRICS, "held-out text"], strict=True):
        panel.set_title(title)
