"""One cell of sequential editing → a result: an editor is trained, then edits a stream."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smedit.data.readers import load_requests
from smedit.engine.batches import edit_batch
from smedit.engine.memory import peak_memory_mb
from smedit.engine.meta_training import TrainingSettings, meta_train
from smedit.engine.scores import RowScore, by_request
from smedit.engine.sequential_training import SequenceSettings, train_in_sequence
from smedit.engine.stream import Stream
from smedit.errors import DivergedError
from smedit.methods import load_method
from smedit.run.jobs import (
    check_rows,
    cut,
    environment,
    make_editor,
    open_model,
    read_before,
    rows_of,
)
from smedit.store.results import checksum, joined

log = logging.getLogger("smedit")


def run_stream(
    job: Mapping[str, Any], states: Path, before: Path, checkpoint: Path
) -> dict[str, Any]:
    """Train an editor and edit one stream; go on from a checkpoint if there is one.

    Parameters
    ----------
    job
        As in `smedit.run.jobs.open_model`, and ``dataset_spec``, ``split`` (``tune`` or ``eval``),
        ``settings`` (the columns of `smedit.plan.stream_grid.STREAM_COLUMNS`) and ``hyperparameters``.
    states, before
        What `smedit.run.experiment.freeze` wrote for the model and the dataset.
    checkpoint
        The file that holds the state while the stream runs. The caller removes it once the result
        is safe.

    Returns
    -------
    dict
        JSON-ready: ``settings``, ``environment``, ``training`` (per batch), ``points`` (the
        unedited model first), ``seconds``, ``memory_mb``, and ``diverged`` (why and when a stream
        ended early, or None).
    """
    settings, hyper = job["settings"], job["hyperparameters"]
    every_setting = joined(settings, hyper, {"split": job["split"]})
    n_edits, n_sequences = settings["n_edits"], settings["n_sequences"]
    frozen = read_before(job, states, before)
    model = open_model(job, states, frozen["tokens"], frozen["way"])
    method = load_method(settings["method"])
    per_step = method.stream_training != "in_batches"
    editor = make_editor(settings, hyper, model, settings["bp_steps"] if per_step else 1)
    # What was measured before editing stands for the model and the rows that it was measured on.
    start = checksum({**frozen, "states": frozen["states"]["sha256"]})
    splits = load_requests(job["dataset"], job["dataset_spec"], job["seed"])
    requests = rows_of(job, splits, job["split"], n_edits * n_sequences)
    reported = job["split"] == "eval"  # the search does not look at the text
    check_rows(job, splits, len(requests), before, frozen, held_out=reported)
    parts = cut(requests, n_edits)
    identity = {"job": job, "before": start}
    answers = frozen["unedited_answers"][job["split"]]
    stream = Stream(editor, model, checkpoint, identity, answers)

    diverged = None
    try:
        if not stream.resume():
            with stream.clock.phase("train"):
                stream.record["training"] = train(job, model, editor, splits)
            stream.points.append(_unedited(frozen, job["split"], n_edits * n_sequences))
            stream.save()
        measure_at = measuring_points(n_sequences, settings["points"])
        text_at = text_points(measure_at) if reported else []
        stream.run(parts, settings["bp_steps"], hyper["minibatch"], measure_at, text_at)
    except DivergedError as error:
        log.warning("the stream ends here: %s", error)
        diverged = {"batches": stream.done, "why": str(error)}
    return {
        "settings": every_setting,
        "environment": environment(job, model),
        "training": stream.record.get("training", []),
        "points": stream.points or [_unedited(frozen, job["split"], n_edits * n_sequences)],
        "seconds": stream.clock.seconds,
        "memory_mb": peak_memory_mb(model.device),
        "diverged": diverged,
    }


def measuring_points(n_sequences: int, points: int) -> list[int]:
    """After how many batches a stream is measured: evenly spread, the last batch included."""
    return sorted({-(-n_sequences * i // points) for i in range(1, points + 1)})


def text_points(measure_at: list[int]) -> list[int]:
    """Every second measured point, the last included: the held-out text costs more than scores."""
    return measure_at[::-2]


def train(job: Mapping[str, Any], model: Any, editor: Any, splits: Any) -> list[dict[str, Any]]:
    """Train as the method asks for; nothing for a method that needs no training.

    Returns
    -------
    list of dict
        Per batch, what the training measured, JSON-ready.
    """
    settings, hyper = job["settings"], job["hyperparameters"]
    how = editor.method.stream_training
    if how == "none" or not settings["passes"]:
        return []
    n_edits = settings["n_edits"]
    rows = rows_of(job, splits, "train", n_edits * settings["train_sequences"])
    batches = [edit_batch(p, model.tokenizer, hyper["minibatch"]) for p in cut(rows, n_edits)]
    shared = {k: hyper[k] for k in ("meta_lr", "loc_coef", "reg_coef", "max_grad_norm")}
    if how == "in_sequence":
        sequence = {k: hyper[k] for k in ("reg_power", "back_depth", "time_decay")}
        training = SequenceSettings(**shared, **sequence, passes=settings["passes"])
        steps = train_in_sequence(editor, model, batches, settings["bp_steps"], training)
        return [dataclasses.asdict(step) for step in steps]
    training = TrainingSettings(
        **shared, adam_repeats=settings["adam_repeats"], train_from="original"
    )
    steps = meta_train(editor, model, batches * settings["passes"], settings["bp_steps"], training)
    return [dataclasses.asdict(step) for step in steps]


def _unedited(before: Mapping[str, Any], split: str, n_requests: int) -> dict[str, Any]:
    """The point before the first edit: the scores of all requests of the stream."""
    rows = [RowScore(**row) for row in before["unedited"][split] if row["request"] < n_requests]
    return {
        "n_sequences": 0,
        "scores": by_request(rows),
        "held_out": before["held_out"],
        "change_norm": 0.0,
        "edit_seconds": 0.0,
        "memory_mb": None,
    }
