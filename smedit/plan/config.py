"""A configuration, checked before any job starts.

Each problem is one line that names the key, the value and what would be right. Imports nothing
heavy.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml

from smedit.data.facts import Splits
from smedit.data.readers import splits_before_jobs
from smedit.errors import SettingError, UserError, nearest, shown
from smedit.methods import Method, load_method
from smedit.models.module_names import expand_modules
from smedit.plan.stream_grid import all_rows_needed, stream_methods

LARGEST = {int: 2**53, float: 3.0e38}
"""Largest numbers of a configuration: JSON holds the one as it is, float32 the other."""


def check_config(config: Mapping[str, Any], schema_file: Path) -> None:
    """Check a configuration against its schema, then against the methods there are.

    Parameters
    ----------
    config
        The merged configuration.
    schema_file
        ``workflow/schemas/config.schema.yaml``.

    Raises
    ------
    SettingError
        At the first problem. `check_data` finds those that take longer.
    """
    check_schema(config, schema_file)
    _check_folders(config)
    _check_modules(config["models"])
    _check_methods(config)
    _check_experiments(config, config["experiments"], "experiments")
    _check_streams(config)
    _check_batches(config)


def check_schema(settings: Any, schema_file: Path) -> None:
    """Check settings against the JSON schema in a file; see `check_values`."""
    check_values(settings, yaml.safe_load(schema_file.read_text(encoding="utf-8")))


def check_values(settings: Any, schema: Mapping[str, Any]) -> None:
    """Check settings against a JSON schema.

    Raises
    ------
    SettingError
        At the first problem.
    """
    try:
        leaves = list(_leaves(settings))
    except RecursionError:
        problem = "holds itself, or is nested too deeply; write it out"
        raise SettingError("top level", problem) from None
    for key, value in leaves:
        problem = _unusable(value)
        if problem:
            raise SettingError(key or "top level", problem)
    errors = _Validator(schema).iter_errors(settings)
    # That a key has no effect often follows from another problem.
    for error in sorted(errors, key=lambda e: (e.validator == "not", len(e.path), str(e.path))):
        raise _explained(error)


def _is_integer(_: Any, value: Any) -> bool:
    """Whether a value is a whole number; 8.0 is not, as it would name other files than 8."""
    return isinstance(value, int) and not isinstance(value, bool)


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key and every value of a nested configuration, with its dotted key."""
    if isinstance(node, Mapping | list):
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in items:
            if isinstance(node, Mapping):
                yield path, _Key(key)
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


class _Key(NamedTuple):
    """A key of a mapping, among its values."""

    key: Any


def _unusable(value: Any) -> str:
    """Why no key takes a value, whatever the schema says; empty if some key may."""
    if isinstance(value, _Key):
        if not isinstance(value.key, str):
            return f"the key {shown(value.key)} is not text; put it in quotes"
        value = value.key
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if type(value) in LARGEST and abs(value) > LARGEST[type(value)]:
        return f"the number is too large; the largest is {LARGEST[type(value)]:g}"
    if isinstance(value, str) and not value.isprintable():
        return f"{shown(value)} has a character that cannot be printed; remove it"
    return ""


def _check_folders(config: Mapping[str, Any]) -> None:
    """Folders become parts of command lines and of other paths, so their names are plain."""
    for key in ("results_dir", "figures_dir"):
        folder, name = Path(config[key]), repr(config[key])
        if not re.fullmatch(r"/?[\w.-]+(/[\w.-]+)*", config[key], re.ASCII):
            raise SettingError(
                key,
                f"{name} is not a plain path; use letters, digits, '.', '_' and '-' between "
                "single '/', and no '/' at the end",
            )
        if config[key].startswith("-") or {".", ".."} & set(config[key].split("/")):
            problem = "begins with '-' or has a part '.' or '..'; leave that out"
            raise SettingError(key, f"{name} {problem}")
        for part in (folder, *folder.parents):
            if part.exists() and not part.is_dir():
                raise SettingError(key, f"{name}: {part} is a file; name another folder")
    if config["results_dir"] == config["figures_dir"]:
        problem = f"{config['figures_dir']!r} is results_dir, too; name another folder"
        raise SettingError("figures_dir", problem)


