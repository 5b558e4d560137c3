"""What several figures share: panels of scores by variant, and the sentences of their captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures_data import METRICS, count, of_pair, over_seeds, pairs
from figures_style import GREY, Style

BOUNDS = ["value", "ci_low", "ci_high"]
OWN_SCALES = "Each panel has its own vertical scale."

CROSS: dict[str, Any] = {
    "color": "0.1",
    "marker": "x",
    "linestyle": "",
    "markersize": 11,
    "markeredgewidth": 1.4,
    "zorder": 4,
}
"""The mark of a cell or a stream that diverged."""

FLOOR = 0.05
"""Height in a panel, as a share of it, of the mark of one that has no value to draw."""

WHY = "because a shift, a loss or a logit was no longer finite."


def score_grid(
    axes: np.ndarray,
    scores: pd.DataFrame,
    x: str,
    scale: Callable[[Axes, Sequence[int]], None],
    x_label: str,
    styles: dict[str, Style],
) -> None:
    """Fill rows (model, dataset) × columns (metric) with the scores after the last step.

    A cell that diverged has none: see `draw_lines`.

    Parameters
    ----------
    axes
        As many rows as `pairs` gives, three columns.
    scores
        Rows of the scores table with a ``label``, a key of ``styles``.
    x
        The column on the x axis.
    scale
        Sets the x axis up for the values of that column.
    x_label
        Below the last row.
    styles
        Label → style, in the order of drawing.
    """
    for row, pair in zip(axes, pairs(scores), strict=True):
        for panel, metric in zip(row, METRICS, strict=True):
            mine = of_pair(scores, pair)
            mine = mine[mine.metric == metric]
            # The cells of one x share the unedited model's scores, so the median is their value.
            unedited = mine[mine.stage == 0].groupby(x)["value"].median()
            panel.plot(unedited.index, unedited, color=GREY, linewidth=1, marker="_", zorder=1)
            last = mine[mine.stage == mine.bp_steps]
            draw_lines(panel, last, x, BOUNDS, styles, diverged(mine))
            scale(panel, scores[x])
            panel.set_ylabel(f"{mine.score.iloc[0]} (%)")
        row[0].set_ylabel(f"{pair[0]}\n{pair[1]}\n\n{row[0].get_ylabel()}")
    for panel, metric in zip(axes[0], METRICS, strict=True):
        panel.set_title(metric)
    for panel in axes[-1]:
        panel.set_xlabel(x_label)


def draw_lines(
    panel: Axes,
    rows: pd.DataFrame,
    x: str,
    values: Sequence[str],
    styles: dict[str, Style],
    ended: pd.DataFrame | None = None,
) -> None:
    """One line per label; three values are a value and the bounds of its interval.

    Where a cell diverged, for one seed or more, the line has a gap and the panel's floor a cross.

    Parameters
    ----------
    panel, x, styles
        As in `score_grid`.
    rows
        The points, by label and seed.
    values
        The columns to draw.
    ended
        The rows of the scores table of cells that diverged; see `diverged`.
    """
    lost: dict[str, set[int]] = {}
    if ended is not None:
        lost = {name: set(part[x]) for name, part in ended.groupby("label")}
    drawn = [name for name in styles if name in {*rows.label, *lost}]
    for place, name in enumerate(drawn):
        gone = lost.get(name, set())
        points = rows[(rows.label == name) & ~rows[x].isin(gone)]
        points = over_seeds(points, [x], values).set_index(x)
        points = points.reindex(sorted({*points.index, *gone}))
        shift = 0.045 * (place - (len(drawn) - 1) / 2)
        at = points.index + shift if x == "bp_steps" else points.index * 2**shift
        style = styles[name]
        if len(values) == 3:
            panel.vlines(at, points[values[1]], points[values[2]], color=style.color, linewidth=0.8)
        panel.plot(at, points[values[0]], **style.options())
        mark_diverged(panel, at[points.index.isin(gone)], style)


def diverged(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the cells that diverged: the scores of the unedited model."""
    return scores[scores.diverged.notna()]


def mark_diverged(panel: Axes, at: Sequence[float], style: Style) -> None:
    """Crosses on the panel's floor, where there would be values."""
    floor = np.full(len(at), FLOOR)
    for options in crossed(style):
        panel.plot(at, floor, transform=panel.get_xaxis_transform(), **options)


def crossed(style: Style) -> tuple[dict[str, Any], ...]:
    """The cross, and on it the marker that tells whose it is."""
    return CROSS, {**style.options(), "linestyle": "", "zorder": CROSS["zorder"] + 1}


def diverged_entry(any_diverged: bool) -> list[Artist]:
    """The legend entry of the cross, if there is one in the figure."""
    return [Line2D([], [], **CROSS, label="diverged")] if any_diverged else []


def diverged_notes(scores: pd.DataFrame) -> str:
    """A caption's sentence on cells that diverged, if any did."""
    return "" if diverged(scores).empty else f" ×: a cell that diverged, {WHY}"


def number(values: pd.Series) -> int:
    """The one value of a column; figures keep the cells of one value before they ask."""
    (value,) = set(values)
    return int(value)


def batches(cells: pd.DataFrame) -> str:
    """How many training batches, in words."""
    return count(cells.train_batches, "training batch", "training batches")


def notes(scores: pd.DataFrame) -> str:
    """A caption's sentences on the score, the sample, the error bars and the grey line."""
    return (
        f"Score: {score_names(scores)}. {sample(scores)} Error bars: {interval(scores)}. "
        f"Grey: the unedited model."
    )


def score_names(table: pd.DataFrame) -> str:
    """Which score each dataset has, in words."""
    named = table[["dataset", "score"]].drop_duplicates().itertuples(index=False, name=None)
    return ", ".join(f"{score} for {dataset}" for dataset, score in named)


def sample(table: pd.DataFrame) -> str:
    """How many prompts and requests a point stands for, and the seeds, in words."""
    rows = count(table.n_rows, "prompt", "prompts")
    requests = count(table.n_requests, "edit request", "edit requests")
    return f"Per point: {rows} of {requests}; {seeds(table)}."


def seeds(table: pd.DataFrame) -> str:
    """The seeds, in words."""
    values: list[Any] = sorted(table.seed.unique())
    if len(values) == 1:
        return f"seed {values[0]}"
    return f"median of seeds {', '.join(map(str, values))}"


def interval(table: pd.DataFrame) -> str:
    """What an error bar is, in words."""
    if table.seed.nunique() == 1:
        return "95 % interval, by bootstrap over the requests of this seed"
    return "from the lowest seed to the highest"
