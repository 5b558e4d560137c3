"""Print the headline table as Markdown: every method at the largest n_edits, after its last step.

``python workflow/scripts/print_headline.py results``
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from smedit.grid import CELL_COLUMNS
from smedit.tuning import OBJECTIVE_SCORES

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
    shown["cell"] = [
        f"{row.value:.0f} ({row.ci_low:.0f}–{row.ci_high:.0f})" for row in shown.itertuples()
    ]
    index = ["model", "dataset", "variant"]
    table = shown.pivot_table(index=index, columns="metric", values="cell", aggfunc="first")
    return table[METRICS].reset_index()


def main() -> int:
    """Print the table of the folder that the command line names."""
    table = headline(Path(sys.argv[1]))
    print("| " + " | ".join(table.columns) + " |")
    print("| " + " | ".join("---" for _ in table.columns) + " |")
    for row in table.itertuples(index=False):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