def _check_modules(models: Mapping[str, Any]) -> None:
    for name, spec in models.items():
        key = f"models.{name}.edit_modules"
        try:
            modules = expand_modules(spec["edit_modules"])
        except UserError as error:
            raise SettingError(key, str(error)) from None
        for module in modules:
            if modules.count(module) > 1:
                raise SettingError(key, f"{module!r} stands there twice; leave one out")


def _check_methods(config: Mapping[str, Any]) -> None:
    for key, name in _methods(config["experiments"], config["tuning"], ""):
        if not _method(key, name).for_batches:
            raise SettingError(key, f"{name} edits in sequence only; put it under sequential")
    part = config.get("sequential")
    for key, name in _methods(part["experiments"], part["tuning"], "sequential.") if part else ():
        _method(key, name)


def _methods(
    experiments: Mapping[str, Any], tuning: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str]]:
    """Every name of a method, with its dotted key."""
    for experiment, section in experiments.items():
        for i, entry in enumerate(section["methods"]):
            yield f"{prefix}experiments.{experiment}.methods.{i}.method", entry["method"]
    for name in tuning["grid"]:
        yield f"{prefix}tuning.grid.{name}", name


def _method(key: str, name: str) -> Method:
    try:
        return load_method(name)
    except UserError as error:
        raise SettingError(key, str(error)) from None


def _check_experiments(
    config: Mapping[str, Any], experiments: Mapping[str, Any], where: str
) -> None:
    for experiment, section in experiments.items():
        for key in ("models", "datasets"):
            for name in section.get(key, []):
                if name not in config[key]:
                    problem = f"unknown value {shown(name)}{nearest(name, config[key])}"
                    raise SettingError(f"{where}.{experiment}.{key}", problem)


def _check_streams(config: Mapping[str, Any]) -> None:
    part = config.get("sequential")
    if part is None:
        return
    _check_experiments(config, part["experiments"], "sequential.experiments")
    for experiment, section in part["experiments"].items():
        where = f"sequential.experiments.{experiment}"
        for dataset in section.get("by_dataset", {}):
            if dataset not in section.get("datasets", config["datasets"]):
                problem = f"the experiment has no dataset {shown(dataset)}; leave it out"
                raise SettingError(f"{where}.by_dataset", problem)
        for i, entry in enumerate(section["methods"]):
            if "locality" in entry and load_method(entry["method"]).stream_training == "none":
                raise SettingError(
                    f"{where}.methods.{i}.locality",
                    f"{entry['method']} is not trained, so it has no locality loss; leave "
                    "locality out",
                )
    for name, grid in part["tuning"]["grid"].items():
        _check_grid(name, grid, stream_methods(config))


def _check_grid(name: str, grid: Mapping[str, Any], used: Sequence[str]) -> None:
    """A search on streams that would change nothing costs time and is a mistake."""
    where, method = f"sequential.tuning.grid.{name}", load_method(name)
    if name not in used:
        raise SettingError(where, "no stream uses this method; leave it out")
    for key in grid:
        if key in method.without_effect(method.locality):
            raise SettingError(where, f"{key} has no effect on {name}; leave it out")


def _check_batches(config: Mapping[str, Any]) -> None:
    sizes = {n for x in config["experiments"].values() for n in x["n_edits"]}
    if config["eval_edits"] < max(sizes):
        raise SettingError(
            "eval_edits",
            f"{config['eval_edits']} is less than the largest n_edits {max(sizes)}; raise it, or "
            "use a smaller n_edits",
        )
    checks = [("eval_edits", config["eval_edits"], n) for n in sorted(sizes)]
    tuning = config["tuning"]
    checks.append(("tuning.eval_edits", tuning["eval_edits"], tuning["n_edits"]))
    for key, count, n_edits in checks:
        if count % n_edits:
            raise SettingError(
                key,
                f"{count} is not a multiple of n_edits {n_edits}; requests are scored in batches "
                "of n_edits",
            )


