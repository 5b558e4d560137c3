"""Print the headline tables as Markdown: each method at its largest size.

``python workflow/scripts/print_headline.py results [--sequential]``

Tables of one seed give each score with its interval over requests; of several, the median over
seeds with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from figures_data import read_table
from smedit.errors import UserError, with_status
from smedit.plan.grid import CELL_COLUMNS
from smedit.plan.stream_grid import STREAM_COLUMNS
from smedit.plan.tuning import OBJECTIVE_SCORES

INDEX = ["model", "dataset", "variant"]
METRICS = ["efficacy", "generalization", "specificity"]


def headline(results: Path) -> pd.DataFrame:
    """Per model, dataset and variant: three scores in percent and the perplexity.

    Where a cell diverged, it says so instead. Tables of an earlier version have no perplexity.

    Parameters
    ----------
    results
        A folder with ``scores.csv`` and ``experiments.csv``.
    """
    scores = read_table(results, "scores")
    cells = _cells_of(results, "experiments", "data_size")
    cells = cells[cells.n_edits == cells.n_edits.max()]
    scores = scores.merge(cells[CELL_COLUMNS], on=CELL_COLUMNS)
    scores = scores[scores.score.isin([*OBJECTIVE_SCORES, "perplexity"])]
    after = scores[scores.stage == scores.bp_steps]
    wide = _wide(_unedited(scores[scores.stage == 0]), after)
    ended = scores.dropna(subset="diverged")
    columns = [*METRICS, *({"perplexity"} & set(wide))]
    return _with_ended(wide, ended, columns, scores.seed.nunique()).fillna("").reset_index()


def compared_streams(results: Path) -> pd.DataFrame:
    """The settings of the longest streams of the comparison."""
    cells = _cells_of(results, "sequential_experiments", "comparison")
    longest = cells.groupby(["model", "dataset"]).n_sequences.transform("max")
    return cells[cells.n_sequences == longest][STREAM_COLUMNS]


def stream_headline(results: Path) -> pd.DataFrame:
    """The end of every stream of the comparison: all edits scored again, and what it cost.

    Parameters
    ----------
    results
        A folder with ``sequential.csv`` and ``sequential_experiments.csv``; of one seed, with
        ``sequential_timings.csv``, too.

    Returns
    -------
    pandas.DataFrame
        The three scores in percent and the perplexity; of one seed, also the seconds of training
        per request of the training stream and of editing per edit. Where a stream diverged, which
        has no end, it says after how many batches instead.
    """
    scores = read_table(results, "sequential")
    cells = compared_streams(results)
    scores = scores.merge(cells, on=STREAM_COLUMNS)
    shown = scores[scores.score.isin([*OBJECTIVE_SCORES, "perplexity"])]
    shown = shown[shown.scope.isin(["all", "held-out text"])]
    after = shown[shown.edited == shown.n_edits * shown.n_sequences]
    wide = _wide(_unedited(shown[shown.edited == 0]), after)
    ended = scores.dropna(subset="diverged_after")
    columns, n_seeds = [*METRICS, "perplexity"], scores.seed.nunique()
    wide = _with_ended(wide, ended, columns, n_seeds)
    if n_seeds == 1:
        seconds = read_table(results, "sequential_timings").merge(cells, on=STREAM_COLUMNS)
        for per, name in (("training request", "training s"), ("edit", "editing s")):
            rows = seconds[seconds.per == per].set_index(INDEX)["seconds"]
            wide[name] = rows.map("{:.2f}".format).reindex(wide.index)
            columns.append(name)
    return wide[columns].fillna("").reset_index()


def _cells_of(results: Path, table: str, experiment: str) -> pd.DataFrame:
    """The cells of an experiment, as a table lists them."""
    cells = read_table(results, table)
    cells = cells[cells.experiment == experiment]
    if cells.empty:
        raise UserError(
            f"{results / table}.csv: has no experiment {experiment!r}, whose cells are printed; "
            "name the folder of a run that has it"
        )
    return cells


def _unedited(before: pd.DataFrame) -> pd.DataFrame:
    """The scores before any edit, which all variants share, once per seed."""
    once = before.drop_duplicates(["model", "dataset", "metric", "seed"])
    return once.assign(variant="unedited")


def _wide(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per model, dataset and variant; one column per metric: value and bounds."""
    scores = pd.concat([before, after])
    if scores.seed.nunique() == 1:
        rows = scores.set_index([*INDEX, "metric"])[["value", "ci_low", "ci_high"]]
    else:
        rows = scores.groupby([*INDEX, "metric"])["value"].agg(["median", "min", "max"])
    texts = []
    for (*_, metric), bounds in zip(rows.index, rows.to_numpy(), strict=True):
        show = _perplexity if metric == "perplexity" else "{:.0f}".format
        value, low, high = map(show, bounds)
        texts.append(f"{value} ({low}–{high})")
    return pd.Series(texts, index=rows.index).unstack("metric")


def _with_ended(
    wide: pd.DataFrame, ended: pd.DataFrame, columns: list[str], n_seeds: int
) -> pd.DataFrame:
    """The columns, with a word in place of the scores of each cell or stream that diverged."""
    ended = ended.drop_duplicates([*INDEX, "seed"])
    wide = wide.reindex(wide.index.union(pd.MultiIndex.from_frame(ended[INDEX])), columns=columns)
    for place, mine in ended.groupby(INDEX):
        text = "diverged"
        if "diverged_after" in mine:
            batches = ", ".join(f"{count:.0f}" for count in mine.diverged_after)
            text += f" after {batches} batches"
        wide.loc[place, columns] = text if n_seeds == 1 else f"{len(mine)} of {n_seeds} {text}"
    return wide


def _perplexity(value: float) -> str:
    """Two digits and a power of ten where the model is broken, one decimal otherwise."""
    return f"{value:.1f}" if value < 10_000 else f"{value:.1e}".replace("e+", "e")


def print_markdown(table: pd.DataFrame) -> None:
    """Print a table of texts as Markdown."""
    print("| " + " | ".join(table.columns) + " |")
    print("| " + " | ".join("---" for _ in table.columns) + " |")
    for row in table.itertuples(index=False):
        print("| " + " | ".join(row) + " |")


@with_status
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sequential", action="store_true", help="streams instead of batches")
    options = parser.parse_args(arguments)
    print_markdown((stream_headline if options.sequential else headline)(options.results))


if __name__ == "__main__":
    sys.exit(main())
