"""The one kind of run: an editor is trained once, and measured on the way in all that is asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from smedit.data.facts import EditRequest, Splits
from smedit.data.readers import load_requests
from smedit.engine.editor import Editor
from smedit.engine.language_model import LanguageModel
from smedit.engine.memory import peak_memory_mb
from smedit.errors import DivergedError, UserError
from smedit.methods import WITHOUT_NETWORK
from smedit.plan.settings import PARTS
from smedit.run.before import check_rows, describe_rows, read_before
from smedit.run.checkpoint import Checkpoint, State
from smedit.run.earlier import Earlier
from smedit.run.evaluate import PROTOCOLS, Bench
from smedit.run.opening import (
    AnyEditor,
    cut,
    environment,
    make_editor,
    network_per_step,
    open_model,
    parts_named,
    rows_of,
)
from smedit.run.training import Training
from smedit.store.records import Evaluated, Point
from smedit.store.results import checksum
from smedit.store.sources import engine_checksum

log = logging.getLogger("smedit")


def run(
    job: Mapping[str, Any],
    states: Path,
    before: Path,
    checkpoint: Path,
    kept: Path,
    earlier: Path,
) -> dict[str, Any]:
    """Train an editor and measure what is asked of it; go on from a checkpoint if there is one.

    Parameters
    ----------
    job
        ``settings`` and ``asked``: every field of `smedit.plan.settings.Settings`, and of
        `Measurement` for each thing that is asked; ``model_spec``, ``model_folder``,
        ``dataset_spec``, ``device``, ``identity``, ``keep_editor``.
    states, before
        What `freeze` wrote for the model and the dataset.
    checkpoint
        The file that holds the state while the run is under way. The caller removes it once the
        result is safe.
    kept
        Where the last state stays if the editor is to be kept. From one that is there the run goes
        on, too: what it measured is not measured again.
    earlier
        A result of this run that holds less, if there is one. What it measured is not measured
        again, unless training goes otherwise now; where the editor is to be kept, it is not used.

    Returns
    -------
    dict
        JSON-ready; `docs/architecture.md` describes it.
    """
    settings, asked = job["settings"], job["asked"]
    _check(settings, asked)
    frozen = read_before(job, states, before)
    start = time.perf_counter()
    model = open_model(job, states, frozen["tokens"], frozen["way"])
    known_states = len(model.states)
    record = _Record({"load": time.perf_counter() - start}, {"load": peak_memory_mb(model.device)})
    splits = load_requests(settings["dataset"], job["dataset_spec"], settings["seed"])
    _check_rows(settings, asked, splits, before, frozen)

    made = {"run": job["identity"], "settings": settings, "engine": engine_checksum()}
    identities = {
        # What was measured before editing stands for the rows that it was measured on.
        checkpoint: {**made, "before": [frozen["rows"], frozen["states"]["sha256"]]},
        # Where more rows are frozen since, those that an editor has seen are the same.
        kept: {**made, "way": frozen["way"], "rows": _all_rows(splits, job["keep_editor"], kept)},
    }
    saved = Checkpoint(identities, model.device)
    largest = max(m["train_batches"] for m in asked) if settings["training"] != "none" else 0
    # A state that was saved may be of more batches than are asked for now.
    known = -(-saved.value("training", "trained", 0) // settings["passes"])
    n_rows = settings["n_edits"] * max(largest, known)
    rows = rows_of(settings["dataset"], splits, "train", n_rows)
    saved.add("record", record)
    left = [m for m in asked if _key(m) not in record.evaluations]
    bench = Bench(model, settings["minibatch"], frozen, keep_traces=len(left) > 1)
    measuring = _Measuring(settings, model, splits, rows, bench, record, saved)
    here = {"environment": environment(model), "engine": made["engine"]}
    alike = {**here, "identity": job["identity"], "settings": settings}
    held = Earlier(earlier if not job["keep_editor"] else None, alike, measuring.unedited)
    measuring.all_of([m for m in left if _key(m) not in held.evaluations])
    held.compare(measuring.longest.steps)
    record.evaluations = held.evaluations | record.evaluations
    measuring.all_of([m for m in asked if _key(m) not in record.evaluations])
    saved.parts["training"] = longest = measuring.longest
    trained = (longest.steps, longest.seconds), (held.steps, held.seconds)
    steps, record.seconds["train"] = max(trained, key=lambda each: len(each[0]))
    record.memory_mb["evaluate"] = peak_memory_mb(model.device)
    if job["keep_editor"] and record.diverged is None:
        saved.save(kept)
    computed = len(model.states) - known_states
    if computed:
        log.info("%d sequences were not among the frozen states and were computed", computed)
    return {
        "asked": asked,
        "settings": settings,
        "dataset_spec": job["dataset_spec"],
        "splits": {split: describe_rows(splits.parts[split]) for split in ("tune", "eval")},
        "chosen": job.get("chosen"),
        "identity": job["identity"],
        **here,
        "training": [s for s in steps if s["batch"] <= largest * settings["passes"]],
        "evaluations": [record.evaluations[_key(m)] for m in asked],
        "seconds": record.seconds,
        "memory_mb": record.memory_mb,
        "diverged": record.diverged,
    }


class _Measuring:
    """A run under way: its editor is trained up to where it is measured, and on from there.

    Attributes
    ----------
    longest
        The training that went furthest: one that goes on from a saved state may have to begin
        again, for a measurement of fewer batches.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        model: LanguageModel,
        splits: Splits,
        rows: Sequence[EditRequest],
        bench: Bench,
        record: _Record,
        saved: Checkpoint,
    ) -> None:
        self.settings, self.model, self.splits, self.rows = settings, model, splits, rows
        self.bench, self.record, self.saved = bench, record, saved
        self.longest = self.training = self._training()
        saved.add("training", self.training)

    def _training(self) -> Training:
        return Training(
            make_editor(self.settings, self.model), self.model, self.settings, self.rows
        )

    def all_of(self, left: Sequence[Mapping[str, Any]]) -> None:
        """Measure, in the order of training."""
        passes = self.settings["passes"]
        if any(m["train_batches"] * passes < self.training.done for m in left):
            self.training = self.saved.parts["training"] = self._training()
        for number, measurement in enumerate(sorted(left, key=lambda m: m["train_batches"]), 1):
            log.info("measurement %d of %d: %s", number, len(left), _described(measurement))
            self.record.evaluations[_key(measurement)] = self._evaluated(measurement)
            if number < len(left) and self.record.diverged is None:
                self.saved.save()
        self.longest = max(self.longest, self.training, key=lambda each: each.done)

    def _evaluated(self, measurement: Mapping[str, Any]) -> Evaluated:
        record, saved, key = self.record, self.saved, _key(measurement)
        if record.diverged is None:
            _train(self.training, measurement["train_batches"], record, saved)
        record.memory_mb["train"] = peak_memory_mb(self.model.device)
        if record.diverged is not None:
            return _not_made(measurement, self.unedited(measurement), record.diverged)
        editor = _as_it_edits(self.training.editor(), measurement, self.settings, self.model)
        parts = cut(_scored(self.settings, measurement, self.splits), self.settings["n_edits"])
        evaluation = PROTOCOLS[measurement["protocol"]](self.bench, measurement, editor, parts)
        saved.add(key, evaluation)
        evaluated = evaluation.run(saved)
        saved.remove(key)
        return evaluated

    def unedited(self, measurement: Mapping[str, Any]) -> Point:
        """The point of a measurement before the first edit."""
        sequential = measurement["protocol"] == "sequential" and measurement["rows"] == "eval"
        count = n_requests(self.settings, measurement)
        return self.bench.unedited(measurement["rows"], count, sequential)


