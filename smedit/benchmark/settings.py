"""The benchmark's settings, checked before anything is measured. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from smedit.data.readers import splits_before_jobs
from smedit.errors import UserError, located, nearest
from smedit.methods import load_method
from smedit.plan.config import check_values
from smedit.plan.config_files import read_file
from smedit.plan.settings import Settings, declared

PUBLISHED = ("minibatch", "meta_lr", "loc_coef", "reg_coef", "max_grad_norm", "lr")
"""The settings that everything is measured with, at their published values."""

PARTS = ("paths", "n_edits", "bp_steps", "locality", "in_sequence")


def published() -> dict[str, Any]:
    """Name → published value of the settings that everything is measured with."""
    return {name: declared(Settings)[name].default for name in PUBLISHED}


def read_settings(path: Path, config: Mapping[str, Any], schema_file: Path) -> dict[str, Any]:
    """Read a file like ``config/benchmark.yaml``.

    Parameters
    ----------
    path
        The file.
    config
        The configuration whose models and datasets it may name.
    schema_file
        ``workflow/schemas/benchmark.schema.yaml``.

    Raises
    ------
    UserError
        If it breaks its schema, or names a method, model or dataset that is not there, or
        times in sequence a method that is not trained so.
    """
    settings = read_file(path)
    with located(path):
        check_values(settings, yaml.safe_load(schema_file.read_text(encoding="utf-8")))
    clash = sorted(set(settings["models"]) & set(config["models"]))
    if clash:
        raise UserError(f"{path}: models: {clash[0]!r} is also a model of the configuration")
    _check_name(path, "dataset", settings["dataset"], config["datasets"])
    for part, section in parts_of(settings).items():
        for entry in [*section["methods"], *section.get("ablation", [])]:
            try:
                how = load_method(entry["method"]).training
            except UserError as error:
                raise UserError(f"{path}: {part}: {error}") from None
            if part == "in_sequence" and how != part:
                raise UserError(
                    f"{path}: in_sequence.methods: {entry['method']} is not trained in sequence; "
                    "remove it"
                )
        if any(entry not in section["methods"] for entry in section.get("ablation", [])):
            raise UserError(f"{path}: paths.ablation: every entry must stand under methods, too")
    for name in models_of(settings):
        _check_name(path, "model", name, {**config["models"], **settings["models"]})
    return settings


def parts_of(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Part → its section, for the parts that the settings ask for."""
    return {name: settings[name] for name in PARTS if name in settings}


def models_of(settings: Mapping[str, Any]) -> list[str]:
    """Names of the models that the settings measure, in order."""
    sections = parts_of(settings).values()
    return list(dict.fromkeys(name for section in sections for name in models_of_part(section)))


def models_of_part(section: Mapping[str, Any]) -> list[str]:
    """Names of the models of one part."""
    return section["models"] if "models" in section else [section["model"]]


def _check_name(path: Path, key: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise UserError(f"{path}: {key}: unknown value {name!r}{nearest(name, known)}")


def check_enough_rows(path: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Read the dataset, and check that it has the rows that settings ask for.

    Parameters
    ----------
    path
        The settings' file, for the message.
    settings
        What `read_settings` gave for it.
    config
        The configuration whose dataset it names.

    Raises
    ------
    UserError
        If not.
    """
    splits = splits_before_jobs(settings["dataset"], config["datasets"][settings["dataset"]])
    if splits is None:
        return
    for part, section in parts_of(settings).items():
        used = ("train", "eval") if part == "paths" else ("train",)
        sizes = section["n_edits"]
        largest = max(sizes) if isinstance(sizes, list) else sizes
        key = "n_edits"
        if "train_sequences" in section:
            largest, key = largest * section["train_sequences"], "n_edits × train_sequences"
        for split in used:
            rows = len(splits.parts[split])
            if largest > rows:
                raise UserError(
                    f"{path}: {part}.{key}: {largest} is more than the {rows} {split} rows of "
                    f"{settings['dataset']}{splits.why(split)}; use a smaller one"
                )