def check_data(config: Mapping[str, Any]) -> None:
    """Read all datasets but those of the hub, and check that they have the rows that are needed.

    Parameters
    ----------
    config
        A configuration that `check_config` has found right.

    Raises
    ------
    UserError
        At the first problem.
    """
    for name, spec in config["datasets"].items():
        splits = splits_before_jobs(name, spec)
        if splits is None:
            continue  # not known before the download; the job that reads it checks again
        needed = _rows_of_dataset(config, name)
        for split, rows in splits.parts.items():
            if needed[split] > len(rows):
                raise SettingError(
                    f"datasets.{name}",
                    f"{name} has {len(rows)} {split} rows{splits.why(split)}, "
                    f"{needed[split]} are needed; {_remedy(split, splits, needed)}",
                )


def _remedy(split: str, splits: Splits, needed: Mapping[str, int]) -> str:
    """What helps a dataset that has too few rows of a split."""
    remedies = {
        "train": ["use a smaller n_edits", "smaller train_batches (train_sequences in sequence)"],
        "tune": ["use a smaller tuning.eval_edits", "smaller sizes under sequential.tuning"],
        "eval": ["use a smaller eval_edits", "a smaller n_edits × n_sequences in sequence"],
    }[split]
    spare = len(splits.tune) - needed["tune"]
    if split == "tune" and split in splits.shares:
        remedies.append("a larger tune_share of the dataset")
    if split == "eval" and split in splits.shares and spare > 0:
        remedies.append(f"a smaller tune_share of the dataset (tune has {spare} rows to spare)")
    return f"{', '.join(remedies[:-1])}, or {remedies[-1]}"


def _rows_of_dataset(config: Mapping[str, Any], dataset: str) -> dict[str, int]:
    needed = [all_rows_needed(config, model, dataset) for model in config["models"]]
    return {split: max(rows[split] for rows in needed) for split in needed[0]}


def _explained(error: jsonschema.ValidationError) -> SettingError:
    if error.validator == "oneOf":  # the form that was meant is the one whose type is right
        return _explained(min(error.context, key=lambda e: (e.validator == "type", not e.path)))
    where = ".".join(str(part) for part in error.absolute_path) or "top level"
    return SettingError(where, _problem(error))


def _problem(error: jsonschema.ValidationError) -> str:
    if error.validator == "additionalProperties" and error.schema.get("properties"):
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        return f"unknown key {shown(unknown)}{nearest(unknown, known)}"
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        meant = error.schema.get("synonyms", {}).get(str(error.instance).lower())
        hint = nearest(meant or str(error.instance), known)
        return f"unknown value {shown(error.instance)}{hint}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"the key {missing!r} is missing"
    if error.validator == "not":
        return "has no effect with the other keys beside it; leave it out"
    if "description" in error.schema:
        return f"{shown(error.instance)} is not {error.schema['description']}"
    problem = error.message.replace(repr(error.instance), shown(error.instance))
    return f"{problem}{_hint(error)}"


def _hint(error: jsonschema.ValidationError) -> str:
    """How a value that has another type is to be written."""
    if error.validator != "type":
        return ""
    if error.validator_value == "array":
        items = error.schema.get("items", {})
        fits = "type" in items and _Validator(items).is_valid(error.instance)
        listed = shown([error.instance])
        return f"; write {listed}" if fits and not isinstance(error.instance, Mapping) else ""
    if error.validator_value not in ("integer", "number"):
        return ""
    if isinstance(error.instance, float) and error.instance.is_integer():
        return f"; write {int(error.instance)}"
    if isinstance(error.instance, str) and re.fullmatch(r"[\d.eE+-]+", error.instance):
        return "; write it without quotes, and with a decimal point before an exponent, as 1.0e-5"
    return ""


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as canonical JSON, the same for the same settings."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
