"""What a model looks like inside, from its config.json alone: no weights are made.

The configuration names edit modules; a typing error in one shall be found before any download.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from smedit.config import expand_modules
from smedit.errors import UserError
from smedit.files import suite_path, user_path
from smedit.language_model import weight_shape


def empty_model(architecture: Path) -> PreTrainedModel:
    """A model without weights (on PyTorch's ``meta`` device).

    Parameters
    ----------
    architecture : Path
        A transformers config.json.

    Raises
    ------
    UserError
        If the file is missing or is no configuration of a causal language model.
    """
    if not architecture.is_file():
        raise UserError(f"architecture {architecture}: no such file; name a config.json")
    try:
        config = AutoConfig.from_pretrained(architecture, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"architecture {architecture}: transformers cannot build it ({reason})"
        ) from error


def module_shapes(architecture: Path) -> dict[str, tuple[int, int]]:
    """Names and shapes of the linear modules of a model.

    Parameters
    ----------
    architecture : Path
        A transformers config.json.

    Returns
    -------
    dict
        Name of every `Linear` or `Conv1D` module → (d_in, d_out), in the model's order.

    Raises
    ------
    UserError
        As `empty_model`.
    """
    return {
        name: weight_shape(module)
        for name, module in empty_model(architecture).named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }


def check_edit_modules(name: str, modules: Sequence[str], architecture: Path) -> None:
    """Check that a model has its edit modules.

    Parameters
    ----------
    name : str
        The model's name, for the message.
    modules : sequence of str
        Names of the edit modules.
    architecture : Path
        The model's config.json.

    Raises
    ------
    UserError
        If any is missing; names each of them with the nearest names that there are.
    """
    shapes = module_shapes(architecture)
    problems = []
    for module in modules:
        if module not in shapes:
            nearest = difflib.get_close_matches(module, shapes, n=3) or list(shapes)[:3]
            problems.append(f"{module!r} (nearest: {', '.join(nearest)})")
    if problems:
        raise UserError(f"model {name!r} has no edit module {'; '.join(problems)}")


def check_models(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the edit modules of every configured model whose architecture is at hand.

    A ``hub`` model without ``architecture`` is checked when it is opened, after its download.

    Parameters
    ----------
    models : mapping
        The configuration's ``models``.

    Raises
    ------
    UserError
        As `check_edit_modules` and `module_shapes`.
    """
    for name, spec in models.items():
        if spec["source"] == "path":
            folder = user_path(spec["path"])
            architecture = folder / "config.json"
            if not architecture.is_file():
                lacks = "has no config.json" if folder.is_dir() else "is no folder"
                raise UserError(f"model {name!r}: path {folder} {lacks}; correct the path")
        elif "architecture" in spec:
            architecture = suite_path(spec["architecture"])
        else:
            continue
        check_edit_modules(name, expand_modules(spec["edit_modules"]), architecture)
