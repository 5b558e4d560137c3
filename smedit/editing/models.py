"""A model to edit, by its name, its folder or its place on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smedit.editing.defaults import PRECISION
from smedit.engine.generation import continued
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.errors import UserError, nearest, shown
from smedit.models.architectures import last_mlp_outputs
from smedit.models.model_sources import CHECKSUMS, fits, load_tokenizer, prepare_model
from smedit.models.module_names import expand_modules
from smedit.plan.catalogue import catalogue, is_of_catalogue
from smedit.plan.jobs import model_folder
from smedit.run.opening import open_model
from smedit.store.files import suite_path
from smedit.store.results import checksum

DEVICES = ("cpu", "cuda", "auto")

HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")


@dataclass(frozen=True)
class BaseModel:
    """A language model as it is before any edit. Nothing here ever changes it.

    Attributes
    ----------
    name
        How messages and files call it.
    spec
        Its source: as in ``config/models.yaml``, without edit modules.
    files
        SHA-256 of each of its files, by name.
    language_model
        The model, with its edit modules.
    """

    name: str
    spec: Mapping[str, Any]
    files: Mapping[str, str]
    language_model: LanguageModel

    def described(self) -> dict[str, Any]:
        """What an editor and an edited model note of the model that they belong to."""
        return {
            "name": self.name,
            "spec": dict(self.spec),
            "files": dict(self.files),
            "edit_modules": list(self.language_model.edit_modules),
            "precision": str(self.language_model.dtype).removeprefix("torch."),
        }

    def generate(self, text: str, max_new_tokens: int = 20, shifts: Shifts | None = None) -> str:
        """Continue a text by greedy decoding; what is new of it.

        Parameters
        ----------
        text
            A prompt.
        max_new_tokens
            At most so many tokens.
        shifts
            Changes of the edit modules' weights; none by default.
        """
        return continued(self.language_model, shifts or {}, text, max_new_tokens)


def load_model(
    model: str | Path,
    edit_modules: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = PRECISION,
) -> BaseModel:
    """Open a language model for editing.

    It is prepared at the first time: fetched, converted, and tried. That is kept in
    ``resources/models`` of the working folder or of the suite.

    Parameters
    ----------
    model
        A name of the catalogue (``smedit list models``), a folder with a transformers model in
        safetensors, or a repository of the hub as ``OWNER/NAME@REVISION``, with the full commit.
    edit_modules
        Names of the linear modules to edit; ``{24..29}`` stands for a range. By default those of
        the catalogue, else the output projections of the MLPs in the last fifth of the blocks.
    device
        ``cpu``, ``cuda`` or ``auto``.
    precision
        Of the weights: ``float32`` or ``bfloat16``. What is computed of edits is float32.

    Raises
    ------
    UserError
        If there is no such model, or it cannot be edited.
    """
    name, spec = found(str(model))
    return open_base(name, spec, edit_modules, device, precision)


def open_base(
    name: str,
    spec: Mapping[str, Any],
    edit_modules: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = PRECISION,
) -> BaseModel:
    """As `load_model`, of a model that is described as in ``config/models.yaml``."""
    if device not in DEVICES:
        raise UserError(f"device: {device!r} is unknown; use {', '.join(DEVICES[:-1])} or auto")
    spec, modules = dict(spec), list(edit_modules or spec.get("edit_modules") or ())
    spec.pop("edit_modules", None)
    folder = suite_path(_folder(name, spec))
    if not fits(folder, spec):
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare_model(name, {**spec, "edit_modules": modules} if modules else spec, folder)
    modules = expand_modules(modules) or last_mlp_outputs(_config_of(folder))
    settings = {
        **{"model": name, "edit_modules": modules, "precision": precision},
        "threads": torch.get_num_threads(),
    }
    opened = open_model({"settings": settings, "model_folder": str(folder), "device": device})
    opened.tokenizer = load_tokenizer(folder)
    listed = json.loads((folder / CHECKSUMS).read_bytes())
    files = {file: entry["sha256"] for file, entry in listed.items()}
    return BaseModel(name, spec, files, opened)


def _folder(name: str, spec: Mapping[str, Any]) -> str:
    """Where a model is prepared: one of the catalogue where the workflow has it, else apart."""
    return model_folder(name if is_of_catalogue(name, spec) else f"{name}-{checksum(spec)[:8]}")


def found(model: str) -> tuple[str, Mapping[str, Any]]:
    """The name and the source of what a person calls a model."""
    known = catalogue("models")
    if model in known:
        if Path(model).is_dir():
            raise UserError(
                f"model {shown(model)}: in the catalogue, and a folder here; write ./{model} "
                "for the folder, or rename it"
            )
        return model, known[model]
    hub = HUB.fullmatch(model)
    if hub:
        name = hub["repository"].replace("/", "--")
        return name, {"source": "hub", **hub.groupdict()}
    folder = Path(model).expanduser()
    if folder.is_dir():
        resolved = folder.resolve()
        name = re.sub(r"[^\w.-]", "-", resolved.name).lstrip("-._") or "model"
        return name, {"source": "path", "path": str(resolved)}
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@.*)?", model):
        raise UserError(
            f"model {shown(model)}: there is no such folder, and a repository of the hub needs its "
            "full commit, as OWNER/NAME@REVISION with 40 digits 0-9 a-f"
        )
    if "/" in model or model.startswith((".", "~")):
        raise UserError(f"model {shown(model)}: there is no such folder")
    raise UserError(f"unknown model {shown(model)}{nearest(model, known)}")


def _config_of(folder: Path) -> Path:
    """The config.json of a prepared model."""
    source = json.loads((folder / "source.json").read_bytes())
    return Path(source.get("folder", folder)) / "config.json"
