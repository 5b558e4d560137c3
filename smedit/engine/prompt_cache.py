"""Prompts run first, and only as far as answers need them: to the last block's keys and values."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache


class PromptDoneError(Exception):
    """The last block has given its keys and values; the rest of it serves prompt tokens only."""


class PromptCache(DynamicCache):
    """Keys and values of a batch's first columns, for the pass over the columns after them.

    The first pass ends with `PromptDoneError` once the last block has handed in its keys and
    values. Sliding windows are left to the attention mask: nothing is dropped here.

    Parameters
    ----------
    n_blocks
        Blocks of the model.
    """

    is_compileable = False

    def __init__(self, n_blocks: int) -> None:
        super().__init__()
        self._last = n_blocks - 1
        self._prompt: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First pass: keep a block's keys and values. Second pass: put the kept ones in front."""
        if layer_idx in self._prompt:
            keys, values = self._prompt[layer_idx]
            return torch.cat([keys, key_states], -2), torch.cat([values, value_states], -2)
        self._prompt[layer_idx] = key_states, value_states
        if layer_idx == self._last:
            raise PromptDoneError
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns kept so far, whatever the block; blocks that pass through keep none."""
        del layer_idx
        done = self._prompt.get(self._last)
        return 0 if done is None else done[0].shape[-2]

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Columns that attention sees, and the first of them."""
        return self.get_seq_length(layer_idx) + query_length, 0