def _as_it_edits(
    editor: AnyEditor,
    measurement: Mapping[str, Any],
    settings: Mapping[str, Any],
    model: LanguageModel,
) -> AnyEditor:
    """An editor with the parts and the step size that a measurement asks for."""
    if not isinstance(editor, Editor):
        return editor
    if measurement["edit_parts"] != "all":
        others = set(PARTS) - parts_named(measurement["edit_parts"])
        untrained = make_editor(settings, model)
        assert isinstance(untrained, Editor)  # as that one
        editor = editor.with_parts_of(untrained, others)
    step_size = measurement["edit_lr"]
    return editor if step_size is None else editor.with_step_size(step_size)


@dataclass
class _Record:
    """What a run has measured so far; a part of its state."""

    seconds: dict[str, float]
    memory_mb: dict[str, float]
    evaluations: dict[str, Evaluated] = field(default_factory=dict)
    diverged: str | None = None

    def state(self) -> State:
        return {}, {"evaluations": self.evaluations, "diverged": self.diverged}

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        del tensors
        self.evaluations, self.diverged = values["evaluations"], values["diverged"]


def _train(training: Training, n_batches: int, record: _Record, saved: Checkpoint) -> None:
    try:
        for _ in training.up_to(n_batches):
            saved.save_now_and_then()
    except DivergedError as error:
        log.warning("training ends here: %s", error)
        record.diverged = str(error)


