"""The figures along a stream: retention, stream_scores, stream_model, long_stream."""

from __future__ import annotations

from matplotlib.figure import Figure

from figures_data import METRICS, StreamTables, of_pair, pairs
from figures_panels import OWN_SCALES, seeds
from figures_streams_panels import (
    SCOPES,
    divergence_notes,
    draw_streams,
    finish_streams,
    log_values,
    perplexity_axis,
    perplexity_notes,
    rows_of_experiment,
    scoped,
    score_notes,
    stream_size,
)
from figures_style import panels, variant_styles

X = "edits so far"
ASIDE = "Points are moved a little sideways so that they do not hide each other."
BEFORE = "In the panels of the latest batch the grey line stands for all of the stream's edits."
ENDED = "the last measured point of a stream that ended before the next one"


def _width(columns: int) -> float:
    return max(6.5, min(14.0, 3.5 * columns))


def retention(tables: StreamTables) -> Figure:
    """Do early edits survive? Efficacy by scope along the stream (experiment ``comparison``)."""
    rows = rows_of_experiment(tables, "comparison")
    styles = variant_styles(tables.scores)
    columns = pairs(rows)
    figure, axes = panels(
        len(SCOPES), len(columns), _width(len(columns)), 2.4, sharex="col", sharey="col"
    )
    for column, pair in zip(axes.T, columns, strict=True):
        mine = of_pair(rows, pair)
        for panel, scope in zip(column, SCOPES, strict=True):
            shown = scoped(mine, scope, "efficacy")
            draw_streams(panel, shown, styles)
            panel.set_ylabel(f"{shown.score.iloc[0]} (%)")
        column[0].set_title("\n".join(pair))
        column[-1].set_xlabel(X)
    for panel, name in zip(axes[:, 0], SCOPES.values(), strict=True):
        panel.set_ylabel(f"{name}\n\n{panel.get_ylabel()}")
    caption = (
        f"Efficacy along a stream of edits, on three parts of it: a method that forgets falls in "
        f"the top row while the middle row stays high. {stream_size(rows)} "
        f"{score_notes(rows[rows.metric == 'efficacy'])} {BEFORE} "
        f"Panels of one column share the vertical scale. {ASIDE}{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)


def stream_scores(tables: StreamTables) -> Figure:
    """Efficacy, generalization and specificity of all edits so far (``comparison``)."""
    rows = rows_of_experiment(tables, "comparison")
    styles = variant_styles(tables.scores)
    figure, axes = panels(len(pairs(rows)), len(METRICS), width=11, row_height=2.4)
    for row, pair in zip(axes, pairs(rows), strict=True):
        mine = of_pair(rows, pair)
        for panel, metric in zip(row, METRICS, strict=True):
            shown = scoped(mine, "all", metric)
            draw_streams(panel, shown, styles)
            panel.set_ylabel(f"{shown.score.iloc[0]} (%)")
        row[0].set_ylabel(f"{pair[0]}\n{pair[1]}\n\n{row[0].get_ylabel()}")
    for panel, metric in zip(axes[0], METRICS, strict=True):
        panel.set_title(metric)
    for panel in axes[-1]:
        panel.set_xlabel(X)
    caption = (
        f"Scores of all edits so far along a stream of edits. {stream_size(rows)} "
        f"{score_notes(rows[rows.scope == 'all'])} {OWN_SCALES} {ASIDE}"
        f"{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)


def stream_model(tables: StreamTables) -> Figure:
    """What a stream does to the model besides its edits (experiment ``comparison``)."""
    rows = rows_of_experiment(tables, "comparison")
    styles = variant_styles(tables.scores)
    columns = pairs(rows)
    figure, axes = panels(2, len(columns), _width(len(columns)), 2.7, sharex="col")
    for (top, bottom), pair in zip(axes.T, columns, strict=True):
        mine = of_pair(rows, pair)
        perplexity = scoped(mine, "held-out text", "perplexity")
        draw_streams(top, perplexity, styles)
        perplexity_axis(top, perplexity)
        change = scoped(mine, "weights", "change")
        draw_streams(bottom, change[change.edited > 0], styles)
        log_values(bottom)
        bottom.set_ylabel("‖W − W₀‖")
        top.set_title("\n".join(pair))
        bottom.set_xlabel(X)
    bars = "" if rows.seed.nunique() == 1 else ", with the lowest and the highest"
    caption = (
        f"What a stream of edits does to the model. {stream_size(rows)} {perplexity_notes(rows)} "
        f"‖W − W₀‖: Frobenius norm of the change of all edited weights, on a logarithmic axis. "
        f"Per line: {seeds(rows)}{bars}. Grey: the unedited model. {OWN_SCALES} {ASIDE}"
        f"{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)


def long_stream(tables: StreamTables) -> Figure:
    """Efficacy by scope, and perplexity, along a long stream (experiment ``long_stream``)."""
    rows = rows_of_experiment(tables, "long_stream")
    styles = variant_styles(tables.scores)
    figure, axes = panels(len(pairs(rows)), len(SCOPES) + 1, width=14, row_height=2.7)
    for row, pair in zip(axes, pairs(rows), strict=True):
        mine = of_pair(rows, pair)
        for panel, scope in zip(row, SCOPES, strict=False):
            if panel is not row[0]:
                panel.sharey(row[0])
            shown = scoped(mine, scope, "efficacy")
            draw_streams(panel, shown, styles)
            panel.set_ylabel(f"{shown.score.iloc[0]} (%)")
        perplexity = scoped(mine, "held-out text", "perplexity")
        draw_streams(row[-1], perplexity, styles)
        perplexity_axis(row[-1], perplexity)
        row[0].set_ylabel(f"{pair[0]}\n{pair[1]}\n\n{row[0].get_ylabel()}")
    for panel, name in zip(axes[0], [*SCOPES.values(), "held-out text"], strict=True):
        panel.set_title(name)
    for panel in axes[-1]:
        panel.set_xlabel(X)
    caption = (
        f"A long stream of edits: efficacy on three parts of it, and what is left of the model. "
        f"{stream_size(rows)} {score_notes(rows[rows.metric == 'efficacy'])} {BEFORE} "
        f"{perplexity_notes(rows)} {ASIDE}{divergence_notes(rows, ENDED)}"
    )
    return finish_streams(figure, rows, styles, caption)
