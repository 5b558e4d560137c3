"""One cell of the grid → a result: scores, seconds per phase, peak memory, and its settings."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.data.contradictions import resolve
from smedit.data.facts import EditRequest
from smedit.data.readers import load_requests
from smedit.data.row_counts import row_counts
from smedit.engine.batches import EditBatch, edit_batch
from smedit.engine.clock import Clock
from smedit.engine.editor import Editor
from smedit.engine.held_out import HeldOutText, text_that_fits
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.memory import peak_memory_mb
from smedit.engine.meta_training import TrainingSettings, meta_train
from smedit.engine.scores import RowScore, Scorer, UneditedAnswers, by_request
from smedit.engine.self_test import way_of
from smedit.errors import DivergedError, UserError
from smedit.methods import load_method
from smedit.run.jobs import (
    FROZEN_FOR,
    LAYOUT,
    check_rows,
    cut,
    describe_rows,
    environment,
    make_editor,
    open_model,
    read_before,
    rows_of,
)
from smedit.store.files import fingerprint
from smedit.store.results import joined, write_result

log = logging.getLogger("smedit")


def freeze(job: Mapping[str, Any], states: Path, before: Path) -> None:
    """Do once what is the same for all cells of a model and a dataset.

    Parameters
    ----------
    job
        As in `open_model`, and ``dataset`` (name), ``dataset_spec``, ``seed``, ``minibatch``, and
        ``rows``: how many of the ``train``, ``tune`` and ``eval`` split, and ``held_out``: whether
        the held-out text, which streams need, must fit the model's context.
    states
        The safetensors file to write: what the frozen part of the model computes for every row.
    before
        The JSON file to write: the way to run the model, what the rows were, how many the dataset
        has and what was left out of it, the other file's fingerprint, token ids of every text, and
        the unedited model's scores of the ``tune`` and ``eval`` rows, its answers to their locality
        prompts and its losses on the held-out text.
    """
    model = open_model(job)
    splits = load_requests(job["dataset"], job["dataset_spec"], job["seed"])
    rows = {split: rows_of(job, splits, split, count) for split, count in job["rows"].items()}
    for split, part in rows.items():
        for tally in resolve(split, part, leave_out=False)[1]:
            log.warning("of the %d %s rows in use: %s", len(part), split, tally)
    described = {split: describe_rows(part) for split, part in rows.items()}
    batch = edit_batch(rows.pop("train"), model.tokenizer, job["minibatch"])
    sequences = [
        s for part in (batch.edit, batch.paraphrase, batch.locality) for s in part.sequences
    ]
    scorers = {split: Scorer(part, model.tokenizer) for split, part in rows.items() if part}
    for scorer in scorers.values():
        sequences += scorer.sequences
    text = text_that_fits(model, needed=job["held_out"])
    if text is not None:
        sequences += text.sequences
    if model.tokenizer.kept_apart:
        log.warning(
            "in %d texts the tokenizer would make one token of the prompt's end and the answer's "
            "beginning; they are kept apart",
            model.tokenizer.kept_apart,
        )
    start = time.perf_counter()
    group = 256
    for done in range(group, len(sequences) + group, group):
        model.freeze(sequences[done - group : done])
        share = min(done / len(sequences), 1)
        spent = time.perf_counter() - start
        log.info("%.0f %% of the rows, about %.0f s left", 100 * share, spent / share - spent)
    model.states.save(states)
    log.info("%d distinct sequences, %.1f MB", len(model.states), states.stat().st_size / 1e6)
    scores, answers = {}, {}
    for split, scorer in scorers.items():
        scored, answers[split] = scorer.score_unedited(model)
        scores[split] = [dataclasses.asdict(row) for row in scored]
    result = {
        "layout": LAYOUT,
        "way": way_of(model),
        "made_for": {key: job.get(key) for key in FROZEN_FOR},
        "rows": described,
        "dataset": row_counts(splits),
        "states": fingerprint(states),
        "tokens": model.tokenizer.as_json(),
        "kept_apart": model.tokenizer.kept_apart,
        "unedited": scores,
        "unedited_answers": answers,
        "held_out": text.losses({}) if text else [],
    }
    write_result(result, before, job)


def run_cell(job: Mapping[str, Any], states: Path, before: Path) -> dict[str, Any]:
    """Train and evaluate one cell.

    Parameters
    ----------
    job
        As in `open_model`, and ``dataset_spec``, ``split`` (``tune`` or ``eval``), ``eval_edits``
        (requests that are scored, in batches of ``n_edits``), ``settings`` (the columns of
        `smedit.plan.grid.CELL_COLUMNS`) and ``hyperparameters``.
    states, before
        What `freeze` wrote for the model and the dataset.

    Returns
    -------
    dict
        JSON-ready: ``settings``, ``environment``, ``training`` (per step), ``scores`` (per stage,
        metric and score: the values of each request's rows), ``held_out`` (per stage, the losses
        on the held-out text: of the unedited model, and once the first batch is edited),
        ``seconds``, ``memory_mb``, and ``diverged``: None, or why training or editing came to an
        end. Then there is what was measured of the unedited model alone, and what training measured
        if it was completed.
    """
    settings, hyper = job["settings"], job["hyperparameters"]
    part = {"split": job["split"], "eval_edits": job["eval_edits"]}
    every_setting = joined(settings, hyper, part)
    if not load_method(settings["method"]).for_batches:
        raise UserError(f"{settings['method']} edits in sequence only; use run-stream")
    n_edits, bp_steps = settings["n_edits"], settings["bp_steps"]
    seconds: dict[str, float] = {}
    frozen = read_before(job, states, before)
    start = time.perf_counter()
    model = open_model(job, states, frozen["tokens"], frozen["way"])
    seconds["load"] = time.perf_counter() - start
    memory = {"load": peak_memory_mb(model.device)}
    frozen_before = len(model.states)

    clock = Clock(model.device)
    splits = load_requests(job["dataset"], job["dataset_spec"], job["seed"])
    requests = rows_of(job, splits, job["split"], job["eval_edits"])
    check_rows(job, splits, len(requests), before, frozen)
    train = rows_of(job, splits, "train", n_edits * settings["train_batches"])
    batches = [_edit_batch(part, model, hyper) for part in cut(train, n_edits)]
    editor = make_editor(settings, hyper, model)
    parts = cut(requests, n_edits)
    rows = [
        (0, RowScore(**row))
        for row in frozen["unedited"][job["split"]]
        if row["request"] < job["eval_edits"]
    ]
    steps, diverged = [], None
    # The search does not look at the text, and states may be made without it.
    text = HeldOutText(model) if job["split"] == "eval" and frozen["held_out"] else None
    held_out = {"0": frozen["held_out"]} if text else {}
    try:
        with clock.phase("train"):
            steps = meta_train(editor, model, batches, bp_steps, _training(settings, hyper))
        seconds["train"], memory["train"] = clock.seconds["train"], peak_memory_mb(model.device)
        answers = frozen["unedited_answers"][job["split"]]
        edited, losses = _evaluate(job, editor, model, parts, answers, text, clock)
        rows += edited
        if text:
            held_out[str(bp_steps)] = losses
            seconds["held-out text"] = clock.seconds["held-out text"]
        for name in ("edit", "score"):
            seconds[name] = clock.seconds[name] / len(parts)  # per batch of n_edits
        memory["evaluate"] = peak_memory_mb(model.device)
    except DivergedError as error:
        log.warning("the cell ends here: %s", error)
        diverged = str(error)
    computed = len(model.states) - frozen_before
    if computed:
        log.info("%d sequences were not among the frozen states and were computed", computed)
    return {
        "settings": every_setting | {"eval_edits": len(parts) * n_edits},
        "environment": environment(job, model),
        "training": [dataclasses.asdict(step) for step in steps],
        "scores": _aggregate(rows),
        "held_out": held_out,
        "seconds": seconds,
        "memory_mb": memory,
        "diverged": diverged,
    }


def _edit_batch(
    requests: Sequence[EditRequest], model: LanguageModel, hyper: Mapping[str, Any]
) -> EditBatch:
    return edit_batch(requests, model.tokenizer, hyper["minibatch"])


def _training(settings: Mapping[str, Any], hyper: Mapping[str, Any]) -> TrainingSettings:
    return TrainingSettings(
        meta_lr=hyper["meta_lr"],
        loc_coef=hyper["loc_coef"],
        reg_coef=hyper["reg_coef"],
        max_grad_norm=hyper["max_grad_norm"],
        adam_repeats=settings["adam_repeats"],
        train_from=settings["train_from"],
    )


def _evaluate(
    job: Mapping[str, Any],
    editor: Editor,
    model: LanguageModel,
    parts: Sequence[Sequence[EditRequest]],
    answers: UneditedAnswers,
    text: HeldOutText | None,
    clock: Clock,
) -> tuple[list[tuple[int, RowScore]], list[tuple[float, int]]]:
    """Scores with their stage of every batch, each edited on its own, from W₀.

    With them the losses on the text, if there is one, once the first batch is edited.
    """
    settings, hyper = job["settings"], job["hyperparameters"]
    trained = {name: value.clone() for name, value in editor.state_dict().items()}
    rows: list[tuple[int, RowScore]] = []
    losses: list[tuple[float, int]] = []
    for number, part in enumerate(parts):
        editor.load_state_dict(trained)
        first = number * settings["n_edits"]
        scorer = Scorer(part, model.tokenizer, answers[first : first + len(part)])
        batch = _edit_batch(part, model, hyper).edit
        edits = editor.edit(model, batch, settings["bp_steps"])
        try:
            scored, shifts = _edit_and_score(
                model, edits, scorer, settings["bp_steps"], job["split"] == "eval", clock
            )
            if text and number == 0:
                with clock.phase("held-out text"):
                    losses = text.losses(shifts)
        except DivergedError as error:
            raise DivergedError(
                f"{settings['method']}, eval batch {number + 1}: {error}"
            ) from error
        rows += [
            (stage, dataclasses.replace(row, request=row.request + first)) for stage, row in scored
        ]
        log.info("edited and scored batch %d/%d", number + 1, len(parts))
    return rows, losses


def _edit_and_score(
    model: LanguageModel,
    edits: Iterator[Shifts],
    scorer: Scorer,
    bp_steps: int,
    every_stage: bool,
    clock: Clock,
) -> tuple[list[tuple[int, RowScore]], Shifts]:
    """Scores with their stage, s after backpropagation step s, and the shifts after the last.

    The search needs the last stage alone.
    """
    scored: list[tuple[int, RowScore]] = []
    for stage in range(1, bp_steps + 1):
        with clock.phase("edit"):
            shifts = next(edits)
        if every_stage or stage == bp_steps:
            with clock.phase("score"):
                scored += [(stage, row) for row in scorer.score(model, shifts)]
    return scored, shifts


def _aggregate(rows: Sequence[tuple[int, RowScore]]) -> list[dict[str, Any]]:
    """Per stage, metric and score: the row values by request, so that nothing is lost."""
    stages: dict[int, list[RowScore]] = {}
    for stage, row in rows:
        stages.setdefault(stage, []).append(row)
    return [
        {"stage": stage, **scores} for stage, mine in stages.items() for scores in by_request(mine)
    ]
