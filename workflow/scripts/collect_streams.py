"""Result files of the streams → the ``sequential*.csv`` tables. Never imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from collect_tables import (
    INTERVAL,
    MACHINE,
    Result,
    main,
    mean_with_interval,
    paired_gain,
    perplexity,
    read_results,
    settings_of,
    table_of,
    values_by_model,
    write_tables,
)
from smedit.plan.job_settings import stream_job, stream_tuning_job
from smedit.plan.stream_grid import (
    STREAM_COLUMNS,
    STREAM_TUNED,
    stream_cells,
    stream_experiments,
    stream_tuning_cells,
)
from smedit.plan.tuning import tuning_table

PER_STREAM = ("train", "score", "held-out text")
SETTINGS = [
    *("variant", *sorted(STREAM_COLUMNS)),
    *("back_depth", "bound", "loc_coef", "lr", "max_grad_norm", "meta_lr", "minibatch"),
    *("reg_coef", "reg_power", "time_decay", "split", *MACHINE),
]
"""Every setting of a stream; see `settings_of`."""

COLUMNS = {
    "sequential": [
        *(*SETTINGS, "diverged_after", "edited_sequences", "edited"),
        *("scope", "metric", "score", "value", *INTERVAL),
    ],
    "sequential_gains": ["gain_of", *STREAM_COLUMNS, "metric", "score", "gain", *INTERVAL],
    "sequential_timings": [*SETTINGS, "phase", "per", "seconds", "n"],
    "sequential_memory": [*SETTINGS, "edited_sequences", "memory_mb"],
    "sequential_training": [
        *(*STREAM_COLUMNS, "training_step", "edit_loss", "locality_loss", "gradient_norm"),
    ],
}
"""Table → its columns. Those of experiments and search are declared where they are made."""


def sequential_table(results: Iterable[Result]) -> pd.DataFrame:
    """One row per stream, point, scope, metric and score.

    ``edited_sequences`` and ``edited`` say how many batches and requests were edited by then; 0 is
    the unedited model. Scopes: ``all`` requests edited so far (of the unedited model: all of the
    stream), its ``first quarter``, the ``latest batch``, the ``held-out text`` (perplexity, with
    the interval over paragraphs), the ``weights`` (Frobenius norm of the change).
    ``diverged_after`` is the number of batches after which a stream ended early, else empty.
    """
    rows = (
        {
            **settings_of(result),
            "diverged_after": (result["diverged"] or {}).get("batches"),
            "edited_sequences": point["n_sequences"],
            "edited": point["n_sequences"] * result["settings"]["n_edits"],
            **row,
        }
        for result in results
        for point in result["points"]
        for row in _rows(result["settings"], point)
    )
    return table_of(rows, COLUMNS["sequential"])


def _rows(settings: dict[str, Any], point: dict[str, Any]) -> Iterator[dict[str, Any]]:
    n_edits, done = settings["n_edits"], point["n_sequences"]
    quarter = n_edits * -(-settings["n_sequences"] // 4)
    for entry in point["scores"]:
        scopes = {"all": slice(None), "first quarter": slice(quarter)}
        if done:
            scopes["latest batch"] = slice((done - 1) * n_edits, done * n_edits)
        for scope, part in scopes.items():
            named = {"scope": scope, "metric": entry["metric"], "score": entry["score"]}
            yield named | mean_with_interval(entry["rows"][part])
    if point["held_out"]:
        named = {"scope": "held-out text", "metric": "perplexity", "score": "perplexity"}
        yield named | perplexity(point["held_out"])
    named = {"scope": "weights", "metric": "change", "score": "frobenius_norm"}
    yield named | {"value": point["change_norm"]}


def gains_table(results: Iterable[Result]) -> pd.DataFrame:
    """What a second step adds, and the norm in place of KL: all edits at the end of a stream.

    ``gain_of`` says which. Streams are paired that differ in this one choice, and their scores by
    request; a stream that diverged has no end.
    """
    ended = (r for r in results if not r["diverged"])
    index = {tuple(r["settings"][name] for name in STREAM_COLUMNS): r for r in ended}
    gains = []
    for result in index.values():
        settings = result["settings"]
        for gain_of, change in _without(settings):
            other = index.get(tuple((settings | change)[name] for name in STREAM_COLUMNS))
            if other is None:
                continue
            cell = {name: settings[name] for name in STREAM_COLUMNS}
            for entry, theirs in _end_scores(result, other):
                named = {name: entry[name] for name in ("metric", "score")}
                gain = paired_gain(entry["rows"], theirs["rows"])
                gains.append({"gain_of": gain_of, **cell, **named, **gain})
    return table_of(gains, COLUMNS["sequential_gains"])


def _without(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a stream may gain from, and the settings of the stream that has all but this."""
    if settings["bp_steps"] == 2:
        single = {"bp_steps": 1, "adam_repeats": min(settings["adam_repeats"], 1)}
        yield "second step", single
    if settings["locality"] == "norm":
        yield "norm instead of KL", {"locality": "kl"}


