"""The tables in ``results/`` → the rows that one figure draws. Never computes a score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from smedit.errors import UserError
from smedit.methods import load_method
from smedit.plan.grid import CELL_COLUMNS
from smedit.plan.stream_grid import STREAM_COLUMNS

MAIN_SCORES = ("accuracy", "token_success")
"""The scores that are set beside the paper's; ``sequence_success`` stays in the tables."""

METRICS = ("efficacy", "generalization", "specificity")

INTERVAL = ["ci_low", "ci_high", "n_rows", "n_requests"]

REQUIRED = {
    "scores": [
        *(*CELL_COLUMNS, "variant", "diverged", "stage", "metric", "score", "value"),
        *INTERVAL,
    ],
    "gains": [*CELL_COLUMNS, "metric", "score", "gain", *INTERVAL],
    "timings": [*CELL_COLUMNS, "variant", "phase", "per", "seconds", "n"],
    "experiments": ["experiment", *CELL_COLUMNS],
}
"""Table → the columns that the figures read."""

STREAM_VALUES = (*MAIN_SCORES, "perplexity", "frobenius_norm")

REQUIRED_OF_STREAMS = {
    "sequential": [
        *STREAM_COLUMNS,
        *("variant", "diverged_after", "edited", "scope", "metric", "score", "value"),
        *INTERVAL,
    ],
    "sequential_gains": [*STREAM_COLUMNS, "gain_of", "metric", "score", "gain", *INTERVAL],
    "sequential_timings": [*STREAM_COLUMNS, "variant", "phase", "per", "seconds", "n"],
    "sequential_experiments": ["experiment", *STREAM_COLUMNS],
}
"""The same for the tables of sequential editing."""


@dataclass(frozen=True)
class Tables:
    """The four tables that the figures read, with the columns of `REQUIRED`."""

    scores: pd.DataFrame
    gains: pd.DataFrame
    timings: pd.DataFrame
    experiments: pd.DataFrame


@dataclass(frozen=True)
class StreamTables:
    """The tables of sequential editing, with the columns of `REQUIRED_OF_STREAMS`."""

    scores: pd.DataFrame
    gains: pd.DataFrame
    timings: pd.DataFrame
    experiments: pd.DataFrame


def read_tables(folder: Path) -> Tables:
    """Read ``scores.csv``, ``gains.csv``, ``timings.csv`` and ``experiments.csv``.

    A column ``label`` is added to the first and the third: see `label`.

    Raises
    ------
    UserError
        If a file is missing or is not a table, or lacks a column.
    """
    tables = {name: read_table(folder, name) for name in REQUIRED}
    for name in ("scores", "timings"):
        tables[name] = tables[name].assign(label=[label(r) for _, r in tables[name].iterrows()])
    main = tables["scores"].score.isin(MAIN_SCORES)
    return Tables(**{**tables, "scores": tables["scores"][main]})


def read_stream_tables(folder: Path, names: Iterable[str] = REQUIRED_OF_STREAMS) -> StreamTables:
    """Read the ``sequential*.csv``; like `read_tables`, with the labels of `stream_label`.

    A table that is not among the names is not read, and has no rows.
    """
    scores, gains, timings, experiments = (
        read_table(folder, name) if name in names else pd.DataFrame(columns=columns)
        for name, columns in REQUIRED_OF_STREAMS.items()
    )
    scores, timings = (
        table.assign(label=[stream_label(r) for _, r in table.iterrows()])
        for table in (scores, timings)
    )
    return StreamTables(scores[scores.score.isin(STREAM_VALUES)], gains, timings, experiments)


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read one of the tables in `REQUIRED` and `REQUIRED_OF_STREAMS`.

    Raises
    ------
    UserError
        If the file is missing or is not a table, or lacks a column.
    """
    path, columns = folder / f"{name}.csv", {**REQUIRED, **REQUIRED_OF_STREAMS}[name]
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a table ({error}); make the tables again") from error
    for column in columns:
        if column not in table:
            raise UserError(f"{path}: the column {column!r} is missing; make the tables again")
    return table


def label(cell: pd.Series) -> str:
    """Name a cell's curve: the variant, and each choice that the variant's name leaves open."""
    name = cell["variant"]
    if cell["bp_steps"] > 2:
        name += f", {cell['bp_steps']} steps"
    if cell["adam_repeats"] != cell["bp_steps"]:
        name += f", updates × {cell['adam_repeats']}"
    if cell["train_from"] != "original":
        name += f", from {cell['train_from']}"
    return name


def stream_label(cell: pd.Series) -> str:
    """Name a stream's curve: the variant, and its steps where the name leaves them open."""
    steps = cell["bp_steps"]
    own = steps <= 2 or steps == load_method(cell["method"]).bp_steps
    return cell["variant"] if own else f"{cell['variant']}, {steps} steps"


