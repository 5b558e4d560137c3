"""Tensors in a safetensors file that carries a checksum of what it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from smedit.errors import UserError
from smedit.store.files import refuse, replacing


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON-ready notes.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    stored = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps(notes or {})
    write_safetensors(path, stored, {"notes": text, "sha256": _digest(stored, text)})


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file that is complete or not there.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with replacing(path) as part:
        try:
            save_file(dict(tensors), part, metadata)
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error


def load_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: the tensors and the notes.

    Raises
    ------
    UserError
        If the file is missing, truncated or altered. A damaged one is marked; see
        `smedit.store.files.refuse`.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except (OSError, SafetensorError):
        refuse(path, "not a whole safetensors file")
    notes = metadata.get("notes", "")
    if metadata.get("sha256") != _digest(stored, notes):
        refuse(path, "was altered after it was written")
    return {name: tensor.to(device) for name, tensor in stored.items()}, json.loads(notes)


def _digest(tensors: Mapping[str, torch.Tensor], notes: str) -> str:
    """SHA-256 of names, types, shapes, values and notes."""
    digest = hashlib.sha256(notes.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
