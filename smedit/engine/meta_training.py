"""Training batches → a trained editor (arXiv 2508.04012, sections 4.1 and 4.2).

The gradient is taken in two halves, so that the language model and the hypernetwork never share
one graph: the losses give ∂L/∂Δ in a detached leaf, then ∂L/∂Δ goes through the graph of Δ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from smedit.engine.batches import EditBatch
from smedit.engine.clock import Clock
from smedit.engine.editor import Editor, add_shifts
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.locality import squared_norm
from smedit.engine.losses import accumulate_edit_loss, accumulate_kl_loss, check_locality_prompts
from smedit.engine.tracing import Trace, trace
from smedit.engine.training_state import load_training_state, training_state
from smedit.errors import DivergedError

TRAINING_PHASES = ("trace", "shift", "edit loss", "locality loss", "hypernetwork update")


@dataclass(frozen=True)
class TrainingSettings:
    """What an experiment may vary in meta-training; the values live in ``config/``.

    Attributes
    ----------
    meta_lr
        Adam's learning rate.
    loc_coef
        Weight of the KL loss.
    reg_coef
        Weight of the norm loss.
    max_grad_norm
        The global gradient norm is clipped to this.
    adam_repeats
        How often each gradient is applied. The released code applies it ``bp_steps`` times,
        because it lists the shared hypernetwork's parameters once per step.
    train_from
        ``original``: every training step starts from W₀, as in the released code. ``current``:
        step s starts from W₀ + Δ_1 + … + Δ_{s−1}, as at editing time.
    """

    meta_lr: float
    loc_coef: float
    reg_coef: float
    max_grad_norm: float
    adam_repeats: int
    train_from: Literal["original", "current"]


@dataclass(frozen=True)
class TrainingStep:
    """What one training step (one batch, one backpropagation step) measured.

    Attributes
    ----------
    batch, bp_step
        Both count from 1.
    edit_loss, locality_loss
        Sums over minibatches; the locality loss with its coefficient.
    shift_norms
        Edit module name → Frobenius norm of the predicted shift.
    gradient_norm
        Global norm of the hypernetwork's gradient before the clip.
    seconds
        Phase → seconds.
    """

    batch: int
    bp_step: int
    edit_loss: float
    locality_loss: float
    shift_norms: dict[str, float]
    gradient_norm: float
    seconds: dict[str, float]


class BatchTrainer:
    """Trains an editor in place, batch by batch, each from W₀; may stop after any and go on.

    Parameters
    ----------
    editor
        Its method decides the shift rule and the locality loss.
    model
        The language model, which stays as it is.
    bp_steps
        Backpropagation steps S per batch; each is followed by a hypernetwork update.
    settings
        See `TrainingSettings`.

    Attributes
    ----------
    editor
        As it is trained by now.
    done
        Batches trained on.
    """

    def __init__(
        self, editor: Editor, model: LanguageModel, bp_steps: int, settings: TrainingSettings
    ) -> None:
        self.editor = editor
        self.done = 0
        self._model = model
        self._bp_steps = bp_steps
        self._settings = settings
        self._optimizer = torch.optim.Adam(editor.parameters(), lr=settings.meta_lr, fused=True)

    def train_on(self, batch: EditBatch) -> list[TrainingStep]:
        """Train on the next batch.

        Raises
        ------
        DivergedError
            If a loss, gradient or shift is not finite; names method, batch and step.
        """
        model, steps = self._model, []
        traced: Trace | None = None
        base: dict[str, torch.Tensor] = {}
        self.done += 1
        for bp_step in range(1, self._bp_steps + 1):
            clock = Clock(model.device)
            # From W₀ every step of a batch has the same trace: it does not see the hypernetwork.
            from_original = self._settings.train_from == "original"
            if traced is None or not (model.execution.share_trace and from_original):
                with clock.phase("trace"):
                    traced = trace(model, batch.edit, base)
            try:
                step, shifts = _update(
                    *(self.editor, model, batch, traced, bp_step, base),
                    *(self._optimizer, self._settings, clock),
                )
            except DivergedError as error:
                name = self.editor.method.name
                where = f"{name}, training batch {self.done}, step {bp_step}"
                raise DivergedError(f"{where}: {error}") from error
            if not from_original:
                base = add_shifts(base, shifts)
            steps.append(TrainingStep(self.done, bp_step, *step, clock.seconds))
        return steps

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything that the next batch depends on: tensors, and JSON-ready values."""
        self._optimizer.zero_grad()  # gradients that have been applied are no part of it
        return training_state(self.editor, self._optimizer), {"done": self.done}

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        load_training_state(self.editor, self._optimizer, tensors)
        self.done = values["done"]


def meta_train(
    editor: Editor,
    model: LanguageModel,
    batches: Sequence[EditBatch],
    bp_steps: int,
    settings: TrainingSettings,
) -> list[TrainingStep]:
    """Train an editor in place on batches of edit requests, one pass; see `BatchTrainer`.

    Raises
    ------
    DivergedError
        If a loss, gradient or shift is not finite; names method, batch and step.
    UserError
        If KL lacks a locality prompt; see `check_locality_prompts`.
    """
    check_locality_prompts(editor.method.locality, batches)
    trainer = BatchTrainer(editor, model, bp_steps, settings)
    return [step for batch in batches for step in trainer.train_on(batch)]


def _update(
    editor: Editor,
    model: LanguageModel,
    batch: EditBatch,
    traced: Trace,
    bp_step: int,
    base: Shifts,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    clock: Clock,
) -> tuple[tuple[float, float, dict[str, float], float], dict[str, torch.Tensor]]:
    """Predict shifts, take both halves of the gradient, update the hypernetwork."""
    with clock.phase("shift"):
        shifts = editor.predict(traced, bp_step)
        leaves = {name: shift.detach().requires_grad_() for name, shift in shifts.items()}

    with clock.phase("edit loss"):
        edit_loss = accumulate_edit_loss(model, batch.paraphrase, add_shifts(base, leaves))
    locality_loss = 0.0
    with clock.phase("locality loss"):
        if editor.method.locality == "kl":
            locality_loss = accumulate_kl_loss(
                model, batch.locality, {}, add_shifts(base, leaves), settings.loc_coef
            )
        elif editor.method.locality == "norm":
            norm = settings.reg_coef * squared_norm(add_shifts(base, leaves).values())
            norm.backward()
            locality_loss = norm.item()

    with clock.phase("hypernetwork update"):
        optimizer.zero_grad()
        torch.autograd.backward(list(shifts.values()), [leaf.grad for leaf in leaves.values()])
        norm = torch.nn.utils.clip_grad_norm_(editor.parameters(), settings.max_grad_norm).item()
        measured = {"edit loss": edit_loss, "locality loss": locality_loss, "gradient norm": norm}
        for name, value in measured.items():
            if not torch.tensor(value).isfinite():
                raise DivergedError(f"non-finite {name} ({value}); try a smaller lr or coefficient")
        for _ in range(settings.adam_repeats):
            optimizer.step()

    detached = {name: leaf.detach() for name, leaf in leaves.items()}
    shift_norms = {name: shift.norm().item() for name, shift in detached.items()}
    return (edit_loss, locality_loss, shift_norms, norm), detached
