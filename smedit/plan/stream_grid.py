"""The ``sequential`` part of a configuration → its cells, as pandas tables.

One cell is one stream: one row of settings, one job and one result file. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pandas as pd

from smedit.methods import load_method
from smedit.plan.grid import rows_needed, tuning_points

STREAM_COLUMNS = [
    "model",
    "dataset",
    "method",
    "bp_steps",
    "locality",
    "adam_repeats",
    "n_edits",
    "n_sequences",
    "train_sequences",
    "passes",
    "points",
    "seed",
]
"""The settings that tell one stream from another."""

STREAM_TUNED = ["lr", "reg_coef", "bound"]
"""The hyperparameters that are chosen per model on streams of the tune split."""

STREAM_TUNING_COLUMNS = ["model", "dataset", "method", *STREAM_TUNED]
"""The settings that tell one stream of the search from another."""


def stream_experiments(config: Mapping[str, Any]) -> pd.DataFrame:
    """Every stream of every experiment; one that serves two experiments stands twice.

    Returns
    -------
    pandas.DataFrame
        The column ``experiment`` and `STREAM_COLUMNS`. No rows without a ``sequential`` part.
    """
    rows = [
        {"experiment": name, **cell}
        for name, experiment in _part(config)["experiments"].items()
        for cell in _product(config, experiment)
    ]
    return pd.DataFrame(rows, columns=["experiment", *STREAM_COLUMNS]).drop_duplicates()


def stream_cells(config: Mapping[str, Any]) -> pd.DataFrame:
    """The distinct streams of all experiments: `STREAM_COLUMNS`, one row per job."""
    cells = stream_experiments(config)[STREAM_COLUMNS].drop_duplicates()
    return cells.reset_index(drop=True)


def _product(config: Mapping[str, Any], experiment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    places = product(
        experiment.get("models", config["models"]), experiment.get("datasets", config["datasets"])
    )
    for model, dataset in places:
        sizes = {**experiment, **experiment.get("by_dataset", {}).get(dataset, {})}
        points = sizes.get("points", config["sequential"]["points"])
        axes = product(
            experiment["methods"],
            sizes["n_edits"],
            sizes["n_sequences"],
            sizes["train_sequences"],
            experiment.get("passes", [config["sequential"]["passes"]]),
            config["seeds"],
        )
        for entry, *size, seed in axes:
            steps = entry.get("bp_steps", load_method(entry["method"]).bp_steps)
            for bp_steps in steps if isinstance(steps, list) else [steps]:
                cell = stream_settings(entry["method"], bp_steps, entry.get("locality"), *size)
                place = {"model": model, "dataset": dataset}
                yield {**place, **cell, "points": points, "seed": seed}


def stream_settings(
    method: str,
    bp_steps: int,
    locality: str | None,
    n_edits: int,
    n_sequences: int,
    train_sequences: int,
    passes: int,
) -> dict[str, Any]:
    """A stream's settings; those of training are 0 for a method without any."""
    choices = load_method(method)
    trained = choices.stream_training != "none"
    # In batches the released code applies each gradient once per step, in sequence once.
    repeats = bp_steps if choices.stream_training == "in_batches" else 1
    return {
        "method": method,
        "bp_steps": bp_steps,
        "locality": locality or choices.locality,
        "adam_repeats": repeats if trained else 0,
        "n_edits": n_edits,
        "n_sequences": n_sequences,
        "train_sequences": train_sequences if trained else 0,
        "passes": passes if trained else 0,
    }


def stream_methods(config: Mapping[str, Any]) -> list[str]:
    """Names of the methods that the streams use, in order of appearance."""
    entries = (e for x in _part(config)["experiments"].values() for e in x["methods"])
    return list(dict.fromkeys(entry["method"] for entry in entries))


def stream_tuning_cells(config: Mapping[str, Any]) -> pd.DataFrame:
    """The streams of the search: `STREAM_TUNING_COLUMNS`, one row per job.

    A method is searched on the models and datasets whose streams it edits.
    """
    edited = stream_cells(config)[["model", "dataset", "method"]].drop_duplicates()
    rows = [
        {**place, **point}
        for place in edited.to_dict("records")
        if len(stream_candidates(config, place["method"])) > 1
        for point in stream_candidates(config, place["method"])
    ]
    return pd.DataFrame(rows, columns=STREAM_TUNING_COLUMNS)


def stream_candidates(config: Mapping[str, Any], method: str) -> list[dict[str, float]]:
    """The points of a method's search on streams."""
    grid = _part(config)["tuning"]["grid"].get(method, {})
    return tuning_points(STREAM_TUNED, stream_hyperparameters(config), grid)


def stream_hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What every stream shares: the configuration's hyperparameters and those of streams."""
    return config["hyperparameters"] | _part(config)["hyperparameters"]


def all_rows_needed(config: Mapping[str, Any], model: str, dataset: str) -> dict[str, int]:
    """How many rows of each split a model uses: in batches, in streams and in both searches."""
    needed = rows_needed(config, model, dataset)
    cells = streams_of(config, model, dataset)
    if cells.empty:
        return needed
    tuning, points = _part(config)["tuning"], stream_tuning_cells(config)
    searched = ((points.model == model) & (points.dataset == dataset)).any()
    train = int((cells.n_edits * cells.train_sequences).max())
    streams = {
        "train": max(train, tuning["n_edits"] * tuning["train_sequences"] if searched else 0),
        "tune": tuning["n_edits"] * tuning["n_sequences"] if searched else 0,
        "eval": int((cells.n_edits * cells.n_sequences).max()),
    }
    return {split: max(needed[split], streams[split]) for split in needed}


def streams_of(config: Mapping[str, Any], model: str, dataset: str) -> pd.DataFrame:
    """The streams of one model and dataset."""
    cells = stream_cells(config)
    return cells[(cells.model == model) & (cells.dataset == dataset)]


def _part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    none: dict[str, Any] = {"experiments": {}, "hyperparameters": {}, "tuning": {"grid": {}}}
    return config.get("sequential", none)
