"""One piece of work on one path: a training batch, or an edit batch that is edited and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from smedit.benchmark.table import PATHS, label_of
from smedit.data.facts import EditRequest
from smedit.engine.batches import EditBatch, TokenBatch, edit_batch, token_batch
from smedit.engine.clock import Clock
from smedit.engine.editor import Editor
from smedit.engine.execution import Execution, plain
from smedit.engine.language_model import LanguageModel
from smedit.engine.meta_training import TrainingSettings, TrainingStep, meta_train
from smedit.engine.scores import Scorer
from smedit.engine.tokenization import TokenizedPrompt
from smedit.errors import UserError
from smedit.methods import Locality, load_method

TRAINING, EDITING = "training batch", "edit and score"
"""The two pieces of work that are timed."""

COMPARED_ROWS = 8
"""Requests whose edited logits are compared between paths."""

PARAMETER_TOLERANCE, SCORE_TOLERANCE = 0.1, 0.02
"""For what rounding alone may move far; a wrong gradient moves it by more."""


def paths(minibatch: int) -> dict[str, Execution]:
    """Name the plain path, each saving added to those before it, and the fast path with all."""
    slow = plain(minibatch)
    executions = (
        slow,
        dataclasses.replace(slow, frozen_once=True),
        dataclasses.replace(slow, frozen_once=True, prompts_apart=True, answers_only=True),
        Execution(share_trace=False),
        Execution(),
    )
    return dict(zip(PATHS, executions, strict=True))


@dataclass(frozen=True)
class Variant:
    """A method with its number of steps and its locality loss."""

    method: str
    bp_steps: int
    locality: Locality

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Variant:
        """Read an entry of the settings; what it leaves out is the method's own."""
        default = load_method(entry["method"])
        return cls(
            entry["method"],
            entry.get("bp_steps", default.bp_steps),
            entry.get("locality", default.locality),
        )

    @property
    def label(self) -> str:
        """As in the tables of scores: ``MALMEN + MBPS``."""
        return label_of(self.method, self.bp_steps, self.locality)


class Work:
    """A training batch and the settings of its training, the same on every path.

    Parameters
    ----------
    model
        Its tokenizer is used.
    variant
        What is trained.
    requests
        The batch.
    hyperparameters
        As in a configuration.
    seed
        Seeds the editor.
    """

    def __init__(
        self,
        model: LanguageModel,
        variant: Variant,
        requests: Sequence[EditRequest],
        hyperparameters: Mapping[str, Any],
        seed: int,
    ) -> None:
        hyper = hyperparameters
        self.variant, self.seed, self.lr = variant, seed, hyper["lr"]
        self.batch: EditBatch = edit_batch(requests, model.tokenizer, hyper["minibatch"])
        self.training = TrainingSettings(
            meta_lr=hyper["meta_lr"],
            loc_coef=hyper["loc_coef"],
            reg_coef=hyper["reg_coef"],
            max_grad_norm=hyper["max_grad_norm"],
            adam_repeats=variant.bp_steps,
            train_from="original",
        )
        size = {key: hyper[key] for key in ("rank", "n_blocks") if key in hyper}
        self.method = dataclasses.replace(
            load_method(variant.method), locality=variant.locality, **size
        )

    @property
    def sequences(self) -> list[TokenizedPrompt]:
        """All that the model runs on."""
        parts = (self.batch.edit, self.batch.paraphrase, self.batch.locality)
        return [sequence for part in parts for sequence in part.sequences]

    def editor(self, model: LanguageModel) -> Editor:
        """Make a fresh editor, the same every time."""
        shapes = {name: model.shape(name) for name in model.edit_modules}
        return Editor(self.method, shapes, lr=self.lr, seed=self.seed).to(model.device)


class Evaluation:
    """A batch to edit, and what scores it. Parameters as for `Work`."""

    def __init__(
        self, model: LanguageModel, requests: Sequence[EditRequest], minibatch: int
    ) -> None:
        self.batch: TokenBatch = edit_batch(requests, model.tokenizer, minibatch).edit
        self.scorer = Scorer(requests, model.tokenizer)

    @property
    def sequences(self) -> list[TokenizedPrompt]:
        """All that the model runs on."""
        return [*self.batch.sequences, *self.scorer.sequences]


@dataclass(frozen=True)
class Run:
    """What one run through both pieces took, and what it computed.

    Attributes
    ----------
    seconds
        Piece → phase → seconds, summed over backpropagation steps.
    steps
        The training steps.
    learned
        Parameter of the hypernetwork → its change by training.
    shifts
        Edit module name → Δ (d_in, d_out) after the last editing step.
    logits
        (n, vocabulary) at answer tokens of a few edit requests, on W₀ + shifts.
    scores
        (metric, score) → mean over rows.
    """

    seconds: dict[str, dict[str, float]]
    steps: list[TrainingStep]
    learned: dict[str, torch.Tensor]
    shifts: dict[str, torch.Tensor]
    logits: torch.Tensor
    scores: dict[tuple[str, str], float]