def _not_made(measurement: Mapping[str, Any], unedited: Point, why: str) -> Evaluated:
    """An evaluation that training did not get to."""
    return {
        "measurement": dict(measurement),
        "diverged": {"why": why, "batches": 0, "stage": 1},
        "points": [unedited],
        "says": {},
        "generated": [],
        "seconds": {},
    }


def _all_rows(splits: Splits, keep_editor: bool, kept: Path) -> dict[str, Any]:
    """What a dataset holds; hashed only where an editor is or will be kept."""
    if not (keep_editor or kept.exists()):
        return {}
    return {split: describe_rows(rows) for split, rows in splits.parts.items()}


def n_requests(settings: Mapping[str, Any], measurement: Mapping[str, Any]) -> int:
    """How many requests a measurement scores."""
    if measurement["protocol"] == "batch":
        return measurement["n_requests"]
    return measurement["n_batches"] * settings["n_edits"]


def _scored(
    settings: Mapping[str, Any], measurement: Mapping[str, Any], splits: Splits
) -> Sequence[Any]:
    count = n_requests(settings, measurement)
    return rows_of(settings["dataset"], splits, measurement["rows"], count)


def _check_rows(
    settings: Mapping[str, Any],
    asked: Sequence[Mapping[str, Any]],
    splits: Splits,
    before: Path,
    frozen: Mapping[str, Any],
) -> None:
    scored: dict[str, int] = {}
    for m in asked:
        scored[m["rows"]] = max(scored.get(m["rows"], 0), len(_scored(settings, m, splits)))
    perplexity = any((m["protocol"], m["rows"]) == ("sequential", "eval") for m in asked)
    check_rows(settings["dataset"], splits, scored, before, frozen, perplexity)


def _check(settings: Mapping[str, Any], asked: Sequence[Mapping[str, Any]]) -> None:
    """What a plan sees to, and a person may not."""
    steps = max(m["edit_steps"] for m in asked)
    has_network = settings["shift_rule"] not in WITHOUT_NETWORK
    if network_per_step(settings) and has_network and steps > settings["bp_steps"]:
        raise UserError(
            f"edit_steps {steps} is more than bp_steps {settings['bp_steps']}, and each step has a "
            "network of its own; use fewer"
        )
    if settings["passes"] > 1 and len({m["train_batches"] for m in asked}) > 1:
        raise UserError(
            "with several passes an editor is measured at their end alone; ask for one number of "
            "train_batches"
        )


def _key(measurement: Mapping[str, Any]) -> str:
    return checksum(measurement)


def _described(measurement: Mapping[str, Any]) -> str:
    m = measurement
    size = f"step size {m['edit_lr']:g}, " if m["edit_lr"] is not None else ""
    return f"after {m['train_batches']} training batches, {size}{m['protocol']}, {m['rows']} rows"