def _end_scores(ours: Result, theirs: Result) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    other = {(e["metric"], e["score"]): e for e in theirs["points"][-1]["scores"]}
    for entry in ours["points"][-1]["scores"]:
        yield entry, other[entry["metric"], entry["score"]]


def timings_table(results: Iterable[Result]) -> pd.DataFrame:
    """Seconds by phase; ``per`` says of what.

    ``training batch``: each phase of training, mean over batches. ``training request`` and
    ``edit``: all of training and all of editing, for one request. ``stream``: all that is left.
    """
    rows = []
    for result in results:
        settings, n_edits = settings_of(result), result["settings"]["n_edits"]
        steps, seconds = result["training"], result["seconds"]
        for phase in sorted({phase for step in steps for phase in step["seconds"]}):
            n = settings["train_sequences"] * settings["passes"]
            spent = sum(step["seconds"].get(phase, 0.0) for step in steps)
            rows.append((settings, phase, "training batch", spent / n, n))
        if steps:
            n = n_edits * settings["train_sequences"] * settings["passes"]
            rows.append((settings, "train", "training request", seconds["train"] / n, n))
        edited = n_edits * result["points"][-1]["n_sequences"]
        if edited:
            spent = result["points"][-1]["edit_seconds"]
            rows.append((settings, "edit", "edit", spent / edited, edited))
        rows += [
            (settings, name, "stream", seconds[name], 1) for name in PER_STREAM if name in seconds
        ]
    names = ("phase", "per", "seconds", "n")
    return table_of(
        ({**settings, **dict(zip(names, values, strict=True))} for settings, *values in rows),
        COLUMNS["sequential_timings"],
    )


def memory_table(results: Iterable[Result]) -> pd.DataFrame:
    """The memory of the process at every measured point of a stream, in MB."""
    rows = (
        {
            **settings_of(result),
            "edited_sequences": point["n_sequences"],
            "memory_mb": point["memory_mb"],
        }
        for result in results
        for point in result["points"][1:]
    )
    return table_of(rows, COLUMNS["sequential_memory"])


def training_table(results: Iterable[Result]) -> pd.DataFrame:
    """The training curve: losses and gradient norm of every training batch or step.

    In sequence the norm is that of all gradients so far in the pass, before the last clip.
    """
    rows = (
        {
            **{name: result["settings"][name] for name in STREAM_COLUMNS},
            "training_step": number,
            "edit_loss": step["edit_loss"],
            "locality_loss": step["locality_loss"],
            "gradient_norm": (
                step["gradient_norms"][-1] if "gradient_norms" in step else step["gradient_norm"]
            ),
        }
        for result in results
        for number, step in enumerate(result["training"], start=1)
    )
    return table_of(rows, COLUMNS["sequential_training"])


def collect(config: Mapping[str, Any], out: Path) -> None:
    """Read all streams below a folder and write their tables into it.

    Raises
    ------
    UserError
        If a result is missing or damaged, or a table cannot be written.
    """
    folder, search = out / "sequential" / "streams", out / "sequential" / "tuning"
    cells = stream_tuning_cells(config)
    points = read_results(search, cells, partial(stream_tuning_job, config), {})
    searched = tuning_table(points, STREAM_TUNED)
    chosen = values_by_model(searched, STREAM_TUNED)
    results = read_results(folder, stream_cells(config), partial(stream_job, config), chosen)
    tables = {
        "sequential": sequential_table(results),
        "sequential_gains": gains_table(results),
        "sequential_timings": timings_table(results),
        "sequential_memory": memory_table(results),
        "sequential_training": training_table(results),
        "sequential_experiments": stream_experiments(config),
        "sequential_tuning": searched,
    }
    write_tables(tables, out / "sequential.sha256")


if __name__ == "__main__":
    sys.exit(main(collect))
