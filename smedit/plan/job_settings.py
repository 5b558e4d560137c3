"""A configuration and a cell → the settings of its job. Imports nothing heavy.

The workflow hands them to the job; its result carries their checksum, and the tables take a result
only if the checksum is that of the cell whose place it stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smedit.methods import load_method
from smedit.models.module_names import expand_modules
from smedit.plan.grid import TUNED, candidates
from smedit.plan.stream_grid import (
    STREAM_TUNED,
    all_rows_needed,
    stream_candidates,
    stream_hyperparameters,
    stream_settings,
    streams_of,
)

Config = Mapping[str, Any]
Cell = Mapping[str, Any]


def model_settings(config: Config, model: str) -> dict[str, Any]:
    """What opens a model; the thread count is fixed, so that numbers never depend on the cores.

    ``model_spec`` opens nothing, but two results of one job are to be of one model, revision and
    all.
    """
    spec = config["models"][model]
    return {
        "model": model,
        "model_spec": {key: value for key, value in spec.items() if key != "edit_modules"},
        "model_folder": f"resources/models/{model}",
        "edit_modules": expand_modules(spec["edit_modules"]),
        "precision": config["precision"],
        "device": config["device"],
        "threads": config["threads"],
    }


def data_settings(config: Config, dataset: str, seed: int) -> dict[str, Any]:
    """What reads a dataset."""
    return {"dataset": dataset, "dataset_spec": config["datasets"][dataset], "seed": seed}


def freeze_job(config: Config, model: str, dataset: str, seed: int) -> dict[str, Any]:
    """Run the frozen part of a model once over all rows that any job needs."""
    return {
        **model_settings(config, model),
        **data_settings(config, dataset, seed),
        "rows": all_rows_needed(config, model, dataset),
        "held_out": not streams_of(config, model, dataset).empty,
        "minibatch": config["hyperparameters"]["minibatch"],
    }


def tuning_job(config: Config, point: Cell) -> dict[str, Any]:
    """One cell of the hyperparameter search; ``point`` has the columns of `TUNING_COLUMNS`."""
    size, method = config["tuning"], load_method(point["method"])
    settings = {
        "bp_steps": method.bp_steps,
        "locality": method.locality,
        "adam_repeats": method.bp_steps,
        "train_from": "original",
        "n_edits": size["n_edits"],
        "train_batches": size["train_batches"],
        "seed": config["seeds"][0],
    }
    return {
        **_place(config, point, settings["seed"]),
        "split": "tune",
        "eval_edits": size["eval_edits"],
        "settings": {**_named(point), **settings},
        "hyperparameters": config["hyperparameters"] | {name: point[name] for name in TUNED},
    }


def cell_job(config: Config, cell: Cell) -> dict[str, Any]:
    """One cell of the grid, before a search's choice is put in (``--chosen``)."""
    return {
        **_place(config, cell, cell["seed"]),
        "split": "eval",
        "eval_edits": config["eval_edits"],
        "settings": dict(cell),
        # A method whose grid has one point is not searched: that point is its value.
        "hyperparameters": config["hyperparameters"] | candidates(config, cell["method"])[0],
    }


def stream_tuning_job(config: Config, point: Cell) -> dict[str, Any]:
    """One stream of the search; ``point`` has the columns of `STREAM_TUNING_COLUMNS`."""
    part, seed = config["sequential"], config["seeds"][0]
    size = [part["tuning"][key] for key in ("n_edits", "n_sequences", "train_sequences")]
    steps = load_method(point["method"]).bp_steps
    settings = stream_settings(point["method"], steps, None, *size, part["passes"])
    return {
        **_place(config, point, seed),
        "split": "tune",
        "settings": {**_named(point), **settings, "points": 1, "seed": seed},
        "hyperparameters": stream_hyperparameters(config)
        | {name: point[name] for name in STREAM_TUNED},
    }


def stream_job(config: Config, cell: Cell) -> dict[str, Any]:
    """One stream of the grid, before a search's choice is put in (``--chosen``)."""
    return {
        **_place(config, cell, cell["seed"]),
        "split": "eval",
        "settings": dict(cell),
        "hyperparameters": stream_hyperparameters(config)
        | stream_candidates(config, cell["method"])[0],
    }


def _place(config: Config, cell: Cell, seed: int) -> dict[str, Any]:
    return {
        **model_settings(config, cell["model"]),
        **data_settings(config, cell["dataset"], seed),
    }


def _named(cell: Cell) -> dict[str, Any]:
    return {name: cell[name] for name in ("model", "dataset", "method")}
