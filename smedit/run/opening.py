"""What a job needs before it works: a model, rows, an untrained editor."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from smedit.data.facts import EditRequest, Splits
from smedit.engine.editor import Editor
from smedit.engine.fine_tuning import FineTuner
from smedit.engine.frozen_states import FrozenStates
from smedit.engine.in_context import InContext
from smedit.engine.language_model import LanguageModel
from smedit.engine.self_test import WAYS, way_of
from smedit.engine.tokenization import KnownTokens
from smedit.errors import SettingError, UserError, shown
from smedit.methods import load_method
from smedit.models.model_sources import load_model, load_tokenizer, tried_way
from smedit.plan.settings import PARTS

log = logging.getLogger("smedit")


def open_model(
    job: Mapping[str, Any],
    states: Path | None = None,
    known: Mapping[str, Any] | None = None,
    way: str | None = None,
) -> LanguageModel:
    """Load a job's language model, and try how it can be run if that is not known.

    Parameters
    ----------
    job
        ``model_folder``, ``device`` and ``settings``: ``model``, ``edit_modules``, ``precision``,
        ``threads``.
    states
        Frozen states that `freeze` wrote.
    known
        Token ids that `freeze` wrote.
    way
        The way to run the model that `freeze` wrote.
    """
    settings = job["settings"]
    torch.set_num_threads(settings["threads"])
    folder, precision = Path(job["model_folder"]), getattr(torch, settings["precision"])
    device = device_of(job["device"])
    _check_speed(precision, device)
    found = way or tried_way(folder, settings["edit_modules"])
    if way is None and (device.type, precision) == ("cpu", torch.float32):
        way = found  # on another device or in another type it is tried there
    language_model = LanguageModel(
        load_model(folder, precision, device),
        KnownTokens(lambda: load_tokenizer(folder), known),
        settings["edit_modules"],
        name=settings["model"],
        execution=WAYS[way].execution if way else None,
        fastest=found or "fast",
    )
    way = way_of(language_model)
    if way != "fast":
        log.info("%s runs another way than the fast one: %s", settings["model"], way)
    if states is not None:
        language_model.states = FrozenStates.open(states, language_model.owner)
    return language_model


def device_of(name: str) -> torch.device:
    """What a configuration's ``device`` is on this machine.

    Raises
    ------
    SettingError
        If it is ``cuda`` and there is no GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("device", "cuda, but this machine has no CUDA GPU; use auto or cpu")
    return torch.device(name)


def _check_speed(precision: torch.dtype, device: torch.device) -> None:
    """Keep bfloat16 usable, if slow, on a CPU that has no instructions for it."""
    if precision != torch.bfloat16 or device.type != "cpu":
        return
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        log.warning("this CPU has no bfloat16 instructions: float32 is many times faster here")
        # oneDNN's stand-in for them takes minutes for one large product; PyTorch's own does not.
        torch.backends.mkldnn.set_flags(_enabled=False)


def environment(model: LanguageModel) -> dict[str, Any]:
    """What a result says of the machine that computed it."""
    cuda = model.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(model.device) if cuda else "cpu",
        "torch": torch.__version__,
    }


def rows_of(dataset: str, splits: Splits, split: str, count: int) -> Sequence[EditRequest]:
    """The first rows of a split.

    Raises
    ------
    UserError
        If there are fewer, or one that is to be trained on has no paraphrase.
    """
    rows = splits.parts[split]
    if len(rows) < count:
        raise UserError(
            f"dataset {dataset}: {count} rows of the {split} split are needed, there are "
            f"{len(rows)}{splits.why(split)}; use fewer or smaller batches"
        )
    bare = [row.edit.text for row in rows[:count] if split == "train" and not row.paraphrases]
    if bare:
        raise UserError(
            f"dataset {dataset}: {len(bare)} of the {count} rows to train on have no paraphrase, "
            f"which training needs ({shown(bare[0])} first); add some, or set train_on"
        )
    return rows[:count]


def cut(requests: Sequence[EditRequest], n_edits: int) -> list[Sequence[EditRequest]]:
    """Cut requests into batches of ``n_edits``; what is left over is left out.

    Raises
    ------
    UserError
        If there is no whole batch.
    """
    if len(requests) < n_edits:
        raise UserError(
            f"{len(requests)} requests are fewer than n_edits {n_edits}; use more, or a smaller "
            "n_edits"
        )
    return [requests[i : i + n_edits] for i in range(0, len(requests) - n_edits + 1, n_edits)]


AnyEditor = Editor | FineTuner | InContext
"""What edits: by a hypernetwork or without one."""


def make_editor(settings: Mapping[str, Any], model: LanguageModel) -> AnyEditor:
    """The editor of a run, untrained."""
    method = load_method(settings["method"])
    names = {field.name for field in dataclasses.fields(method)} - {"name", "lr"}
    method = dataclasses.replace(method, **{name: settings[name] for name in names})
    if method.fine_tunes:
        return FineTuner(method, settings["lr"], settings["bound"])
    if not method.has_network:
        return InContext(method)
    shapes = {name: model.shape(name) for name in model.edit_modules}
    n_networks = settings["bp_steps"] if network_per_step(settings) else 1
    editor = Editor(method, shapes, settings["lr"], settings["seed"], n_networks)
    editor.train_only(parts_named(settings["train_parts"]))
    return editor.to(model.device)


def parts_named(choice: str) -> set[str]:
    """The parts of a hypernetwork that a value of `train_parts` or `edit_parts` stands for."""
    kind, _, part = choice.partition("_")
    return {part} if kind == "only" else set(PARTS) - {part}


def network_per_step(settings: Mapping[str, Any]) -> bool:
    """Whether each backpropagation step has a hypernetwork of its own."""
    return settings["training"] != "in_batches"