def train_batch(model: LanguageModel, work: Work, editor: Editor) -> list[TrainingStep]:
    """Meta-train on one batch."""
    return meta_train(editor, model, [work.batch], work.variant.bp_steps, work.training)


def seconds_by_phase(steps: Sequence[TrainingStep]) -> dict[str, float]:
    """Phase → seconds, summed over steps."""
    seconds: dict[str, float] = {}
    for step in steps:
        for phase, spent in step.seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return seconds


def run(
    model: LanguageModel,
    work: Work,
    evaluation: Evaluation,
    execution: Execution,
    around: Callable[[str], AbstractContextManager[Any]] = lambda _: nullcontext(),
) -> Run:
    """Train a fresh editor on one batch, then edit n other requests with it and score them once.

    Parameters
    ----------
    model
        Opened; its execution is set.
    work, evaluation
        What to do.
    execution
        How forward passes are carried out.
    around
        Piece → a context to run it in.
    """
    model.execution = execution
    editor = work.editor(model)
    with around(TRAINING):
        steps = train_batch(model, work, editor)
    clock = Clock(model.device)
    with around(EDITING):
        with clock.phase("edit"):
            *_, shifts = editor.edit(model, evaluation.batch, work.variant.bp_steps)
        with clock.phase("score"):
            rows = evaluation.scorer.score(model, shifts)
    start = dict(work.editor(model).named_parameters())
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row.metric, row.score), []).append(row.value)
    return Run(
        seconds={TRAINING: seconds_by_phase(steps), EDITING: clock.seconds},
        steps=steps,
        learned={k: (v - start[k]).detach() for k, v in editor.named_parameters()},
        shifts={name: shift.detach() for name, shift in shifts.items()},
        logits=_edited_logits(model, evaluation, shifts),
        scores={key: sum(values) / len(values) for key, values in groups.items()},
    )


@torch.no_grad()
def _edited_logits(
    model: LanguageModel, evaluation: Evaluation, shifts: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    few = token_batch(evaluation.batch.sequences[:COMPARED_ROWS], minibatch=COMPARED_ROWS)
    return torch.cat([model.logits(chunk, shifts) for chunk in model.chunks(few)])


def differences(one: Run, other: Run) -> dict[str, float]:
    """Relative distances of two runs of the same work; scores: the largest absolute difference.

    Losses are compared relative to the edit loss: a KL loss near zero is mostly rounding.
    """
    pairs = list(zip(one.steps, other.steps, strict=True))
    losses, gradients, norms = [], [], []
    for a, b in pairs:
        losses += [
            abs(getattr(a, name) - getattr(b, name)) / a.edit_loss
            for name in ("edit_loss", "locality_loss")
        ]
        gradients.append(abs(a.gradient_norm - b.gradient_norm) / a.gradient_norm)
        norms += [abs(norm - b.shift_norms[name]) / norm for name, norm in a.shift_norms.items()]
    return {
        "training losses": max(losses),
        "gradient norms": max(gradients),
        "shift norms": max(norms),
        "learned parameters": _distance(one.learned, other.learned),
        "edited shifts": max(
            _distance({name: one.shifts[name]}, {name: other.shifts[name]}) for name in one.shifts
        ),
        "edited logits": _distance({"": one.logits.float()}, {"": other.logits.float()}),
        "scores": max(abs(value - other.scores[key]) for key, value in one.scores.items()),
    }


def check_agreement(found: Mapping[str, float], tolerance: float, what: str) -> None:
    """Refuse paths that do not compute the same.

    Parameters
    ----------
    found
        What `differences` gave.
    tolerance
        The largest that any may be, but for two that rounding alone may move further: learned
        parameters (Adam's first updates have one size however small a gradient is) and scores
        (an argmax may flip).
    what
        The two runs, for the message.

    Raises
    ------
    UserError
        If one is larger, or not a number.
    """
    for name, value in found.items():
        limit = {"learned parameters": PARAMETER_TOLERANCE, "scores": SCORE_TOLERANCE}.get(
            name, tolerance
        )
        if not value <= limit:
            raise UserError(
                f"{what}: {name} differ by {value:.2g}, more than {limit:g}; the paths must "
                "agree, so this is a bug in the engine (or a tolerance too small for the precision)"
            )


def _distance(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """Norm of the difference of all tensors together, relative to the norm of the first."""
    apart = sum((one[name] - other[name]).square().sum().item() for name in one)
    length = sum(value.square().sum().item() for value in one.values())
    return (apart / max(length, 1e-60)) ** 0.5
