"""Print the headline tables as Markdown: each method at its largest size.

``python workflow/scripts/print_headline.py results [--sequential]``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from smedit.grid import CELL_COLUMNS
from smedit.stream_grid import STREAM_COLUMNS
from smedit.tuning import OBJECTIVE_SCORES

INDEX = ["model", "dataset", "variant"]
METRICS = ["efficacy", "generalization", "specificity"]


def headline(results: Path) -> pd.DataFrame:
    """Per model, dataset and variant: the three scores in percent with their 95 % intervals.

    Parameters
    ----------
    results
        A folder with ``scores.csv`` and ``experiments.csv``.
    """
    scores = pd.read_csv(results / "scores.csv")
    cells = pd.read_csv(results / "experiments.csv").query("experiment == 'data_size'")
    cells = cells[cells.n_edits == cells.n_edits.max()]
    scores = scores.merge(cells[CELL_COLUMNS], on=CELL_COLUMNS)
    scores = scores[scores.score.isin(OBJECTIVE_SCORES)]
    before = scores[scores.stage == 0].drop_duplicates(["model", "dataset", "metric"])
    after = scores[scores.stage == scores.bp_steps]
    shown = pd.concat([before.assign(variant="unedited"), after])
    return _wide(shown)[METRICS].reset_index()


def stream_headline(results: Path) -> pd.DataFrame:
    """The end of every stream of the comparison: all edits scored again, and what it cost.

    Parameters
    ----------
    results
        A folder with the ``sequential*.csv`` tables of one seed.

    Returns
    -------
    pandas.DataFrame
        The three scores in percent and the perplexity, with 95 % intervals; seconds of training
        per request of the training stream and of editing per edit. A stream that diverged has no
        end: instead of scores stands after how many batches.
    """
    scores = pd.read_csv(results / "sequential.csv")
    seconds = pd.read_csv(results / "sequential_timings.csv")
    cells = pd.read_csv(results / "sequential_experiments.csv").query("experiment == 'comparison'")
    longest = cells.groupby(["model", "dataset"]).n_sequences.transform("max")
    cells = cells[cells.n_sequences == longest][STREAM_COLUMNS]
    scores, seconds = (table.merge(cells, on=STREAM_COLUMNS) for table in (scores, seconds))
    shown = scores[scores.score.isin([*OBJECTIVE_SCORES, "perplexity"])]
    shown = shown[shown.scope.isin(["all", "held-out text"])]
    before = shown[shown.edited == 0].drop_duplicates(["model", "dataset", "metric"])
    after = shown[shown.edited == shown.n_edits * shown.n_sequences]
    wide = _wide(pd.concat([before.assign(variant="unedited"), after]))
    ended = scores.dropna(subset="diverged_after").groupby(INDEX).diverged_after.first()
    wide = wide.reindex(wide.index.union(ended.index))
    for place, batches in ended.items():
        wide.loc[place, METRICS] = f"diverged after {batches:.0f} batches"
    for per, name in (("training request", "training s"), ("edit", "editing s")):
        rows = seconds[seconds.per == per].set_index(INDEX)["seconds"]
        wide[name] = rows.map("{:.2f}".format).reindex(wide.index)
    columns = [*METRICS, "perplexity", "training s", "editing s"]
    return wide[columns].fillna("").reset_index()


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per model, dataset and variant; one column per metric: value and interval."""
    shown = [_perplexity if metric == "perplexity" else "{:.0f}".format for metric in scores.metric]
    cells = [
        f"{show(row.value)} ({show(row.ci_low)}–{show(row.ci_high)})"
        for row, show in zip(scores.itertuples(), shown, strict=True)
    ]
    wide = scores.assign(cell=cells)
    return wide.pivot(index=INDEX, columns="metric", values="cell")


def _perplexity(value: float) -> str:
    """Two digits and a power of ten where the model is broken, one decimal otherwise."""
    return f"{value:.1f}" if value < 10_000 else f"{value:.1e}".replace("e+", "e")


def main() -> int:
    """Print the table of the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sequential", action="store_true", help="streams instead of batches")
    options = parser.parse_args()
    table = (stream_headline if options.sequential else headline)(options.results)
    print("| " + " | ".join(table.columns) + " |")
    print("| " + " | ".join("---" for _ in table.columns) + " |")
    for row in table.itertuples(index=False):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
