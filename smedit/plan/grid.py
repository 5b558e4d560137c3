"""A configuration's experiments → the cells of the grid, as pandas tables.

One cell is one row of settings, one job and one result file. Imports nothing heavy: the workflow
calls this before any job starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from smedit.methods import load_method

CELL_COLUMNS = [
    "model",
    "dataset",
    "method",
    "bp_steps",
    "locality",
    "adam_repeats",
    "train_from",
    "n_edits",
    "train_batches",
    "seed",
]
"""The settings that tell one cell of the grid from another."""

TUNED = ["lr", "reg_coef"]
"""The hyperparameters that are chosen per model on the tune split."""

TUNING_COLUMNS = ["model", "dataset", "method", *TUNED]
"""The settings that tell one cell of the hyperparameter search from another."""


def experiment_cells(config: Mapping[str, Any]) -> pd.DataFrame:
    """Every cell of every experiment; a cell that serves two experiments stands twice.

    Returns
    -------
    pandas.DataFrame
        The column ``experiment`` and `CELL_COLUMNS`.
    """
    rows = [
        {"experiment": name, **cell}
        for name, experiment in config["experiments"].items()
        for cell in _product(config, experiment)
    ]
    return pd.DataFrame(rows, columns=["experiment", *CELL_COLUMNS]).drop_duplicates()


def grid_cells(config: Mapping[str, Any]) -> pd.DataFrame:
    """The distinct cells of all experiments: `CELL_COLUMNS`, one row per job."""
    cells = experiment_cells(config)[CELL_COLUMNS].drop_duplicates()
    return cells.reset_index(drop=True)


def _product(config: Mapping[str, Any], experiment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    axes = product(
        experiment.get("models", config["models"]),
        experiment.get("datasets", config["datasets"]),
        experiment["methods"],
        experiment["n_edits"],
        experiment["train_batches"],
        config["seeds"],
    )
    for model, dataset, entry, n_edits, train_batches, seed in axes:
        default = load_method(entry["method"])
        steps = entry.get("bp_steps", default.bp_steps)
        for bp_steps in steps if isinstance(steps, list) else [steps]:
            yield {
                "model": model,
                "dataset": dataset,
                "method": entry["method"],
                "bp_steps": bp_steps,
                "locality": entry.get("locality", default.locality),
                # The released code applies each gradient once per backpropagation step.
                "adam_repeats": entry.get("adam_repeats", bp_steps),
                "train_from": entry.get("train_from", "original"),
                "n_edits": n_edits,
                "train_batches": train_batches,
                "seed": seed,
            }


def methods(config: Mapping[str, Any]) -> list[str]:
    """Names of the methods that the experiments use, in order of appearance."""
    entries = (e for x in config["experiments"].values() for e in x["methods"])
    return list(dict.fromkeys(entry["method"] for entry in entries))


def tuning_cells(config: Mapping[str, Any]) -> pd.DataFrame:
    """The cells of the hyperparameter search: `TUNING_COLUMNS`, one row per job.

    A method whose grid has one point is not searched, and has no cell.
    """
    edited = grid_cells(config)[["model", "dataset", "method"]].drop_duplicates()
    rows = [
        {**place, **point}
        for place in edited.to_dict("records")
        if len(candidates(config, place["method"])) > 1
        for point in candidates(config, place["method"])
    ]
    return pd.DataFrame(rows, columns=TUNING_COLUMNS)


def candidates(config: Mapping[str, Any], method: str) -> list[dict[str, float]]:
    """The points of a method's search grid: every combination of its values of `TUNED`."""
    return tuning_points(TUNED, config["hyperparameters"], config["tuning"]["grid"].get(method, {}))


def tuning_points(
    names: Sequence[str], values: Mapping[str, Any], grid: Mapping[str, Sequence[float]]
) -> list[dict[str, float]]:
    """Every combination of the values that a grid lists; the other names have their one value."""
    axes = {name: [values[name]] for name in names} | dict(grid)
    return [dict(zip(axes, point, strict=True)) for point in product(*axes.values())]


def cell_path(cell: Mapping[str, Any]) -> str:
    """Where a cell's files lie below its folder: ``model~NAME/dataset~NAME/…``, no suffix."""
    return "/".join(f"{name}~{value}" for name, value in cell.items())


def rows_needed(config: Mapping[str, Any], model: str, dataset: str) -> dict[str, int]:
    """How many rows of each split a model's cells and its search use in batch editing."""
    cells, tuning = grid_cells(config), config["tuning"]
    cells = cells[(cells.model == model) & (cells.dataset == dataset)]
    if cells.empty:
        return {"train": 0, "tune": 0, "eval": 0}
    points = tuning_cells(config)
    searched = ((points.model == model) & (points.dataset == dataset)).any()
    train = int((cells.n_edits * cells.train_batches).max())
    return {
        "train": max(train, tuning["n_edits"] * tuning["train_batches"] if searched else 0),
        "tune": tuning["eval_edits"] if searched else 0,
        "eval": max(config["eval_edits"], int(cells.n_edits.max())),
    }
