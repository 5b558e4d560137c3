"""Token batch → keys and value gradients of every edit module (arXiv 2508.04012, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from smedit.engine.batches import Chunk, TokenBatch

if TYPE_CHECKING:  # a language model tries its own traces when it is opened
    from smedit.engine.language_model import LanguageModel, Shifts


@dataclass(frozen=True)
class Trace:
    """Keys and value gradients at the N answer tokens of an edit batch, in minibatch order.

    Attributes
    ----------
    keys
        Edit module name → (N, d_in) float32.
    gradients
        Edit module name → (N, d_out) float32: gradient of the edit loss with respect to the
        module's output.
    loss
        The edit loss, summed over minibatches.
    """

    keys: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    loss: float


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy: logits (n, vocabulary), labels (n,), weights (n,) → a scalar."""
    return (cross_entropy(logits.float(), labels, reduction="none") * weights).sum()


def trace(model: LanguageModel, batch: TokenBatch, shifts: Shifts) -> Trace:
    """Trace an edit batch on the weights W₀ + shifts. The result carries no graph."""
    keys: dict[str, list[torch.Tensor]] = {name: [] for name in model.edit_modules}
    gradients: dict[str, list[torch.Tensor]] = {name: [] for name in model.edit_modules}
    total = 0.0
    for chunk in model.chunks(batch):
        outputs: dict[str, torch.Tensor] = {}

        def see(
            name: str,
            module_input: torch.Tensor,
            output: torch.Tensor,
            chunk: Chunk = chunk,
            outputs: dict[str, torch.Tensor] = outputs,
        ) -> None:
            keys[name].append(chunk.at_answers(module_input).detach().float())
            if not output.requires_grad:
                output.requires_grad_()  # the graph starts at the lowest edit module
            outputs[name] = output

        logits = model.logits(chunk, shifts, module_hook=see)
        loss = answer_loss(logits, chunk.labels, chunk.weights)
        total += loss.item()
        for name, gradient in zip(
            outputs, torch.autograd.grad(loss, list(outputs.values())), strict=True
        ):
            gradients[name].append(chunk.at_answers(gradient).float())
    return Trace(
        {name: torch.cat(parts) for name, parts in keys.items()},
        {name: torch.cat(parts) for name, parts in gradients.items()},
        total,
    )
