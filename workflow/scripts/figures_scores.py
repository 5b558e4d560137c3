"""The figures of scores by variant: data_size, train_batches, inner_steps, tradeoff."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures_data import (
    METRICS,
    Tables,
    cells_of,
    largest,
    of_pair,
    over_seeds,
    pairs,
    rows_of,
)
from figures_panels import (
    BOUNDS,
    OWN_SCALES,
    WHY,
    batches,
    diverged,
    diverged_entry,
    diverged_notes,
    draw_lines,
    notes,
    number,
    score_grid,
)
from figures_style import (
    GREY,
    Style,
    finish,
    legend_entries,
    linear_counts,
    log_counts,
    log_seconds,
    method_styles,
    panels,
    unedited_entry,
    variant_styles,
)

SECONDS = {
    "train": ("job", "meta-training"),
    "edit": ("edit batch", "editing one batch"),
}
"""Phase of the timings table → what its seconds are for, and the panel's title."""


def data_size(tables: Tables) -> Figure:
    """Scores and seconds against the number of edits, by variant (experiment ``data_size``)."""
    cells = largest(cells_of(tables, "data_size"), "train_batches")
    scores = rows_of(tables.scores, cells, "scores")
    timings = rows_of(tables.timings, cells, "timings")
    styles = variant_styles(tables.scores)
    figure, axes = panels(len(pairs(scores)), 5, width=14, row_height=2.3)
    score_grid(axes[:, :3], scores, "n_edits", log_counts, "number of edits", styles)
    for column, (phase, (per, title)) in zip(axes[:, 3:].T, SECONDS.items(), strict=True):
        mine = timings[(timings.phase == phase) & (timings.per == per)]
        for panel, pair in zip(column, pairs(scores), strict=True):
            ended = diverged(of_pair(scores, pair))
            draw_lines(panel, of_pair(mine, pair), "n_edits", ["seconds"], styles, ended)
            log_counts(panel, scores.n_edits)
            log_seconds(panel)
            panel.set_ylabel("time (s)")
        column[0].set_title(title)
        column[-1].set_xlabel("number of edits")
    caption = (
        f"Scores after the last backpropagation step against the number of edits in a batch. "
        f"Meta-training: {batches(cells)} of as many edits each. {notes(scores)} {OWN_SCALES} "
        f"Times are wall-clock seconds on logarithmic axes, without error bars: all of "
        f"meta-training, and editing one batch with all its steps (mean over the evaluated "
        f"batches). Points are moved a little sideways so that they do not hide each other."
        f"{diverged_notes(scores)}"
    )
    return finish(figure, _entries(styles, scores), caption)


def _entries(styles: dict[str, Style], scores: pd.DataFrame) -> list[Artist]:
    """The legend of a figure of lines."""
    crosses = diverged_entry(len(diverged(scores)) > 0)
    return [*legend_entries(styles, scores.label), unedited_entry(), *crosses]


def train_batches(tables: Tables) -> Figure:
    """Scores against the number of training batches (experiment ``train_batches``)."""
    cells = largest(cells_of(tables, "train_batches"), "n_edits")
    scores = rows_of(tables.scores, cells, "scores")
    styles = variant_styles(tables.scores)
    figure, axes = panels(len(pairs(scores)), 3, width=11, row_height=2.3)
    score_grid(axes, scores, "train_batches", log_counts, "number of training batches", styles)
    caption = (
        f"Scores of {number(cells.n_edits)} edits against the number of training batches, each of "
        f"as many edits, after the last backpropagation step. {notes(scores)} {OWN_SCALES} "
        f"Points are moved a little sideways so that they do not hide each other."
        f"{diverged_notes(scores)}"
    )
    return finish(figure, _entries(styles, scores), caption)


