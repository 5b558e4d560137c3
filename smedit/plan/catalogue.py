"""Models and datasets to name: ``config/models.yaml`` and ``config/datasets.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from smedit.errors import SettingError, nearest, shown
from smedit.plan.config_files import CATALOGUE, read_file
from smedit.store.files import suite_path


@cache
def catalogue(kind: str) -> dict[str, Any]:
    """Name → what it is, for ``models`` or ``datasets``."""
    return read_file(suite_path(CATALOGUE[kind]))


def is_of_catalogue(model: str, spec: Mapping[str, Any]) -> bool:
    """Whether a model is the catalogue's of that name; a folder may be called so, too."""
    known = catalogue("models").get(model, {})
    return {k: v for k, v in known.items() if k != "edit_modules"} == dict(spec)


def named(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Name → what it is, for those that a configuration uses, in its order.

    It maps names to what they are, where null leaves one out, or lists names of the catalogue and
    such maps: ``[smollm2-135m, mine: {source: path, ...}]``.

    Raises
    ------
    SettingError
        If a name is not in the catalogue, or listed twice.
    """
    known, given = catalogue(kind), dict[str, Any]()
    entries = [config[kind]] if isinstance(config[kind], Mapping) else config[kind]
    for i, entry in enumerate(entries):
        if isinstance(entry, str) and entry not in known:
            hint = nearest(entry, known)
            problem = f"unknown value {shown(entry)}{hint}; or map its name to what it is"
            raise SettingError(f"{kind}.{i}", problem)
        listed = {entry: known[entry]} if isinstance(entry, str) else entry
        for name, spec in listed.items():
            if name in given:
                raise SettingError(f"{kind}.{i}", f"{shown(name)} is listed twice; leave one out")
            given[name] = spec
    given = {name: spec for name, spec in given.items() if spec is not None}
    return {name: _with_training(name, spec, known | given) for name, spec in given.items()}


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
