"""A configuration, checked before any job starts.

Each problem is one line that names the key, the value and what would be right. Imports nothing
heavy.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema

from smedit.data.facts import Splits
from smedit.data.readers import splits_before_jobs
from smedit.errors import SettingError, UserError, nearest, shown
from smedit.methods import load_method, rule_checksum
from smedit.models.module_names import expand_modules
from smedit.plan.catalogue import catalogue, named
from smedit.plan.config_files import CATALOGUE
from smedit.plan.experiments import Asked, expanded, experiments
from smedit.plan.plan import Plan
from smedit.plan.schema import config_schema
from smedit.plan.settings import Machine, Settings, declared, without_effect

LARGEST = {int: 2**53, float: 3.0e38}
"""Largest numbers of a configuration: JSON holds the one as it is, float32 the other."""


def completed(config: Mapping[str, Any], name: str = "config") -> dict[str, Any]:
    """Check a configuration and add what it leaves out, but for the experiments' own settings.

    Parameters
    ----------
    config
        The merged configuration.
    name
        Of its (first) file, without suffix: results of different ones have folders of their own.

    Raises
    ------
    SettingError
        At the first problem. `check_data` finds those that take longer.
    """
    check_values(config, config_schema())
    check_values({kind: catalogue(kind) for kind in CATALOGUE}, config_schema() | {"required": []})
    machine = {key: said.default for key, said in declared(Machine).items()}
    below = "" if name == "config" else f"/{name}"
    machine |= {"results_dir": f"results{below}", "figures_dir": f"figures{below}"}
    whole = {**machine, "seeds": [declared(Settings)["seed"].default], **config}
    _check_folders(whole)
    known = {kind: named(whole, kind) for kind in ("models", "datasets")}
    _check_modules(known["models"])
    for name, experiment in experiments(whole).items():
        _check_places(f"experiments.{name}", experiment, known)
        _check_methods(f"experiments.{name}", experiment)
        _check_rows(whole, name, experiment)
    return whole


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


def _check_places(
    where: str, experiment: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> None:
    places = {"models": "models", "datasets": "datasets"}
    for key, kind in (places | {"by_model": "models", "by_dataset": "datasets"}).items():
        there = experiment.get(kind, list(known[kind])) if key not in places else known[kind]
        for name in experiment.get(key, []):
            if name not in there:
                problem = f"unknown value {shown(name)}{nearest(name, there)}"
                raise SettingError(f"{where}.{key}", problem)


def _check_methods(where: str, experiment: Mapping[str, Any]) -> None:
    for i, entry in enumerate(experiment["methods"]):
        at = f"{where}.methods.{i}"
        try:
            if isinstance(entry, str):
                load_method(entry)
                continue
            at = f"{at}.method"
            load_method(entry["method"])
            at = f"{where}.methods.{i}.shift_rule"
            rules = entry.get("shift_rule", [])
            for rule in [rules] if isinstance(rules, str) else rules:
                rule_checksum(rule)
        except UserError as error:
            raise SettingError(at, str(error)) from None


def _check_rows(config: Mapping[str, Any], name: str, experiment: Mapping[str, Any]) -> None:
    """What a schema cannot see: settings that have no effect, or do not go together."""
    by_entry: dict[int, list[Asked]] = {}
    for number, item in expanded(config, name, experiment):
        by_entry.setdefault(number, []).append(item)
        _check_together(config, name, item)
    where = f"experiments.{name}"
    for number, items in by_entry.items():
        entry = experiment["methods"][number]
        for key in entry if isinstance(entry, Mapping) else ():
            if all(key in _idle(item) for item in items):
                problem = f"has no effect on {entry['method']} with the other settings"
                raise SettingError(f"{where}.methods.{number}.{key}", f"{problem}; leave it out")
    for key in experiment:
        if all(key in _idle(item) for items in by_entry.values() for item in items):
            raise SettingError(f"{where}.{key}", "has no effect on any method here; leave it out")


def _idle(item: Asked) -> set[str]:
    return without_effect(vars(item.settings) | vars(item.measurement))


def _check_together(config: Mapping[str, Any], experiment: str, item: Asked) -> None:
    settings, measurement = item.settings, item.measurement
    per_step = settings.training != "in_batches"
    n_edits, n_requests = settings.n_edits, measurement.n_requests
    method = load_method(settings.method)
    if measurement.protocol == "batch" and n_requests % n_edits:
        raise SettingError(
            _key(config, experiment, "n_requests"),
            f"{n_requests} is not a multiple of n_edits {n_edits}; requests are scored in batches "
            "of n_edits",
        )
    if per_step and method.has_network and measurement.edit_steps > settings.bp_steps:
        raise SettingError(
            _key(config, experiment, "edit_steps"),
            f"{measurement.edit_steps} is more than bp_steps {settings.bp_steps}, and each step of "
            f"{item.variant} has a network of its own; use fewer",
        )
    if method.training != "none" and method.has_network and not settings.n_blocks:
        raise SettingError(
            _key(config, experiment, "methods"),
            f"{settings.method} has a network of no blocks; give the method n_blocks and rank",
        )
    if settings.training != "none" and not (method.has_network and settings.n_blocks):
        raise SettingError(
            _key(config, experiment, "training"),
            f"{settings.method} has nothing to train; leave training out",
        )


def _key(config: Mapping[str, Any], experiment: str, setting: str) -> str:
    """Where a setting of an experiment stands: there, or at the top."""
    inside = f"experiments.{experiment}"
    if setting in config["experiments"][experiment]:
        return f"{inside}.{setting}"
    return setting if setting in config else inside


def check_data(plan: Plan) -> None:
    """Read all datasets but those of the hub, and check that they have the rows that are needed.

    Raises
    ------
    UserError
        At the first problem.
    """
    for name, spec in plan.datasets.items():
        splits = splits_before_jobs(name, spec)
        if splits is None:
            continue  # not known before the download; the job that reads it checks again
        per_model = [plan.rows_needed(model, name) for model in plan.models]
        needed = {split: max(rows[split] for rows in per_model) for split in per_model[0]}
        for split, rows in splits.parts.items():
            if needed[split] > len(rows):
                raise SettingError(
                    f"datasets.{name}",
                    f"{name} has {len(rows)} {split} rows{splits.why(split)}, "
                    f"{needed[split]} are needed; {_remedy(split, splits, needed)}",
                )


def _remedy(split: str, splits: Splits, needed: Mapping[str, int]) -> str:
    """What helps a dataset that has too few rows of a split."""
    scored = ["use a smaller n_requests", "a smaller n_edits or n_batches in sequence"]
    remedies = {"train": ["use a smaller n_edits", "fewer train_batches"]}.get(split, scored)
    spare = len(splits.tune) - needed["tune"]
    if split == "tune" and split in splits.shares:
        remedies.append("a larger tune_share of the dataset")
    if split == "eval" and split in splits.shares and spare > 0:
        remedies.append(f"a smaller tune_share of the dataset (tune has {spare} rows to spare)")
    return f"{', '.join(remedies[:-1])}, or {remedies[-1]}"


def _explained(error: jsonschema.ValidationError) -> SettingError:
    if error.validator == "oneOf":  # the form that was meant is the one whose type is right
        return _explained(min(error.context, key=_likely))
    where = ".".join(str(part) for part in error.absolute_path) or "top level"
    return SettingError(where, _problem(error))


def _likely(error: jsonschema.ValidationError) -> tuple[bool, bool, bool]:
    return error.validator == "type", error.validator != "pattern", not error.path


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
        fits = bool(items.keys() & {"type", "oneOf"}) and _Validator(items).is_valid(error.instance)
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
