"""The two ways to hold on to what the model knew: KL divergence, and the norm of the change.

Source: arXiv 2508.04012, section 4.2: the norm needs no forward pass, no reference logits and no
locality prompts, and that is the paper's saving.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn.functional import log_softmax


def kl_divergence(
    reference: torch.Tensor, edited: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Σ_i w_i KL(reference_i ‖ edited_i): logits (n, vocabulary) twice, weights (n,) → scalar."""
    log_p = log_softmax(reference.float(), -1)
    log_q = log_softmax(edited.float(), -1)
    return ((log_p.exp() * (log_p - log_q)).sum(-1) * weights).sum()


def squared_norm(changes: Iterable[torch.Tensor]) -> torch.Tensor:
    """Σ ‖W − W₀‖²_F over the edit modules."""
    return torch.stack([change.square().sum() for change in changes]).sum()
