"""The figures of what MBPS gives: mbps_gain, and adam_repeats, which takes the gain apart."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures_data import (
    MAIN_SCORES,
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
    OWN_SCALES,
    batches,
    diverged,
    diverged_entry,
    diverged_notes,
    interval,
    notes,
    number,
    sample,
    score_grid,
    score_names,
)
from figures_style import (
    Style,
    finish,
    legend_entries,
    linear_counts,
    method_styles,
    panels,
    unedited_entry,
)
from smedit.errors import UserError
from smedit.plan.grid import CELL_COLUMNS


def mbps_gain(tables: Tables) -> Figure:
    """What MBPS gives each method, with its paired interval, at the largest number of edits."""
    cells = largest(cells_of(tables, "data_size"), "n_edits", "train_batches")
    gains, lost = _published_gains(tables, cells)
    styles = method_styles(tables.scores.method)
    places = sorted({*pairs(gains), *pairs(lost)})
    height = 0.75 + 0.3 * gains.label.nunique()
    figure, axes = panels(len(places), len(METRICS), width=11, row_height=height, sharex="col")
    for row, pair in zip(axes, places, strict=True):
        mine = of_pair(gains, pair)
        for panel, metric in zip(row, METRICS, strict=True):
            gain_panel(panel, mine[mine.metric == metric], styles)
            panel.tick_params(labelleft=panel is row[0])
        row[0].set_ylabel("\n".join(pair), labelpad=8)
    for panel, metric in zip(axes[0], METRICS, strict=True):
        panel.set_title(metric)
    for panel in axes[-1]:
        panel.set_xlabel("gain (percentage points)")
    caption = (
        f"What MBPS gives at {number(cells.n_edits)} edits: the score with two backpropagation "
        f"steps minus the score with one, as published: with two steps, meta-training also applies "
        f"each gradient twice. Meta-training: {batches(cells)}. Right of the line: MBPS is better."
    )
    if len(gains):
        caption += (
            f" Score: {score_names(gains)}; differences are paired by request. {sample(gains)} "
            f"Error bars: {interval(gains)}."
        )
    if len(lost):
        names = (" ".join(place) for place in lost.itertuples(index=False, name=None))
        caption += f" Left out, as a cell of theirs diverged: {', '.join(sorted(names))}."
    return finish(figure, [], caption)


def _published_gains(tables: Tables, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The gains of some cells where each gradient is applied once per step, with a label.

    Beside them the places (model, dataset, label) that have none, or none of all seeds, because
    one of the two cells diverged.
    """
    gains = tables.gains
    gains = gains[gains.score.isin(MAIN_SCORES) & (gains.adam_repeats == gains.bp_steps)]
    gains = gains.merge(cells, on=CELL_COLUMNS)
    place = ["model", "dataset", "label"]
    ended = diverged(tables.scores).merge(cells, on=CELL_COLUMNS)
    ended = ended[(ended.bp_steps <= 2) & (ended.adam_repeats == ended.bp_steps)]
    other_half = ended.assign(bp_steps=3 - ended.bp_steps, adam_repeats=3 - ended.adam_repeats)
    lost = _without_mbps(other_half.merge(cells, on=CELL_COLUMNS))[place].drop_duplicates()
    if gains.empty and lost.empty:
        raise UserError(
            "gains.csv: no method of the experiment data_size has both 1 and 2 bp_steps at its "
            "largest n_edits, so figure mbps_gain cannot be drawn; add them to the configuration"
        )
    labels = tables.scores[[*CELL_COLUMNS, "label"]].drop_duplicates()
    gains = _without_mbps(gains.merge(labels, on=CELL_COLUMNS))
    gone = gains[place].merge(lost, how="left", indicator=True)["_merge"] == "both"
    return gains[~gone.to_numpy()], lost


def _without_mbps(table: pd.DataFrame) -> pd.DataFrame:
    """Labels that do not tell one step from two."""
    return table.assign(label=table.label.str.replace(r" (\+|w/o) MBPS", "", regex=True))


def gain_panel(panel: Axes, gains: pd.DataFrame, styles: dict[str, Style]) -> None:
    """One row per method and label: the gain and its interval, on either side of zero."""
    points = over_seeds(gains, ["method", "label"], ["gain", "ci_low", "ci_high"])
    order = points.method.map(list(styles).index)
    points = points.assign(order=order).sort_values(["order", "label"])
    panel.axvline(0, color="0.4", linewidth=0.9)
    for place, (_, point) in enumerate(points.iterrows()):
        style = styles[point.method]
        panel.hlines(place, point.ci_low, point.ci_high, color=style.color, linewidth=1.3)
        panel.plot(point.gain, place, **style.options())
        panel.annotate(
            f"{point.gain:+.1f}".replace("-", "\N{MINUS SIGN}"),
            (point.gain, place),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    panel.set_yticks(range(len(points)), points.label)
    panel.set_ylim(len(points) - 0.5, -0.8)
    panel.margins(x=0.12)
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def adam_repeats(tables: Tables) -> Figure:
    """What repeated updates give, and what the second step gives (docs/method.md)."""
    cells = _two_by_two(tables)
    scores = rows_of(tables.scores, cells, "scores")
    scores = scores.assign(
        label=scores.method
        + scores.adam_repeats.map({1: ", gradients applied once", 2: ", gradients applied twice"})
    )
    styles = {}
    for method, twice in method_styles(tables.scores.method).items():
        styles[f"{method}, gradients applied once"] = Style(
            twice.color, twice.marker, "--", filled=False
        )
        styles[f"{method}, gradients applied twice"] = twice
    figure, axes = panels(len(pairs(scores)), 3, width=11, row_height=2.3)
    score_grid(axes, scores, "bp_steps", linear_counts, "number of backpropagation steps", styles)
    caption = (
        f"What MBPS gives at {number(cells.n_edits)} edits, taken apart. Meta-training: "
        f"{batches(cells)}. From dashed to solid: meta-training applies each gradient twice "
        f"instead of once, with as many steps. From left to right: meta-trained and edited with "
        f"two steps instead of one, with each gradient applied as often. The released code goes "
        f"from the left end of the dashed line to the right end of the solid line. "
        f"{notes(scores)} {OWN_SCALES}{diverged_notes(scores)}"
    )
    crosses = diverged_entry(len(diverged(scores)) > 0)
    entries = [*legend_entries(styles, scores.label), unedited_entry(), *crosses]
    return finish(figure, entries, caption)


def _two_by_two(tables: Tables) -> pd.DataFrame:
    """The experiment's cells, and those of any experiment that differ in the two factors only."""
    factors = ["bp_steps", "adam_repeats"]
    rest = [name for name in CELL_COLUMNS if name not in factors]
    mine = largest(cells_of(tables, "adam_repeats"), "n_edits", "train_batches")
    every = tables.experiments[CELL_COLUMNS].drop_duplicates()
    cells = every.merge(mine[rest].drop_duplicates(), on=rest)
    cells = cells[cells[factors].isin([1, 2]).all(axis=1)]
    for settings, group in cells.groupby(rest):
        there = set(group[factors].itertuples(index=False, name=None))
        for steps, repeats in sorted({(1, 1), (1, 2), (2, 1), (2, 2)} - there):
            where = ", ".join(f"{k} {v}" for k, v in zip(rest, settings, strict=True))
            raise UserError(
                f"experiments.csv: figure adam_repeats needs the cell bp_steps {steps}, "
                f"adam_repeats {repeats} of {where}; add it to an experiment"
            )
    return cells
