"""What the figures of sequential editing share: panels along a stream and at its end."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures_data import (
    MAIN_SCORES,
    StreamTables,
    cells_of,
    count,
    largest,
    over_seeds,
    rows_of,
)
from figures_panels import BOUNDS, WHY, crossed, diverged_entry, mark_diverged, notes
from figures_style import GREY, Style, finish, legend_entries, unedited_entry

SCOPES = {
    "first quarter": "first quarter of the edits",
    "latest batch": "latest batch",
    "all": "all edits so far",
}
"""Scope of the tables → its name in a figure."""

ASIDE = 0.015
"""How far apart points of two labels are drawn, at most, as a share of the stream's length."""

CEILING = 100
"""Perplexity axes end at so many times the unedited model's, or a broken stream would flatten the
others."""


def rows_of_experiment(tables: StreamTables, experiment: str) -> pd.DataFrame:
    """The scores of an experiment's largest streams."""
    cells = largest(cells_of(tables, experiment), "n_edits", "n_sequences")
    return rows_of(tables.scores, cells, "sequential")


def scoped(rows: pd.DataFrame, scope: str, metric: str) -> pd.DataFrame:
    """The rows of one panel. Before the first edit, the latest batch is all of the stream."""
    there = rows.scope == scope
    if scope == "latest batch":
        there |= (rows.scope == "all") & (rows.edited == 0)
    return rows[there & (rows.metric == metric)]


def draw_streams(panel: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    """One line per label against the edits so far; a cross at the end of one that diverged."""
    before = rows[rows.edited == 0]
    if len(before):
        panel.axhline(before.value.median(), color=GREY, linewidth=1, zorder=1)
    drawn = [name for name in styles if name in set(rows.label)]
    ticks = np.unique([0, *rows.edited])
    gap = np.diff(ticks).min(initial=ticks[-1])
    spread = min(0.4 * gap, ASIDE * ticks[-1] * len(drawn))
    for place, name in enumerate(drawn):
        mine, style = rows[rows.label == name], styles[name]
        seeds_there = mine.groupby("edited").seed.transform("nunique")
        points = mine[seeds_there == mine.seed.nunique()]  # else of the survivors alone
        points = over_seeds(points, ["edited"], BOUNDS).sort_values("edited")
        points = points.assign(at=points.edited + spread * _aside(place, len(drawn)))
        later = points[points.edited > 0]
        panel.vlines(later["at"], later.ci_low, later.ci_high, color=style.color, linewidth=0.8)
        panel.plot(later["at"], later.value, **style.options())
        if mine.diverged_after.notna().any():
            for options in crossed(style):
                panel.plot(points["at"].tail(1), points.value.tail(1), **options)
    # Panels above and below share the axis, and may have other gaps.
    panel.update_datalim([(-0.3 * gap, 0), (ticks[-1] + 0.3 * gap, 0)], updatey=False)
    panel.set_xmargin(0)
    panel.set_xticks(ticks[:: -(-len(ticks) // 6)])


def draw_ends(panel: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    """One line per label against the column ``place``, at the end of each stream.

    A stream that diverged has no end: a cross on the panel's floor.
    """
    before = rows[rows.edited == 0].groupby("place").value.median()
    panel.plot(before.index, before, color=GREY, linewidth=1, marker="_", zorder=1)
    drawn = [name for name in styles if name in set(rows.label)]
    for place, name in enumerate(drawn):
        mine, style = rows[rows.label == name], styles[name]
        aside = 0.3 * _aside(place, len(drawn))
        diverged = mine[mine.diverged_after.notna()].place.unique()
        whole = ends(mine[~mine.place.isin(diverged)])
        points = over_seeds(whole, ["place"], BOUNDS).set_index("place")
        points = points.reindex(sorted(mine.place.unique()))  # a line has a gap where one diverged
        at = points.index + aside
        panel.vlines(at, points.ci_low, points.ci_high, color=style.color, linewidth=0.8)
        panel.plot(at, points.value, **style.options())
        mark_diverged(panel, diverged + aside, style)


def _aside(place: int, places: int) -> float:
    """Where one of several labels is moved to, from −0.5 to 0.5, so that none hides another."""
    return (place - (places - 1) / 2) / places


def log_values(panel: Axes) -> None:
    """A logarithmic y axis with plain numbers; call it when all is drawn."""
    panel.set_yscale("log")
    plain_ticks(panel.yaxis)


def plain_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, also where it spans less than a decade."""
    low, high = axis.get_view_interval()
    if high / low < 6:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def perplexity_axis(panel: Axes, rows: pd.DataFrame) -> None:
    """Set up a panel of perplexities; see `CEILING`."""
    panel.set_yscale("log")
    highest = CEILING * rows[rows.edited == 0].value.mean()
    if panel.get_ylim()[1] > highest:
        panel.set_ylim(top=highest)
    log_values(panel)
    panel.set_ylabel("perplexity")


def finish_streams(
    figure: Figure, rows: pd.DataFrame, styles: dict[str, Style], caption: str
) -> Figure:
    """Add the legend and the caption."""
    entries: list[Artist] = [*legend_entries(styles, rows.label), unedited_entry()]
    entries += diverged_entry(rows.diverged_after.notna().any())
    return finish(figure, entries, caption)


def stream_size(rows: pd.DataFrame) -> str:
    """What a stream is and what its editor was trained on, in words."""
    batches = count(rows.n_sequences, "batch", "batches")
    text = f"A stream is {batches} of {count(rows.n_edits, 'fact', 'facts')}, edited one after "
    text += "another and never undone."
    trained = rows[rows.train_sequences > 0]
    if trained.empty:
        return text
    batches = count(trained.train_sequences, "batch", "batches")
    return f"{text} Editors that are trained were trained on {batches} of as many facts."


def score_notes(shown: pd.DataFrame) -> str:
    """A caption's sentences on scores; see `notes`."""
    return notes(shown[shown.score.isin(MAIN_SCORES) & (shown.edited > 0)])


def ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The scores of all edits, and what else was measured, at the end of each stream."""
    at_end = rows.edited == rows.n_edits * rows.n_sequences
    return rows[at_end & ~rows.scope.isin(["first quarter", "latest batch"])]


def perplexity_notes(rows: pd.DataFrame) -> str:
    """A caption's sentences on perplexity."""
    mine = rows[rows.metric == "perplexity"]
    one_seed = mine.seed.nunique() == 1
    bars = ", which the error bars are over" if one_seed else ""
    text = (
        f"Perplexity: on a text that no edit touches, {count(mine.n_rows, 'token', 'tokens')} of "
        f"{count(mine.n_requests, 'paragraph', 'paragraphs')}{bars}; logarithmic axis."
    )
    before = mine[mine.edited == 0].groupby("model").value.mean()
    drawn = mine[["value", "ci_high"] if one_seed else ["value"]].max(axis=1)
    if (drawn > CEILING * mine.model.map(before)).any():
        text += (
            f" It ends at {CEILING} times the unedited model's at most; higher values and the ends "
            f"of their error bars are cut off."
        )
    return text


def divergence_notes(rows: pd.DataFrame, mark: str) -> str:
    """A caption's sentence on streams that diverged, if any did."""
    if not rows.diverged_after.notna().any():
        return ""
    return f" ×: {mark}, {WHY}"
