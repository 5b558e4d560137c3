"""The state of a training: an editor, its optimizer and its gradients, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def training_state(editor: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All that an update depends on.

    Returns
    -------
    dict
        ``editor.…`` (weights and statistics), ``adam.…`` (moments and step counts) and
        ``gradient.…`` (what no update has used yet).
    """
    tensors = {f"editor.{name}": value for name, value in editor.state_dict().items()}
    for name, parameter in editor.named_parameters():
        tensors |= {f"adam.{key}.{name}": v for key, v in optimizer.state[parameter].items()}
        if parameter.grad is not None:
            tensors[f"gradient.{name}"] = parameter.grad
    return {name: value.detach().clone() for name, value in tensors.items()}


def load_training_state(
    editor: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what `training_state` gave."""
    editor.load_state_dict(named(tensors, "editor."))
    for name, parameter in editor.named_parameters():
        kept = (key for key in tensors if key.startswith("adam.") and key.endswith(f".{name}"))
        state = {key.split(".")[1]: tensors[key].clone() for key in kept}
        if state:
            optimizer.state[parameter] = state
        gradient = tensors.get(f"gradient.{name}")
        parameter.grad = None if gradient is None else gradient.clone()


def named(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose name starts so, without that start."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
