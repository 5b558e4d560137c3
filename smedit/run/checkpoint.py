"""The state of a run on disk, so that one that was interrupted goes on with the same numbers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from smedit.engine.training_state import named
from smedit.errors import UserError
from smedit.store.results import checksum
from smedit.store.tensor_files import load_tensors, save_tensors

log = logging.getLogger("smedit")

SAVE_SECONDS = 60
"""Between two points of measurement, the state is saved this often."""

SAVE_SHARE = 0.05
"""Saving takes at most this share of the time."""

State = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]


class Part(Protocol):
    """A part of a run that has a state."""

    def state(self) -> State:
        """Tensors, and JSON-ready values."""

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Go on from there."""


class Checkpoint:
    """The file that holds a run's state while it runs.

    Parameters
    ----------
    identities
        File → what makes the run whose state it may hold: its job and what it starts from. The
        first file is written while the run is under way. If it is not there, the run goes on from
        another one. A state of another run is not used.
    device
        Where tensors are wanted.

    Attributes
    ----------
    parts
        Name → part of the run that is saved, by now.
    """

    def __init__(self, identities: Mapping[Path, Any], device: torch.device) -> None:
        self.parts: dict[str, Part] = {}
        self._path = next(iter(identities))
        self._identities = {path: checksum(identity) for path, identity in identities.items()}
        self._saved, self._took = time.perf_counter(), 0.0
        self._tensors: dict[str, torch.Tensor] = {}
        self._values: dict[str, Any] = {}
        for path in filter(Path.exists, identities):
            if self._read(path, device):
                break

    def _read(self, path: Path, device: torch.device) -> bool:
        try:
            tensors, notes = load_tensors(path, str(device))
        except UserError as error:
            log.warning("starting anew: %s", error)
            return False
        if notes.get("identity") != self._identities[path]:
            log.info("%s belongs to another run: starting anew", path)
            return False
        log.info("going on from %s", path)
        self._tensors, self._values = tensors, notes["parts"]
        return True

    def value(self, part: str, name: str, otherwise: Any) -> Any:
        """What was saved of a part that is not taken up yet, if there is such."""
        return self._values.get(part, {}).get(name, otherwise)

    def add(self, name: str, part: Part) -> None:
        """Take up a part of the run, at the state that was saved of it, if there is one."""
        self.parts[name] = part
        if name in self._values:
            part.load_state(named(self._tensors, f"{name}/"), self._values.pop(name))

    def remove(self, name: str) -> None:
        """A part is done."""
        del self.parts[name]

    def save(self, path: Path | None = None) -> None:
        """Write the state now; to another file, if one is named."""
        start, path = time.perf_counter(), path or self._path
        tensors: dict[str, torch.Tensor] = {}
        values: dict[str, Mapping[str, Any]] = {}
        for name, part in self.parts.items():
            held, values[name] = part.state()
            tensors |= {f"{name}/{key}": value for key, value in held.items()}
        save_tensors(path, tensors, {"identity": self._identities[path], "parts": values})
        self._saved = time.perf_counter()
        self._took = self._saved - start

    def save_now_and_then(self, measured: bool = False) -> None:
        """Write the state, if it has not been written for long, or something was measured."""
        wait = max(0 if measured else SAVE_SECONDS, self._took / SAVE_SHARE)
        if time.perf_counter() - self._saved > wait:
            self.save()
