"""A stream of training batches → a trained editor (arXiv 2508.04012, section 4; RLEdit).

The batches are edited one after another and never undone, as the stream that the editor is meant
for. Each backpropagation step has its own hypernetwork. The gradient is taken in two halves, as in
`smedit.engine.meta_training`: the losses give ∂L/∂W at the weights after a batch's last step, and
every step's network gets the gradient of ⟨∂L/∂W, Δ_s⟩ through the graph of its own Δ_s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from smedit.engine.batches import EditBatch
from smedit.engine.clock import Clock
from smedit.engine.editor import Editor, add_shifts
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.locality import squared_norm
from smedit.engine.losses import accumulate_edit_loss, accumulate_kl_loss, check_locality_prompts
from smedit.engine.tracing import trace
from smedit.engine.training_state import load_training_state, named, training_state
from smedit.errors import DivergedError


@dataclass(frozen=True)
class SequenceSettings:
    """What an experiment may vary in training on a stream; the values live in ``config/``.

    Attributes
    ----------
    meta_lr, loc_coef, max_grad_norm
        As in `smedit.engine.meta_training.TrainingSettings`. There are no repeated updates: every
        step's network has its own parameters, so the released code applies each gradient once.
    reg_coef, reg_power
        The norm loss is weighted by ``reg_coef ** reg_power``. The released code multiplies
        ``reg_coef`` in twice, so that its power is 2.
    back_depth, time_decay
        The loss keeps the latest ``back_depth`` batches; one of age a weighs ``time_decay ** a``.
    """

    meta_lr: float
    loc_coef: float
    reg_coef: float
    reg_power: int
    max_grad_norm: float
    back_depth: int
    time_decay: float


@dataclass(frozen=True)
class SequenceStep:
    """What the training on one batch of the stream measured.

    Attributes
    ----------
    training_pass, batch
        Pass and batch, both from 1.
    edit_loss, locality_loss
        Sums over minibatches and over the batches looked back on, with their coefficients.
    shift_norms
        Per backpropagation step: edit module name → Frobenius norm of the predicted shift.
    gradient_norms
        Per hypernetwork: global norm of all networks' gradients before the clip that follows its
        share.
    seconds
        Phase → seconds.
    """

    training_pass: int
    batch: int
    edit_loss: float
    locality_loss: float
    shift_norms: list[dict[str, float]]
    gradient_norms: list[float]
    seconds: dict[str, float]


class SequenceTrainer:
    """Trains an editor in place on a stream of batches; may stop after any batch and go on.

    Parameters
    ----------
    editor
        One hypernetwork per backpropagation step. Its method decides the shift rule and the
        locality loss. KL's reference is the model just before the batch's last shift (RLEdit); the
        norm is that of the whole change since W₀.
    model
        The language model, which stays as it is.
    bp_steps
        Backpropagation steps S per batch.
    settings
        See `SequenceSettings`.

    Attributes
    ----------
    editor
        As it is trained by now: updated once at the end of each pass.
    done, passes
        Batches of this pass that are trained on, and passes before it.
    """

    def __init__(
        self, editor: Editor, model: LanguageModel, bp_steps: int, settings: SequenceSettings
    ) -> None:
        self.editor = editor
        self.done = self.passes = 0
        self._model = model
        self._bp_steps = bp_steps
        self._settings = settings
        self._optimizer = torch.optim.Adam(editor.parameters(), lr=settings.meta_lr, fused=True)
        self._total: dict[str, torch.Tensor] = {}

    def train_on(self, recent: Sequence[EditBatch]) -> SequenceStep:
        """Train on the next batch of the stream.

        Parameters
        ----------
        recent
            The batch, and before it those that are looked back on; see `looked_back_on`.

        Raises
        ------
        DivergedError
            If a loss, gradient or shift is not finite; names method, pass and batch.
        """
        if self.done == 0:
            self._optimizer.zero_grad()
        self.done += 1
        try:
            self._total, measured = _train_on(
                self.editor, self._model, recent, self._total, self._bp_steps, self._settings
            )
        except DivergedError as error:
            name = self.editor.method.name
            where = f"{name}, training pass {self.passes + 1}, batch {self.done}"
            raise DivergedError(f"{where}: {error}") from error
        return SequenceStep(self.passes + 1, self.done, **measured)

    def end_pass(self) -> None:
        """Update the hypernetworks; the next pass starts from W₀."""
        self._optimizer.step()
        self._total, self.done, self.passes = {}, 0, self.passes + 1

    def forked(self) -> Editor:
        """The editor as it would be if its first pass ended here; this one stays as it is."""
        editor = deepcopy(self.editor)
        for copied, own in zip(editor.parameters(), self.editor.parameters(), strict=True):
            copied.grad = None if own.grad is None else own.grad.clone()
        torch.optim.Adam(editor.parameters(), lr=self._settings.meta_lr, fused=True).step()
        return editor

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything that the next batch depends on: tensors, and JSON-ready values."""
        tensors = training_state(self.editor, self._optimizer)
        tensors |= {f"total.{name}": shift for name, shift in self._total.items()}
        return tensors, {"done": self.done, "passes": self.passes}

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        load_training_state(self.editor, self._optimizer, tensors)
        self._total = named(tensors, "total.")
        self.done, self.passes = values["done"], values["passes"]


