"""A configuration, checked before any job starts.

Each problem is one line that names the key, the value and what would be right. Imports nothing
heavy.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml

from smedit.errors import UserError, shown
from smedit.facts import Splits
from smedit.grid import methods
from smedit.method import load_method
from smedit.readers import splits_before_jobs
from smedit.stream_grid import all_rows_needed, stream_methods

LARGEST = {int: 2**53, float: 3.0e38}
"""Largest numbers of a configuration: JSON holds the one as it is, float32 the other."""

MAX_MODULES = 1000
"""Most edit modules that one range may stand for; more is a typing error."""


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
    UserError
        At the first problem. `check_data` finds those that take longer.
    """
    check_schema(config, schema_file, "config")
    _check_folders(config)
    _check_modules(config["models"])
    for name in [*methods(config), *config["tuning"]["grid"]]:
        if not load_method(name).for_batches:
            raise UserError(f"config: {name} edits in sequence only; put it under sequential")
    _check_experiments(config, config["experiments"], "experiments")
    _check_streams(config)
    _check_batches(config)


def check_schema(settings: Any, schema_file: Path, what: str) -> None:
    """Check settings against the JSON schema in a file; see `check_values`."""
    check_values(settings, yaml.safe_load(schema_file.read_text(encoding="utf-8")), what)


def check_values(settings: Any, schema: Mapping[str, Any], what: str) -> None:
    """Check settings against a JSON schema; ``what`` starts the message of a `UserError`."""
    try:
        leaves = list(_leaves(settings))
    except RecursionError:
        raise UserError(f"{what}: holds itself, or is nested too deeply; write it out") from None
    for key, value in leaves:
        problem = _unusable(value)
        if problem:
            raise UserError(f"{what}: {key or 'top level'}: {problem}")
    errors = _Validator(schema).iter_errors(settings)
    # That a key has no effect often follows from another problem.
    for error in sorted(errors, key=lambda e: (e.validator == "not", len(e.path), str(e.path))):
        raise UserError(f"{what}: {_explain(error)}")


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
        folder = Path(config[key])
        where = f"config: {key}: {config[key]!r}"
        if not re.fullmatch(r"/?[\w.-]+(/[\w.-]+)*", config[key], re.ASCII):
            raise UserError(
                f"{where} is not a plain path; use letters, digits, '.', '_' and '-' between "
                "single '/', and no '/' at the end"
            )
        if config[key].startswith("-") or {".", ".."} & set(config[key].split("/")):
            raise UserError(f"{where} begins with '-' or has a part '.' or '..'; leave that out")
        for part in (folder, *folder.parents):
            if part.exists() and not part.is_dir():
                raise UserError(f"{where}: {part} is a file; name another folder")
    if config["results_dir"] == config["figures_dir"]:
        raise UserError(
            f"config: figures_dir: {config['figures_dir']!r} is results_dir, too; name another "
            "folder"
        )


def _check_modules(models: Mapping[str, Any]) -> None:
    for name, spec in models.items():
        where = f"config: models.{name}.edit_modules"
        try:
            modules = expand_modules(spec["edit_modules"])
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        for module in modules:
            if modules.count(module) > 1:
                raise UserError(f"{where}: {module!r} stands there twice; leave one out")


def _check_experiments(
    config: Mapping[str, Any], experiments: Mapping[str, Any], where: str
) -> None:
    for experiment, section in experiments.items():
        for key in ("models", "datasets"):
            for name in section.get(key, []):
                if name not in config[key]:
                    place = f"config: {where}.{experiment}.{key}"
                    raise UserError(
                        f"{place}: unknown value {shown(name)}{nearest(name, config[key])}"
                    )


def _check_streams(config: Mapping[str, Any]) -> None:
    part = config.get("sequential")
    if part is None:
        return
    _check_experiments(config, part["experiments"], "sequential.experiments")
    for name in stream_methods(config):
        load_method(name)
    for experiment, section in part["experiments"].items():
        where = f"config: sequential.experiments.{experiment}"
        for dataset in section.get("by_dataset", {}):
            if dataset not in section.get("datasets", config["datasets"]):
                raise UserError(
                    f"{where}.by_dataset: the experiment has no dataset {shown(dataset)}; leave "
                    "it out"
                )
        for entry in section["methods"]:
            if "locality" in entry and load_method(entry["method"]).stream_training == "none":
                raise UserError(
                    f"{where}: {entry['method']} is not trained, so it has no locality loss; leave "
                    "locality out"
                )
    for name, grid in part["tuning"]["grid"].items():
        _check_grid(name, grid, stream_methods(config))