def inner_steps(tables: Tables) -> Figure:
    """Scores against the number of backpropagation steps (experiment ``inner_steps``)."""
    cells = largest(cells_of(tables, "inner_steps"), "n_edits", "train_batches")
    scores = rows_of(tables.scores, cells, "scores")
    scores = scores.assign(label=scores.method)
    styles = method_styles(tables.scores.method)
    figure, axes = panels(len(pairs(scores)), 3, width=11, row_height=2.3)
    score_grid(axes, scores, "bp_steps", linear_counts, "number of backpropagation steps", styles)
    for row, pair in zip(axes, pairs(scores), strict=True):
        mine = of_pair(scores, pair)
        for panel, metric in zip(row, METRICS, strict=True):
            _trajectories(panel, mine[mine.metric == metric], styles)
            linear_counts(panel, [0, *scores.bp_steps])
    caption = (
        f"Scores of {number(cells.n_edits)} edits against the number of backpropagation steps. "
        f"Meta-training: {batches(cells)}. Thick lines with large markers: meta-trained and "
        f"edited with that many steps; meta-training applies each gradient as often as there are "
        f"steps, as in the released code. Thin lines with dots: the scores within one run, from "
        f"the unedited model (0) to its last step. {notes(scores)} {OWN_SCALES}"
        f"{diverged_notes(scores)}"
    )
    within = Line2D([], [], color="0.2", linewidth=0.6, marker=".", label="steps within a run")
    entries = _entries(styles, scores)
    entries.insert(scores.label.nunique(), within)
    return finish(figure, entries, caption)


def _trajectories(panel: Axes, scores: pd.DataFrame, styles: dict[str, Style]) -> None:
    runs = scores.groupby(["label", "bp_steps"])
    whole = scores[runs.diverged.transform("count") == 0]
    points = over_seeds(whole, ["label", "bp_steps", "stage"], ["value"])
    for (name, _), run in points.groupby(["label", "bp_steps"], sort=False):
        run = run.sort_values("stage")
        color = styles[name].color
        panel.plot(run.stage, run.value, color=color, linewidth=0.6, marker=".", markersize=3)


def tradeoff(tables: Tables) -> Figure:
    """Specificity against efficacy at the largest number of edits of ``data_size``."""
    cells = largest(cells_of(tables, "data_size"), "n_edits", "train_batches")
    scores = rows_of(tables.scores, cells, "scores")
    styles = variant_styles(tables.scores)
    models, datasets = scores.model.unique(), scores.dataset.unique()
    width = min(14.0, 5.5 * len(models))
    figure, axes = panels(len(datasets), len(models), width=width, row_height=3.4)
    for row, dataset in zip(axes, datasets, strict=True):
        for panel, model in zip(row, models, strict=True):
            mine = of_pair(scores, (model, dataset))
            _tradeoff_panel(panel, mine, styles)
            panel.set_title(f"{model}, {dataset}")
            panel.set_xlabel(f"efficacy, {mine.score.iloc[0]} (%)")
            panel.set_ylabel(f"specificity, {mine.score.iloc[0]} (%)")
    caption = (
        f"Specificity against efficacy after {number(cells.n_edits)} edits; better is up and to "
        f"the right. Meta-training: {batches(cells)}. {notes(scores)} Each panel has its own "
        f"scales."
    )
    if len(diverged(scores)):
        caption += f" What is named in a panel's corner diverged, {WHY}"
    unedited = Line2D([], [], color=GREY, marker="X", linestyle="", label="unedited model")
    return finish(figure, [*legend_entries(styles, scores.label), unedited], caption)


def _tradeoff_panel(panel: Axes, scores: pd.DataFrame, styles: dict[str, Style]) -> None:
    ended = set(diverged(scores).label)
    last = scores[(scores.stage == scores.bp_steps) & ~scores.label.isin(ended)]
    points = over_seeds(last, ["label", "metric"], BOUNDS).set_index(["metric", "label"])
    for name in (name for name in styles if name in set(last.label)):
        x, y = points.loc["efficacy", name], points.loc["specificity", name]
        color = styles[name].color
        panel.hlines(y.value, x.ci_low, x.ci_high, color=color, linewidth=0.8)
        panel.vlines(x.value, y.ci_low, y.ci_high, color=color, linewidth=0.8)
        face = color if styles[name].filled else "none"  # an open marker hides no other
        options = {**styles[name].options(), "linestyle": "", "markerfacecolor": face}
        panel.plot(x.value, y.value, **{**options, "markersize": 7})
    if ended:
        names = "\n".join(["diverged:", *(name for name in styles if name in ended)])
        panel.annotate(names, (0.02, 0.02), xycoords="axes fraction", fontsize=8)
    before = scores[scores.stage == 0].groupby("metric")["value"].median()
    panel.plot(before["efficacy"], before["specificity"], "X", color=GREY, markersize=7)
