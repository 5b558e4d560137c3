"""Print, as Markdown, what several seeds say together.

``python workflow/scripts/print_seeds.py spread results/seeds``: how far scores vary between seeds.
``python workflow/scripts/print_seeds.py retention results/seeds``: what is left of early edits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from figures_data import read_table
from print_headline import INDEX, METRICS, compared_streams, print_markdown
from smedit.errors import with_status
from smedit.plan.grid import CELL_COLUMNS
from smedit.plan.stream_grid import STREAM_COLUMNS
from smedit.plan.tuning import OBJECTIVE_SCORES


def spread(results: Path) -> pd.DataFrame:
    """How far the last scores vary between seeds, beside what their intervals lead one to expect.

    Parameters
    ----------
    results
        A folder with ``scores.csv``, ``sequential.csv`` and their ``_experiments.csv``, of two
        seeds or more.

    Returns
    -------
    pandas.DataFrame
        One row per experiment. Per metric, in percentage points: the standard deviation between
        seeds, the standard error over requests, and the first divided by the second. Both are
        roots of the mean square over the settings of the experiment.
    """
    cells = _read(results, "scores")
    cells = cells[cells.stage == cells.bp_steps]
    streams = _read(results, "sequential")
    streams = streams[(streams.scope == "all") & (streams.edited == _length(streams))]
    rows = []
    for half, scores, name, columns in (
        ("batches", cells, "experiments", CELL_COLUMNS),
        ("sequence", streams, "sequential_experiments", STREAM_COLUMNS),
    ):
        scores = scores.merge(read_table(results, name), on=columns)
        setting = [column for column in columns if column != "seed"]
        for experiment, mine in scores.groupby("experiment", sort=False):
            row = {"half": half, "experiment": experiment}
            for metric in METRICS:
                settings = mine[mine.metric == metric].groupby(setting, dropna=False)
                between = settings.value.var().mean() ** 0.5
                within = (settings.standard_error.apply(lambda e: (e**2).mean())).mean() ** 0.5
                row["settings"] = str(settings.ngroups)
                row[metric] = f"{between:.1f} / {within:.1f} = {between / within:.1f}"
            rows.append(row)
    return pd.DataFrame(rows)


def retention(results: Path) -> pd.DataFrame:
    """How much of the first quarter of a stream is left at its end.

    Parameters
    ----------
    results
        A folder with ``sequential.csv`` and ``sequential_experiments.csv``.

    Returns
    -------
    pandas.DataFrame
        Per model, dataset and variant of the comparison: efficacy on the first quarter of the
        edits when these were all of the stream, efficacy on the same edits at its end, and the
        difference; in percent, the median over seeds with the lowest and the highest. A stream
        that diverged has no end and counts as fresh only.
    """
    scores = _read(results, "sequential").merge(compared_streams(results), on=STREAM_COLUMNS)
    mine = scores[(scores.scope == "first quarter") & (scores.metric == "efficacy")]
    per_seed = mine[mine.edited > 0].set_index([*INDEX, "seed"])
    first = per_seed.groupby([*INDEX, "seed"]).edited.transform("min") == per_seed.edited
    fresh, kept = per_seed.value[first], per_seed.value[per_seed.edited == _length(per_seed)]
    parts = {"fresh": fresh, "at the end": kept, "lost": fresh - kept}
    return pd.DataFrame({name: _over_seeds(part) for name, part in parts.items()}).reset_index()


def _read(results: Path, name: str) -> pd.DataFrame:
    """The rows of a table with the scores that methods are compared by."""
    table = read_table(results, name)
    return table[table.score.isin(OBJECTIVE_SCORES)]


def _length(streams: pd.DataFrame) -> pd.Series:
    """How many edits each stream has."""
    return streams.n_edits * streams.n_sequences


def _over_seeds(values: pd.Series) -> pd.Series:
    """The median over seeds, with the lowest and the highest."""
    bounds = values.groupby(INDEX).agg(["median", "min", "max"])
    texts = [f"{m:.0f} ({low:.0f}–{high:.0f})" for m, low, high in bounds.to_numpy()]
    return pd.Series(texts, index=bounds.index).str.replace("-", "−")


@with_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table that the command line names."""
    tables = {"spread": spread, "retention": retention}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=tables)
    parser.add_argument("results", type=Path)
    options = parser.parse_args(arguments)
    print_markdown(tables[options.table](options.results))


if __name__ == "__main__":
    sys.exit(main())
