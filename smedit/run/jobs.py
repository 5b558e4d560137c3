"""What every job shares: a model, rows, an editor and a result file, from the job's settings."""

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
from smedit.engine.language_model import LanguageModel
from smedit.engine.self_test import WAYS, way_of
from smedit.engine.tokenization import KnownTokens
from smedit.errors import SettingError, UserError
from smedit.methods import load_method
from smedit.models.model_sources import load_model, load_tokenizer, tried_way
from smedit.store.files import refuse, what_changed
from smedit.store.results import checksum, result_with

log = logging.getLogger("smedit")

FROZEN_FOR = (
    *("model", "model_spec", "edit_modules", "precision"),
    *("dataset", "dataset_spec", "seed"),
)
"""The settings of a job that what `freeze` computes depends on."""


LAYOUT = 2
"""How `freeze` lays out its JSON file; another layout is another version of the suite's."""


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
        ``model`` (name), ``model_folder``, ``edit_modules``, ``precision``, ``device``,
        ``threads``.
    states
        Frozen states that `freeze` wrote.
    known
        Token ids that `freeze` wrote.
    way
        The way to run the model that `freeze` wrote.
    """
    torch.set_num_threads(job["threads"])
    folder, precision = Path(job["model_folder"]), getattr(torch, job["precision"])
    device = device_of(job["device"])
    _check_speed(precision, device)
    found = way or tried_way(folder, job["edit_modules"])
    if way is None and (device.type, precision) == ("cpu", torch.float32):
        way = found  # on another device or in another type it is tried there
    language_model = LanguageModel(
        load_model(folder, precision, device),
        KnownTokens(lambda: load_tokenizer(folder), known),
        job["edit_modules"],
        name=job["model"],
        execution=WAYS[way].execution if way else None,
        fastest=found or "fast",
    )
    way = way_of(language_model)
    if way != "fast":
        log.info("%s runs another way than the fast one: %s", job["model"], way)
    if states is not None:
        language_model.states = FrozenStates.open(states, language_model.owner)
    return language_model


def read_before(job: Mapping[str, Any], states: Path, path: Path) -> dict[str, Any]:
    """What `freeze` wrote at ``path`` for this job, if its other file is still as it wrote it."""
    before = result_with("made_for", path)
    if before.get("layout") != LAYOUT:
        refuse(path, "made by another version of the suite")
    check_made_for(job, path, before["made_for"])
    changed = what_changed(states, before["states"])
    if changed and states.exists():
        refuse(states, changed)
    return before


def check_made_for(job: Mapping[str, Any], path: Path, made_for: Mapping[str, Any]) -> None:
    """Check that what `freeze` wrote at ``path`` was made for this job's model and data.

    Raises
    ------
    UserError
        If not. The file is marked; see `smedit.store.files.refuse`.
    """
    other = [key for key in FROZEN_FOR if job.get(key) != made_for.get(key)]
    if other:
        refuse(path, f"made for another {' and '.join(other)}")


def describe_rows(rows: Sequence[EditRequest]) -> dict[str, Any]:
    """How many rows these are, and the SHA-256 of what they say."""
    return {"count": len(rows), "sha256": checksum([dataclasses.asdict(row) for row in rows])}


def check_rows(
    job: Mapping[str, Any],
    splits: Splits,
    n_scored: int,
    path: Path,
    before: Mapping[str, Any],
    held_out: bool = False,
) -> None:
    """Check that what `freeze` wrote at ``path`` was made from these rows, and from enough.

    Parameters
    ----------
    job, splits
        The job, and the dataset that it reads.
    n_scored
        How many rows of its split the job scores.
    path, before
        What `freeze` wrote, and what it holds.
    held_out
        Whether the job needs the held-out text, too.

    Raises
    ------
    UserError
        If a file of the dataset was changed since, or something is lacking. The file is marked; see
        `smedit.store.files.refuse`.
    """
    frozen = before["rows"]
    for split, expected in frozen.items():
        if describe_rows(getattr(splits, split)[: expected["count"]]) != expected:
            refuse(path, f"made from other {split} rows than dataset {job['dataset']} has by now")
    count = frozen.get(job["split"], {"count": 0})["count"]
    if count < n_scored:
        rows = f"{count} {job['split']} rows of dataset {job['dataset']}"
        refuse(path, f"made for {rows}, {n_scored} are needed")
    if held_out and not before["held_out"]:
        refuse(path, "made without the held-out text, which streams need")


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


def environment(job: Mapping[str, Any], model: LanguageModel) -> dict[str, Any]:
    """What a result says of the machine that computed it."""
    cuda = model.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(model.device) if cuda else "cpu",
        "precision": job["precision"],
        "threads": job["threads"],
    }


def rows_of(
    job: Mapping[str, Any], splits: Splits, split: str, count: int
) -> Sequence[EditRequest]:
    """The first rows of a split.

    Raises
    ------
    UserError
        If there are fewer.
    """
    rows = getattr(splits, split)
    if len(rows) < count:
        raise UserError(
            f"dataset {job['dataset']}: {count} rows of the {split} split are needed, "
            f"there are {len(rows)}{splits.why(split)}; use fewer or smaller batches"
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


def make_editor(
    settings: Mapping[str, Any], hyper: Mapping[str, Any], model: LanguageModel, n_networks: int = 1
) -> Editor | FineTuner:
    """The editor of a cell's method, untrained."""
    method = load_method(settings["method"])
    if method.fine_tunes:
        return FineTuner(method, hyper["lr"], hyper["bound"])
    size = {key: hyper[key] for key in ("rank", "n_blocks") if key in hyper and method.n_blocks}
    method = dataclasses.replace(method, locality=settings["locality"], **size)
    shapes = {name: model.shape(name) for name in model.edit_modules}
    editor = Editor(method, shapes, hyper["lr"], settings["seed"], n_networks)
    return editor.to(model.device)