def cells_of(tables: Tables | StreamTables, experiment: str) -> pd.DataFrame:
    """The cells of one experiment: the columns `CELL_COLUMNS`, of streams `STREAM_COLUMNS`.

    Raises
    ------
    UserError
        If the configuration has no such experiment.
    """
    known = tables.experiments.experiment
    if experiment not in set(known):
        raise UserError(
            f"the tables have no experiment {experiment!r}, so its figure cannot be drawn; "
            f"add it to the configuration, known: {', '.join(sorted(set(known)))}"
        )
    return tables.experiments.loc[known == experiment].drop(columns="experiment")


def rows_of(table: pd.DataFrame, cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of some cells.

    Parameters
    ----------
    table
        A table with the columns of ``cells``.
    cells
        What `cells_of` gives, no cell twice.
    name
        The table's name, for the error.

    Raises
    ------
    UserError
        If a cell has no row.
    """
    columns = list(cells)
    there = cells.merge(table[columns].drop_duplicates(), how="left", indicator=True)
    lacking = there[there["_merge"] == "left_only"]
    if len(lacking):
        settings = ", ".join(f"{k} {v}" for k, v in lacking.iloc[0][columns].items())
        raise UserError(f"{name}.csv: no row for the cell {settings}; make the tables again")
    return table.merge(cells, on=columns)


def largest(cells: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Keep each model and dataset's cells with the largest value of each column."""
    for column in columns:
        most = cells.groupby(["model", "dataset"])[column].transform("max")
        cells = cells[cells[column] == most]
    return cells


def over_seeds(table: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """One row per point of a figure: the median over seeds of each value column.

    Bounds of an interval over requests say nothing of other seeds. Where there are several, the
    lowest and the highest seed take the place of the bounds.

    Parameters
    ----------
    table
        Rows that belong to one panel, with the column ``seed``.
    keys
        The columns that tell one point from another; they stay.
    values
        The value, and perhaps its bounds ``ci_low`` and ``ci_high``; else any columns.

    Raises
    ------
    UserError
        If one point has two rows of one seed.
    """
    twice = table[table.duplicated([*keys, "seed"])]
    if len(twice):
        known = {*CELL_COLUMNS, *STREAM_COLUMNS}
        settings = ", ".join(f"{k} {v}" for k, v in twice.iloc[0].items() if k in known)
        raise UserError(
            f"experiments.csv: two cells stand at one point of a figure, one is {settings}; put "
            "them into different experiments"
        )
    points = table.groupby(list(keys), sort=False)[list(values)]
    rows = points.median()
    if table.seed.nunique() > 1 and "ci_low" in values:
        rows["ci_low"], rows["ci_high"] = points.min()[values[0]], points.max()[values[0]]
    return rows.reset_index()


def pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (model, dataset) pairs, in alphabetical order: a figure's rows of panels."""
    return sorted(set(zip(table.model, table.dataset, strict=True)))


def of_pair(table: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """The rows of one (model, dataset) pair."""
    return table[(table.model == pair[0]) & (table.dataset == pair[1])]


def count(values: pd.Series, one: str, many: str) -> str:
    """A count in words, as a range where rows differ: ``64 prompts``, ``64 to 640 prompts``."""
    low, high = int(values.min()), int(values.max())
    return f"{low if low == high else f'{low} to {high}'} {one if high == 1 else many}"