def looked_back_on(batches: Sequence[EditBatch], t: int, back_depth: int) -> Sequence[EditBatch]:
    """Batch t (from 0) with those before it that its loss keeps, the earliest first."""
    return batches[max(0, t + 1 - back_depth) : t + 1]


def train_in_sequence(
    editor: Editor,
    model: LanguageModel,
    batches: Sequence[EditBatch],
    bp_steps: int,
    settings: SequenceSettings,
    passes: int = 1,
) -> list[SequenceStep]:
    """Train an editor in place on a stream of batches; see `SequenceTrainer`.

    Raises
    ------
    DivergedError
        If a loss, gradient or shift is not finite; names method, pass and batch.
    UserError
        If KL lacks a locality prompt; see `check_locality_prompts`.
    """
    check_locality_prompts(editor.method.locality, batches)
    trainer = SequenceTrainer(editor, model, bp_steps, settings)
    steps: list[SequenceStep] = []
    for _ in range(passes):
        for t in range(len(batches)):
            steps.append(trainer.train_on(looked_back_on(batches, t, settings.back_depth)))
        trainer.end_pass()
    return steps


def _train_on(
    editor: Editor,
    model: LanguageModel,
    recent: Sequence[EditBatch],
    total: Shifts,
    bp_steps: int,
    settings: SequenceSettings,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Edit the last of the recent batches; add the gradient of its loss to the networks'.

    Returns the change of the weights since W₀ and what `SequenceStep` holds beside the place.
    """
    clock = Clock(model.device)
    predicted: list[dict[str, torch.Tensor]] = []
    before = total
    for bp_step in range(1, bp_steps + 1):
        before = total
        with clock.phase("trace"):
            traced = trace(model, recent[-1].edit, total)
        with clock.phase("shift"):
            predicted.append(editor.predict(traced, bp_step))
            total = add_shifts(total, {n: shift.detach() for n, shift in predicted[-1].items()})

    leaves = {name: shift.clone().requires_grad_() for name, shift in total.items()}
    edit_loss = locality_loss = 0.0
    locality = editor.method.locality
    for age, batch in enumerate(reversed(recent)):
        weight = settings.time_decay**age
        with clock.phase("edit loss"):
            edit_loss += accumulate_edit_loss(model, batch.paraphrase, leaves, weight)
        with clock.phase("locality loss"):
            if locality == "kl":
                scale = weight * settings.loc_coef
                locality_loss += accumulate_kl_loss(model, batch.locality, before, leaves, scale)
    with clock.phase("locality loss"):
        if locality == "norm":
            norm = settings.reg_coef**settings.reg_power * squared_norm(leaves.values())
            norm.backward()
            locality_loss = norm.item()

    gradient_norms: list[float] = []
    with clock.phase("hypernetwork update"):
        for shifts in predicted:
            torch.autograd.backward(list(shifts.values()), [leaves[n].grad for n in shifts])
            gradient_norms.append(
                torch.nn.utils.clip_grad_norm_(editor.parameters(), settings.max_grad_norm).item()
            )
    _check_finite(edit_loss, locality_loss, gradient_norms)
    norms = [{name: shift.norm().item() for name, shift in s.items()} for s in predicted]
    return total, {
        "edit_loss": edit_loss,
        "locality_loss": locality_loss,
        "shift_norms": norms,
        "gradient_norms": gradient_norms,
        "seconds": clock.seconds,
    }


def _check_finite(edit_loss: float, locality_loss: float, gradient_norms: Sequence[float]) -> None:
    measured = {"edit loss": edit_loss, "locality loss": locality_loss}
    measured |= {"gradient norm": sum(gradient_norms)}
    for name, value in measured.items():
        if not torch.tensor(value).isfinite():
            raise DivergedError(f"non-finite {name} ({value}); try a smaller lr or coefficient")
