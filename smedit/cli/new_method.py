"""A package with a method of one's own, to begin with."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Argument, Option

from smedit.errors import UserError, shown
from smedit.methods import known_methods
from smedit.store.files import replacing_folder

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "smedit-{module}"
version = "0.1.0"
dependencies = ["smedit"]

[project.entry-points."smedit.methods"]
"{name}" = "{module}:METHOD"

[tool.setuptools]
py-modules = ["{module}"]
"""

MODULE = '''\
"""{name}: a method that edits facts. Say here what it does, and where it is published."""

import torch

from smedit.methods import Method, shift_rule


@shift_rule
def {module}_shift(
    keys: torch.Tensor,
    pseudo_keys: torch.Tensor,
    pseudo_gradients: torch.Tensor,
    step_size: torch.Tensor,
    log_lambda: torch.Tensor,
) -> torch.Tensor:
    """Δ = −η K̃ᵀ G̃, as MEND's; the place for a rule of your own.

    Parameters
    ----------
    keys
        (N, d_in): inputs of the edit module at the N answer tokens. No gradient flows back to them.
    pseudo_keys, pseudo_gradients
        (N, d_in) and (N, d_out): what the hypernetwork makes of keys and value gradients.
    step_size, log_lambda
        Scalars η and log λ, both trained. One that a rule does not use is simply not trained.

    Returns
    -------
    torch.Tensor
        Δ (d_in, d_out): the change of the weight.
    """
    return -step_size * pseudo_keys.T @ pseudo_gradients


METHOD = Method(
    name="{name}",
    shift_rule="{module}:{module}_shift",
    bp_steps=2,  # more than one: MBPS
    locality="norm",  # or "kl", or "none": what protects other knowledge in training
    rank=1024,
    n_blocks=2,
)
'''


def new_method(
    name: Annotated[str, Argument(help="what tables and figures will call it")],
    out: Annotated[Path | None, Option(metavar="FOLDER", help="by default smedit-NAME")] = None,
) -> None:
    """Write a package with a method of your own, which edits at once, to change."""
    module = re.sub(r"\W+", "_", name).strip("_").lower()
    known = re.fullmatch(r"[A-Za-z][A-Za-z0-9 _-]*[A-Za-z0-9]", name)
    if not known or keyword.iskeyword(module):
        raise UserError(
            f"{shown(name)} is no name for a method; use the letters A to Z, digits and -"
        )
    folder = out or Path(f"smedit-{module}")
    if folder.exists():
        raise UserError(f"{folder} is there; name another folder with --out")
    if name in known_methods() or find_spec(module) is not None:
        raise UserError(f"{shown(name)}: there is a method or a module of that name; use another")
    values = {"name": name, "module": module}
    with replacing_folder(folder, "pyproject.toml") as part:
        (part / "pyproject.toml").write_text(PYPROJECT.format(**values), encoding="utf-8")
        (part / f"{module}.py").write_text(MODULE.format(**values), encoding="utf-8")
    print(
        f"{folder}/{module}.py\n"
        f"install it:  pip install --no-build-isolation --no-deps -e {folder}\n"
        f"use it:      smedit edit --method {quote(name)} …, or as a method of a configuration"
    )
