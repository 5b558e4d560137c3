"""What a model looks like inside, from its config.json alone: no weights are made.

The configuration names edit modules; a typing error in one shall be found before any download.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from smedit.engine.language_model import weight_shape
from smedit.errors import SettingError, UserError
from smedit.models.module_names import layer_of, problem_of
from smedit.store.files import suite_path, user_path


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


def check_edit_modules(patterns: Sequence[str], known: Collection[str]) -> None:
    """Check that a model has its edit modules.

    Parameters
    ----------
    patterns : sequence of str
        Names of the edit modules, or ranges of them as `smedit.models.module_names` takes them.
    known : collection of str
        The names of the modules that it has.

    Raises
    ------
    UserError
        If any is missing; names each pattern once, with the nearest that there is.
    """
    problems = [problem for each in patterns if (problem := problem_of(each, known))]
    if problems:
        raise UserError(f"the model has no edit module {', nor '.join(problems)}")


def check_models(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the edit modules of every configured model whose architecture is at hand.

    A ``hub`` model without ``architecture`` is checked when it is opened, after its download.

    Parameters
    ----------
    models : mapping
        The configuration's ``models``.

    Raises
    ------
    SettingError
        As `check_edit_modules` and `module_shapes`.
    """
    for name, spec in models.items():
        if spec["source"] == "path":
            folder = user_path(spec["path"])
            key, architecture = "path", folder / "config.json"
            if not architecture.is_file():
                lacks = "has no config.json" if folder.is_dir() else "is no folder"
                raise SettingError(f"models.{name}.path", f"{folder} {lacks}; correct the path")
        elif "architecture" in spec:
            key, architecture = "architecture", suite_path(spec["architecture"])
        else:
            continue
        try:
            known = module_shapes(architecture)
            key = "edit_modules"
            check_edit_modules(spec["edit_modules"], known)
        except UserError as error:
            raise SettingError(f"models.{name}.{key}", str(error)) from None


def last_mlp_outputs(architecture: Path) -> list[str]:
    """The edit modules of a model for which nobody has named any.

    These are the output projections of the MLPs in the last fifth of the blocks, which the paper
    edits in GPT-J: the last module of a block that leads from a wider layer to the hidden states.

    Raises
    ------
    UserError
        If the blocks have no such module; and as `empty_model`.
    """
    width = empty_model(architecture).config.get_text_config(decoder=True).hidden_size
    last: dict[int, str] = {}
    for name, (d_in, d_out) in module_shapes(architecture).items():
        layer = layer_of(name)
        if layer is not None and d_out == width < d_in:
            last[layer] = name
    if not last:
        raise UserError(
            f"{architecture}: no block has a module from a wider layer to the {width} hidden "
            "states; name the modules to edit (--edit-modules)"
        )
    blocks = sorted(last)
    return [last[block] for block in blocks[-math.ceil(len(blocks) / 5) :]]