def _check_grid(name: str, grid: Mapping[str, Any], used: Sequence[str]) -> None:
    """A search on streams that would change nothing costs time and is a mistake."""
    where, method = f"config: sequential.tuning.grid.{name}", load_method(name)
    if name not in used:
        raise UserError(f"{where}: no stream uses this method; leave it out")
    for key in grid:
        if key in method.without_effect(method.locality):
            raise UserError(f"{where}: {key} has no effect on {name}; leave it out")


def _check_batches(config: Mapping[str, Any]) -> None:
    sizes = {n for x in config["experiments"].values() for n in x["n_edits"]}
    if config["eval_edits"] < max(sizes):
        raise UserError(
            f"config: eval_edits {config['eval_edits']} is less than the largest n_edits "
            f"{max(sizes)}; raise it, or use a smaller n_edits"
        )
    checks = [("eval_edits", config["eval_edits"], n) for n in sorted(sizes)]
    tuning = config["tuning"]
    checks.append(("tuning.eval_edits", tuning["eval_edits"], tuning["n_edits"]))
    for key, count, n_edits in checks:
        if count % n_edits:
            raise UserError(
                f"config: {key}: {count} is not a multiple of n_edits {n_edits}; requests are "
                "scored in batches of n_edits"
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
                raise UserError(
                    f"config: dataset {name} has {len(rows)} {split} rows{splits.why(split)}, "
                    f"{needed[split]} are needed; {_remedy(split, splits, needed)}"
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


def _explain(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "top level"
    if error.validator == "oneOf":  # the form that was meant is the one whose type is right
        return _explain(min(error.context, key=lambda e: (e.validator == "type", not e.path)))
    if error.validator == "additionalProperties" and error.schema.get("properties"):
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        return f"{where}: unknown key {shown(unknown)}{nearest(unknown, known)}"
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        hint = nearest(str(error.instance), known)
        return f"{where}: unknown value {shown(error.instance)}{hint}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{where}: the key {missing!r} is missing"
    if error.validator == "not":
        return f"{where}: has no effect with the other keys beside it; leave it out"
    if "description" in error.schema:
        return f"{where}: {shown(error.instance)} is not {error.schema['description']}"
    problem = error.message.replace(repr(error.instance), shown(error.instance))
    return f"{where}: {problem}{_hint(error)}"


def _hint(error: jsonschema.ValidationError) -> str:
    """How a number that has another type is to be written."""
    if error.validator != "type" or error.validator_value not in ("integer", "number"):
        return ""
    if isinstance(error.instance, float) and error.instance.is_integer():
        return f"; write {int(error.instance)}"
    if isinstance(error.instance, str) and re.fullmatch(r"[\d.eE+-]+", error.instance):
        return "; write it without quotes, and with a decimal point before an exponent, as 1.0e-5"
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(known)}"


def expand_modules(patterns: Iterable[str]) -> list[str]:
    """Expand ``layers.{24..29}.mlp`` (or ``{10..26..2}``, with a step) to one name per index.

    Raises
    ------
    UserError
        If a range has no index or very many.
    """
    names: list[str] = []
    for pattern in patterns:
        match = re.search(r"\{(\d{1,6})\.\.(\d{1,6})(?:\.\.(\d{1,6}))?\}", pattern)
        if match is None:
            names.append(pattern)
            continue
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        indices = range(first, last + 1, step) if step else ()
        if not 0 < len(indices) <= MAX_MODULES:
            raise UserError(
                f"the range of {pattern!r} has {len(indices)} indices; write it as "
                "{first..last} or {first..last..step}, first not above last and step not 0"
            )
        names += [f"{pattern[: match.start()]}{i}{pattern[match.end() :]}" for i in indices]
    return names


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as canonical JSON, the same for the same settings."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
