"""A stream of training batches → a trained editor (arXiv 2508.04012, section 4; RLEdit).

The batches are edited one after another and never undone, as the stream that the editor is meant
for. Each backpropagation step has its own hypernetwork. The gradient is taken in two halves, as in
`smedit.engine.meta_training`: the losses give ∂L/∂W at the weights after a batch's last step, and
every step's network gets the gradient of ⟨∂L/∂W, Δ_s⟩ through the graph of its own Δ_s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
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
from smedit.errors import DivergedError

log = logging.getLogger("smedit")


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
        A method that looks back keeps the losses of the latest ``back_depth`` batches; one of age
        a has weight ``time_decay ** a``.
    passes
        How often the stream is gone through. Each pass starts from W₀ and ends with one update of
        the hypernetworks.
    """

    meta_lr: float
    loc_coef: float
    reg_coef: float
    reg_power: int
    max_grad_norm: float
    back_depth: int
    time_decay: float
    passes: int


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


def train_in_sequence(
    editor: Editor,
    model: LanguageModel,
    batches: Sequence[EditBatch],
    bp_steps: int,
    settings: SequenceSettings,
) -> list[SequenceStep]:
    """Train an editor in place on a stream of batches.

    Parameters
    ----------
    editor
        One hypernetwork per backpropagation step. Its method decides the shift rule, the locality
        loss, and whether the loss looks back. KL's reference is the model just before the batch's
        last shift (RLEdit); the norm is that of the whole change since W₀.
    model
        The language model, which stays as it is.
    batches
        The stream, in order.
    bp_steps
        Backpropagation steps S per batch.
    settings
        See `SequenceSettings`.

    Raises
    ------
    DivergedError
        If a loss, gradient or shift is not finite; names method, pass and batch.
    UserError
        If KL lacks a locality prompt; see `check_locality_prompts`.
    """
    check_locality_prompts(editor.method.locality, batches)
    optimizer = torch.optim.Adam(editor.parameters(), lr=settings.meta_lr, fused=True)
    steps: list[SequenceStep] = []
    start, n_steps = time.perf_counter(), settings.passes * len(batches)
    for training_pass in range(1, settings.passes + 1):
        optimizer.zero_grad()
        total: dict[str, torch.Tensor] = {}
        for t in range(len(batches)):
            depth = settings.back_depth if editor.method.looks_back else 1
            recent = batches[max(0, t + 1 - depth) : t + 1]
            try:
                total, measured = _train_on(editor, model, recent, total, bp_steps, settings)
            except DivergedError as error:
                where = f"{editor.method.name}, training pass {training_pass}, batch {t + 1}"
                raise DivergedError(f"{where}: {error}") from error
            steps.append(SequenceStep(training_pass, t + 1, **measured))
            spent = time.perf_counter() - start
            log.info(
                "training pass %d/%d, batch %d/%d: edit loss %.3f, about %.0f s left",
                *(training_pass, settings.passes, t + 1, len(batches), steps[-1].edit_loss),
                spent / len(steps) * (n_steps - len(steps)),
            )
        optimizer.step()
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
