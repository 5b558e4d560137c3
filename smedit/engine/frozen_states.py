"""What the frozen part of a language model computes, kept so that it is computed once.

Everything below the first edited block is the same for every method, step and batch. For each
sequence two tensors are kept: the hidden states that enter the first edited block, and the
unedited model's last hidden states at the answer tokens (the input of its output embedding).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from smedit.engine.tokenization import TokenizedPrompt
from smedit.errors import UserError
from smedit.store.files import refuse
from smedit.store.tensor_files import write_safetensors


@dataclass(frozen=True)
class Frozen:
    """States of one sequence: ``entering`` (T, width) and ``final`` (answer tokens, width)."""

    entering: torch.Tensor
    final: torch.Tensor


class FrozenStates:
    """A map from a sequence to its states, in memory or memory-mapped from a file.

    Parameters
    ----------
    owner
        What the states belong to: model, dtype and first edited block. A file is opened only for
        the owner that it was saved for.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._states: dict[tuple[tuple[int, ...], int], Frozen] = {}

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, sequence: TokenizedPrompt) -> bool:
        return sequence.forward_key in self._states

    def __getitem__(self, sequence: TokenizedPrompt) -> Frozen:
        return self._states[sequence.forward_key]

    def __setitem__(self, sequence: TokenizedPrompt, states: Frozen) -> None:
        self._states[sequence.forward_key] = states

    def save(self, path: Path) -> None:
        """Write all states to one safetensors file, under a temporary name first."""
        states = list(self._states.values())
        none = [torch.empty(0, 0)] if not states else []  # a model may allow to keep none
        tensors = {
            "entering": torch.cat([frozen.entering for frozen in states] or none),
            "final": torch.cat([frozen.final for frozen in states] or none),
            "input_ids": torch.tensor([token for ids, _ in self._states for token in ids]),
            "owner": _fingerprint(self.owner),
        }
        for name in ("entering", "final"):
            tensors[f"{name}_lengths"] = torch.tensor([len(getattr(f, name)) for f in states])
        write_safetensors(path, tensors)

    @classmethod
    def open(cls, path: Path, owner: str) -> FrozenStates:
        """Open a saved file for reading; tensors stay on disk until they are used.

        Raises
        ------
        UserError
            If the file is missing, damaged or was saved for another owner. All but a missing one
            are marked; see `smedit.store.files.refuse`.
        """
        try:
            tensors = load_file(path)
        except FileNotFoundError as error:
            raise UserError(f"{path}: is missing; the same command makes it anew") from error
        except (OSError, SafetensorError):
            refuse(path, "not a whole safetensors file")
        if "owner" not in tensors or not torch.equal(tensors["owner"], _fingerprint(owner)):
            refuse(path, f"made for another model than {owner}")
        store = cls(owner)
        lengths = tensors["entering_lengths"].tolist()
        n_answers = tensors["final_lengths"].tolist()
        entering = tensors["entering"].split(lengths)
        final = tensors["final"].split(n_answers)
        for i, ids in enumerate(tensors["input_ids"].split(lengths)):
            store._states[tuple(ids.tolist()), n_answers[i]] = Frozen(entering[i], final[i])
        return store


def _fingerprint(owner: str) -> torch.Tensor:
    return torch.tensor(list(hashlib.sha256(owner.encode()).digest()), dtype=torch.uint8)
