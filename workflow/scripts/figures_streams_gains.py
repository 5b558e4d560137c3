"""The figure of what one choice gives in sequence: stream_gains."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from figures_data import (
    MAIN_SCORES,
    METRICS,
    StreamTables,
    cells_of,
    largest,
    of_pair,
    pairs,
    rows_of,
)
from figures_mbps import gain_panel
from figures_panels import interval, sample, score_names
from figures_streams_panels import stream_size
from figures_style import finish, method_styles, panels
from smedit.errors import UserError
from smedit.plan.stream_grid import STREAM_COLUMNS

LABELS = {"second step": "{}, second step", "norm instead of KL": "{}, norm for KL"}
"""What a stream gains from → how a row of the figure is named; {} is the method."""


def stream_gains(tables: StreamTables) -> Figure:
    """What a second step and the norm give at the end of a stream, paired by request.

    Raises
    ------
    UserError
        If the experiment ``comparison`` has no two streams that differ in one of these.
    """
    cells = largest(cells_of(tables, "comparison"), "n_edits", "n_sequences")
    gains = tables.gains[tables.gains.score.isin(MAIN_SCORES)].merge(cells, on=STREAM_COLUMNS)
    scores = rows_of(tables.scores, cells, "sequential")
    variants = scores.groupby(["model", "dataset", "method"]).label.transform("nunique")
    ended = scores[scores.diverged_after.notna() & (variants > 1)]
    if gains.empty and ended.empty:
        raise UserError(
            "sequential_gains.csv: no two streams of the experiment comparison differ in the "
            "second step or in KL against the norm alone, so figure stream_gains cannot be drawn; "
            "add some to the configuration"
        )
    gains = gains.assign(label=_labels(gains))
    styles = method_styles(tables.scores.method)
    places = pairs(gains) or pairs(ended)
    figure, axes = panels(
        len(places),
        len(METRICS),
        width=11,
        row_height=0.75 + 0.3 * gains.label.nunique(),
        sharex="col",
    )
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
        f"Two streams that differ in one choice: how much higher all edits score at the end with "
        f"a second backpropagation step than without, and with the norm than with KL. "
        f"{stream_size(cells if gains.empty else gains)} Right of the line: the choice is better."
    )
    if len(gains):
        caption += (
            f" Score: {score_names(gains)}; differences are paired by request. {sample(gains)} "
            f"Error bars: {interval(gains)}."
        )
    if len(ended):
        streams = ended[["model", "dataset", "label"]].drop_duplicates()
        names = (" ".join(stream) for stream in streams.itertuples(index=False, name=None))
        caption += f" Left out, as they diverged: {', '.join(sorted(names))}."
    return finish(figure, [], caption)


def _labels(gains: pd.DataFrame) -> list[str]:
    rows = zip(gains.gain_of, gains.method, gains.locality, strict=True)
    return [
        LABELS[gain_of].format("SMEdit, KL" if (method, locality) == ("SMEdit", "kl") else method)
        for gain_of, method, locality in rows
    ]
