"""The losses of meta-training over a whole token batch, physical batch by physical batch.

Each leaves its gradient in the leaves that the shifts are made of, and returns its value. That
keeps one physical batch's graph at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from smedit.engine.batches import EditBatch, TokenBatch
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.locality import kl_divergence
from smedit.engine.tracing import answer_loss
from smedit.errors import UserError


def accumulate_edit_loss(
    model: LanguageModel, batch: TokenBatch, shifts: Shifts, scale: float = 1.0
) -> float:
    """``scale`` × cross-entropy of the answers on W₀ + shifts, summed over minibatches."""
    total = 0.0
    for chunk in model.chunks(batch):
        loss = scale * answer_loss(model.logits(chunk, shifts), chunk.labels, chunk.weights)
        loss.backward()
        total += loss.item()
    return total


def accumulate_kl_loss(
    model: LanguageModel, batch: TokenBatch, reference: Shifts, shifts: Shifts, scale: float
) -> float:
    """``scale`` × KL(W₀ + reference ‖ W₀ + shifts) at answer tokens, summed over minibatches."""
    total = 0.0
    for chunk in model.chunks(batch):
        with torch.no_grad():
            before = model.logits(chunk, reference) if reference else model.unedited_logits(chunk)
        edited = model.logits(chunk, shifts)
        loss = scale * kl_divergence(before, edited, chunk.weights)
        loss.backward()
        total += loss.item()
    return total


def check_locality_prompts(locality: str, batches: Sequence[EditBatch]) -> None:
    """Check that KL, if it is the locality loss, has a prompt to be taken at in every batch.

    Raises
    ------
    UserError
        If not: in that batch nothing would protect what the model knew.
    """
    for number, batch in enumerate(batches, start=1):
        if locality == "kl" and not batch.locality.sequences:
            raise UserError(
                f"training batch {number}: no row has a locality prompt, which the KL loss needs; "
                "use larger batches, other rows, or locality: norm"
            )
