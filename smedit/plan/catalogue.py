"""Models and datasets to name: ``config/models.yaml`` and ``config/datasets.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from smedit.errors import SettingError, nearest, shown
from smedit.plan.config_files import read_file
from smedit.store.files import suite_path

KINDS = ("models", "datasets")


@cache
def catalogue(kind: str) -> dict[str, Any]:
    """Name → what it is, for ``models`` or ``datasets``."""
    return read_file(suite_path(f"config/{kind}.yaml"))


def named(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Name → what it is, for those that a configuration uses, in its order.

    It lists names of the catalogue, or maps names to what they are; one that is mapped to null is
    left out.

    Raises
    ------
    SettingError
        If a name is not in the catalogue.
    """
    entries, known = config[kind], catalogue(kind)
    if isinstance(entries, Mapping):
        given = {name: spec for name, spec in entries.items() if spec is not None}
        return {name: _with_training(name, spec, known | given) for name, spec in given.items()}
    for i, name in enumerate(entries):
        if name not in known:
            hint = nearest(name, known)
            problem = f"unknown value {shown(name)}{hint}; or map its name to what it is"
            raise SettingError(f"{kind}.{i}", problem)
    return {name: _with_training(name, known[name], known) for name in entries}


def _with_training(
    name: str, spec: Mapping[str, Any], known: Mapping[str, Any]
) -> Mapping[str, Any]:
    """A dataset, with what it is trained on in place of its name."""
    other = spec.get("train_on")
    if not isinstance(other, str):
        return spec
    if other not in known or other == name or "train_on" in known[other]:
        hint = nearest(other, (k for k in known if k != name and "train_on" not in known[k]))
        raise SettingError(f"datasets.{name}.train_on", f"unknown value {shown(other)}{hint}")
    return {**spec, "train_on": known[other]}


def file_of(kind: str) -> Path:
    """The catalogue's file, for messages."""
    return suite_path(f"config/{kind}.yaml")
