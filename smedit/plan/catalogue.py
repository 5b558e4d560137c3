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
    entries = config[kind]
    if isinstance(entries, Mapping):
        return {name: spec for name, spec in entries.items() if spec is not None}
    known = catalogue(kind)
    for i, name in enumerate(entries):
        if name not in known:
            hint = nearest(name, known)
            problem = f"unknown value {shown(name)}{hint}; or map its name to what it is"
            raise SettingError(f"{kind}.{i}", problem)
    return {name: known[name] for name in entries}


def file_of(kind: str) -> Path:
    """The catalogue's file, for messages."""
    return suite_path(f"config/{kind}.yaml")
