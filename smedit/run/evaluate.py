"""One measurement of an editor: rows are edited, batch by batch, and scored on the way.

Protocols: ``batch`` undoes an edited batch before the next; ``sequential`` undoes none, and scores
all requests edited so far at some points of the stream.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from smedit.data.facts import EditRequest
from smedit.engine.batches import TokenBatch, prompt_batch
from smedit.engine.clock import Clock
from smedit.engine.editor import Editor
from smedit.engine.generation import generate
from smedit.engine.held_out import HarmText, HeldOutText
from smedit.engine.in_context import InContext, in_context
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.locality import squared_norm
from smedit.engine.memory import memory_mb
from smedit.engine.scores import RowScore, Scorer, by_request
from smedit.engine.tracing import Trace, trace
from smedit.engine.training_state import named
from smedit.errors import DivergedError
from smedit.run.checkpoint import Checkpoint, State
from smedit.run.opening import AnyEditor
from smedit.store.records import Evaluated, Point

log = logging.getLogger("smedit")

TRACE_BYTES = 2**29
"""Traces at W₀ that are kept for batches that are edited again."""

Rows = Sequence[EditRequest]


@dataclass
class Bench:
    """What all evaluations of a run share.

    Attributes
    ----------
    model, minibatch
        The unedited model, and how many rows share one loss average.
    before
        What `freeze` wrote: the unedited model's scores, answers and losses.
    keep_traces
        Whether batches are edited again, with the editor at another state.

    Each trace is kept with the seconds that it took: editing is timed as if each batch were traced
    each time, so that what is measured first and what comes later compare.
    """

    model: LanguageModel
    minibatch: int
    before: Mapping[str, Any]
    keep_traces: bool
    _traces: dict[tuple[str, int, int], tuple[Trace, float]] = field(default_factory=dict)
    _bytes: int = 0
    _texts: dict[str, HarmText] = field(default_factory=dict)

    def batch(self, requests: Rows) -> TokenBatch:
        """The edit prompts of some requests."""
        return prompt_batch([r.edit for r in requests], self.model.tokenizer, self.minibatch)

    def first_trace(self, rows: str, number: int, batch: TokenBatch) -> tuple[Trace | None, float]:
        """The trace of a batch at W₀, which no editor has a part in, and the seconds it took.

        None if it is not kept.
        """
        key = rows, number, len(batch.sequences)
        if self.keep_traces and key not in self._traces and self._bytes < TRACE_BYTES:
            clock = Clock(self.model.device)
            with clock.phase("trace"):
                traced = trace(self.model, batch, {})
            self._traces[key] = traced, clock.seconds["trace"]
            tensors = [*traced.keys.values(), *traced.gradients.values()]
            self._bytes += sum(tensor.nbytes for tensor in tensors)
        return self._traces.get(key, (None, 0.0))

    def harm(self, rows: str) -> HarmText:
        """The text beside these rows."""
        if rows not in self._texts:
            self._texts[rows] = HarmText(self.model, rows)
        return self._texts[rows]

    def unedited(self, rows: str, n_requests: int, perplexity: bool) -> Point:
        """The point before the first edit."""
        scores = [RowScore(**r) for r in self.before["unedited"][rows] if r["request"] < n_requests]
        return {
            "stage": 0,
            "batches": 0,
            "scores": by_request(scores),
            "text": [self.before["text"][rows]],
            "perplexity": self.before["perplexity"] if perplexity else [],
            "change_norm": 0.0,
            "edit_seconds": 0.0,
            "memory_mb": None,
        }


class Evaluation:
    """One measurement under way. Its state can be saved between batches.

    Parameters
    ----------
    bench, measurement
        What is shared, and the fields of `smedit.plan.settings.Measurement`.
    editor
        As it is to edit; its normalizers go on learning.
    parts
        The rows, in batches.
    """

    def __init__(
        self,
        bench: Bench,
        measurement: Mapping[str, Any],
        editor: AnyEditor,
        parts: Sequence[Rows],
    ) -> None:
        self.bench, self.measurement, self.editor, self.parts = bench, measurement, editor, parts
        self.model, self.rows = bench.model, measurement["rows"]
        self.answers = bench.before["unedited_answers"][self.rows]
        self.harm = bench.harm(self.rows)
        self.clock = Clock(bench.model.device)
        n_requests = sum(map(len, parts))
        sequential = measurement["protocol"] == "sequential"
        self.points = [bench.unedited(self.rows, n_requests, sequential and self.rows == "eval")]
        self.done = 0
        self.steps = measurement["edit_steps"]
        self.ended: dict[str, Any] | None = None
        self.says: dict[str, Any] = {}
        self.generated: list[dict[str, Any]] = []

    def run(self, checkpoint: Checkpoint) -> Evaluated:
        """Edit and measure what is not done yet; what the result holds of it."""
        try:
            while self.done < len(self.parts):
                n_points = len(self.points)
                self._next()
                if self.done < len(self.parts):
                    checkpoint.save_now_and_then(measured=len(self.points) > n_points)
        except DivergedError as error:
            log.warning("this measurement ends here: %s", error)
            self.ended = {"why": str(error), "batches": self.done, "stage": 1}
        return {
            "measurement": dict(self.measurement),
            "diverged": self.ended,
            "points": self._points(),
            "says": {} if self.ended else self.says,
            "generated": [] if self.ended else self.generated,
            "seconds": self.clock.seconds,
        }

    def _next(self) -> None:
        raise NotImplementedError

    def _points(self) -> list[Point]:
        return self.points

    def _edits(self, number: int, start: Shifts) -> Iterator[tuple[int, Shifts]]:
        """The stages of editing a batch: after which step, and the change of the weights since W₀.

        Without a hypernetwork there is one.
        """
        batch, steps = self.bench.batch(self.parts[number]), self.steps
        stages: Sequence[int] = [steps]
        if isinstance(self.editor, Editor):
            first, stages = None, range(1, steps + 1)
            if not start:
                first, seconds = self.bench.first_trace(self.rows, number, batch)
                self.clock.seconds["edit"] = self.clock.seconds.get("edit", 0.0) + seconds
            edits = self.editor.edit(self.model, batch, steps, start, first)
        else:
            edits = self.editor.edit(self.model, batch, steps, start)
        for stage in stages:
            with self.clock.phase("edit"):
                shifts = next(edits)
            yield stage, shifts

    def _scored(self, first: int, requests: Rows, shifts: Shifts) -> tuple[Scorer, list[RowScore]]:
        with self.clock.phase("score"):
            answers = self.answers[first : first + len(requests)]
            scorer = Scorer(self._asked(requests), self.model.tokenizer, answers)
            return scorer, scorer.score(self.model, shifts)

    def _text(self, shifts: Shifts) -> list[tuple[float, float, int]]:
        with self.clock.phase("held-out text"):
            return self.harm.measure(shifts)

    def _answer(self, requests: Rows, shifts: Shifts) -> None:
        """What the edited model says of its own accord."""
        sample = requests[: self.measurement["generate"]] if self.rows == "eval" else []
        if sample:
            with self.clock.phase("generate"):
                tokenizer = self.model.tokenizer.whole
                self.generated = generate(self.model, shifts, self._asked(sample), tokenizer)

    def _asked(self, requests: Rows) -> Rows:
        """The prompts as the edited model gets them."""
        if isinstance(self.editor, InContext):
            return [in_context(request) for request in requests]
        return requests


class BatchEvaluation(Evaluation):
    """Every batch from W₀, with the editor as it was trained; each of its steps is scored.

    What is chosen by needs the last step alone. A step that diverges on any batch is measured on
    none; those before it are.
    """

    _KEPT = ("done", "steps", "ended", "says", "generated", "_stages")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._trained = {k: v.clone() for k, v in self.editor.named_buffers()}
        self._stages: dict[str, list[dict[str, Any]]] = {}

    def _next(self) -> None:
        part, steps = self.parts[self.done], self.measurement["edit_steps"]
        whole = 0
        first = sum(map(len, self.parts[: self.done]))
        set_buffers(self.editor, self._trained)
        measured: dict[str, dict[str, Any]] = {}
        before = self.clock.seconds.get("edit", 0.0)
        try:
            for stage, shifts in self._edits(self.done, {}):
                seconds = self.clock.seconds["edit"] - before
                if stage < steps and self.rows == "tune":
                    continue
                scorer, rows = self._scored(first, part, shifts)
                measured[str(stage)] = {
                    "scores": by_request(rows),
                    "text": self._text(shifts),
                    "change_norm": change_norm(shifts),
                    "edit_seconds": seconds,
                }
                whole = stage
        except DivergedError as error:
            why = f"batch {self.done + 1}: {error}"
            if not whole:
                raise DivergedError(why) from error
            log.warning("step %d and what comes after it are left out: %s", whole + 1, why)
            self.steps = whole
            self.ended = {"why": why, "batches": self.done, "stage": whole + 1}
        if self.steps == steps:
            for name, values in scorer.says().items():
                self.says.setdefault(name, []).extend(values)
            if self.done == 0:
                self._answer(part, shifts)
        for key, point in measured.items():
            self._stages.setdefault(key, []).append(point)
        self.done += 1
        log.info("edited and scored batch %d/%d", self.done, len(self.parts))

    def _points(self) -> list[Point]:
        if self.done < len(self.parts):  # it diverged: no stage is complete
            return self.points
        return self.points + [
            {
                "stage": int(stage),
                "batches": self.done,
                "scores": joined(
                    [len(part) for part in self.parts], [b["scores"] for b in batches]
                ),
                "text": [batch["text"] for batch in batches],
                "perplexity": [],
                "change_norm": sum(batch["change_norm"] for batch in batches) / self.done,
                "edit_seconds": sum(batch["edit_seconds"] for batch in batches),
                "memory_mb": None,
            }
            for stage, batches in self._stages.items()
            if int(stage) <= self.steps
        ]

    def state(self) -> State:
        """See `smedit.run.checkpoint.Part`; the editor is that of the run's training."""
        values = {name: getattr(self, name) for name in self._KEPT}
        return {}, {**values, "seconds": self.clock.seconds}

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Go on from there."""
        del tensors
        self.clock.seconds = values["seconds"]
        for name in self._KEPT:
            setattr(self, name, values[name])


class SequentialEvaluation(Evaluation):
    """Batch after batch, none undone: a stream of edits, measured at some of its points."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._total: dict[str, torch.Tensor] = {}
        self._measure_at = measuring_points(len(self.parts), self.measurement["points"])
        self._perplexity_at = perplexity_points(self._measure_at) if self.rows == "eval" else []
        self._whole_text: HeldOutText | None = None

    def _next(self) -> None:
        number = self.done + 1
        try:
            for _, shifts in self._edits(self.done, self._total):
                last = shifts
            if number in self._measure_at:
                self.points.append(self._measured(number, last))
        except DivergedError as error:
            raise DivergedError(f"batch {number} of the stream: {error}") from error
        self._total, self.done = dict(last), number

    def _measured(self, number: int, shifts: Shifts) -> Point:
        edited = [request for part in self.parts[:number] for request in part]
        scorer, rows = self._scored(0, edited, shifts)
        text, losses = self._text(shifts), []
        if number in self._perplexity_at:
            with self.clock.phase("held-out text"):
                self._whole_text = self._whole_text or HeldOutText(self.model)
                losses = self._whole_text.losses(shifts)
        norm = change_norm(shifts)
        if number == len(self.parts):
            self.says = scorer.says()
            self._answer(self.parts[0], shifts)
        log.info("%d batches edited and scored, change of the weights %.2f", number, norm)
        return {
            "stage": self.measurement["edit_steps"],
            "batches": number,
            "scores": by_request(rows),
            "text": [text],
            "perplexity": losses,
            "change_norm": norm,
            "edit_seconds": self.clock.seconds["edit"],
            "memory_mb": memory_mb(self.model.device),
        }

    def state(self) -> State:
        """See `smedit.run.checkpoint.Part`; the editor's weights are those of the training."""
        tensors = {f"buffer.{k}": v for k, v in self.editor.named_buffers()}
        tensors |= {f"shift.{k}": v for k, v in self._total.items()}
        values = {name: getattr(self, name) for name in ("done", "points", "says", "generated")}
        return tensors, {**values, "seconds": self.clock.seconds}

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Go on from there."""
        set_buffers(self.editor, named(tensors, "buffer."))
        self._total = named(tensors, "shift.")
        self.clock.seconds = values["seconds"]
        for name in ("done", "points", "says", "generated"):
            setattr(self, name, values[name])


PROTOCOLS: dict[str, type[BatchEvaluation | SequentialEvaluation]] = {
    "batch": BatchEvaluation,
    "sequential": SequentialEvaluation,
}
"""Protocol → how it is measured."""


def measuring_points(n_batches: int, points: int) -> list[int]:
    """After how many batches a stream is measured: evenly spread, the last batch included."""
    return sorted({-(-n_batches * i // points) for i in range(1, points + 1)})


def perplexity_points(measure_at: list[int]) -> list[int]:
    """Every second measured point, the last included: the whole text costs more than scores."""
    return measure_at[::-2]


def set_buffers(editor: AnyEditor, values: Mapping[str, torch.Tensor]) -> None:
    """Let an editor's normalizers have seen what they had seen when these were their values."""
    for name, buffer in editor.named_buffers():
        buffer.copy_(values[name])


def change_norm(shifts: Shifts) -> float:
    """Frobenius norm of a change of the weights.

    Raises
    ------
    DivergedError
        If it is not finite.
    """
    norm = squared_norm(shifts.values()).sqrt().item() if shifts else 0.0
    if not math.isfinite(norm):
        raise DivergedError("the change of the weights is beyond float32; try a smaller lr")
    return norm


def joined(sizes: Sequence[int], batches: Sequence[Sequence[Mapping[str, Any]]]) -> list[Any]:
    """The scores of several batches as those of one, request after request.

    Parameters
    ----------
    sizes
        How many requests each batch has.
    batches
        What `by_request` gave for each. A score that a batch lacks has no values there.
    """
    keys = dict.fromkeys((s["metric"], s["score"]) for scores in batches for s in scores)
    whole = []
    for metric, score in keys:
        rows: list[list[float]] = []
        for size, scores in zip(sizes, batches, strict=True):
            found = (s["rows"] for s in scores if (s["metric"], s["score"]) == (metric, score))
            own: list[list[float]] = next(found, [])
            rows += [*own, *([] for _ in range(size - len(own)))]
        whole.append({"metric": metric, "score": score, "rows": rows})
    return whole
