"""The new fact in front of the question: a baseline that changes no weight.

It is the strong simple baseline of recent benchmarks (arXiv 2505.18690), at its best: each prompt
stands behind the fact of its own request, as if that had been looked up without a mistake. So its
scores come from other prompts than those of methods that edit weights, and its harm is zero by
construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import nn

from smedit.data.facts import EditRequest, Prompt
from smedit.engine.batches import TokenBatch
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.methods import Method


class InContext(nn.Module):
    """Edits nothing. It has no parameters, and no memory of earlier batches.

    Parameters
    ----------
    method
        Its name goes into messages.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def edit(
        self,
        model: LanguageModel,
        batch: TokenBatch,
        bp_steps: int,
        start: Shifts = MappingProxyType({}),
        first: None = None,
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Yield no change, once."""
        del model, batch, bp_steps, start, first
        yield {}


def in_context(request: EditRequest) -> EditRequest:
    """The same request, with its fact in front of every prompt."""
    edit = request.edit
    fact = f"New fact: {edit.text}{edit.between}{edit.answer}\n"

    def behind(prompt: Prompt) -> Prompt:
        return replace(prompt, text=fact + prompt.text)

    return replace(
        request,
        edit=behind(edit),
        paraphrases=tuple(map(behind, request.paraphrases)),
        locality=tuple(map(behind, request.locality)),
    )
