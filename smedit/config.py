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
from typing import Any

import jsonschema
import yaml

from smedit.errors import UserError
from smedit.grid import methods
from smedit.method import load_method
from smedit.readers import count_rows
from smedit.stream_grid import all_rows_needed, stream_methods


def check_config(config: Mapping[str, Any], schema_file: Path) -> None:
    """Check a configuration against its schema, then against the methods and data there are.

    Parameters
    ----------
    config
        The merged configuration.
    schema_file
        ``workflow/schemas/config.schema.yaml``.

    Raises
    ------
    UserError
        At the first problem.
    """
    check_schema(config, schema_file, "config")
    for name in [*methods(config), *config["tuning"]["grid"]]:
        if not load_method(name).for_batches:
            raise UserError(f"config: {name} edits in sequence only; put it under sequential")
    _check_experiments(config, config["experiments"], "experiments")
    _check_streams(config)
    _check_data(config)


def check_schema(settings: Mapping[str, Any], schema_file: Path, what: str) -> None:
    """Check settings against a JSON schema; ``what`` starts the message of a `UserError`."""
    for key, value in _leaves(settings):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{what}: {key}: {value} is not a finite number")
    schema = yaml.safe_load(schema_file.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for error in sorted(validator.iter_errors(settings), key=lambda e: (len(e.path), str(e.path))):
        raise UserError(f"{what}: {_explain(error)}")


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested configuration with its dotted key."""
    if isinstance(node, Mapping | list):
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in items:
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def _check_experiments(
    config: Mapping[str, Any], experiments: Mapping[str, Any], where: str
) -> None:
    for experiment, section in experiments.items():
        for key in ("models", "datasets"):
            for name in section.get(key, []):
                if name not in config[key]:
                    place = f"config: {where}.{experiment}.{key}"
                    raise UserError(f"{place}: unknown value {name!r}{nearest(name, config[key])}")


def _check_streams(config: Mapping[str, Any]) -> None:
    part = config.get("sequential")
    if part is None:
        return
    _check_experiments(config, part["experiments"], "sequential.experiments")
    for name in stream_methods(config):
        load_method(name)
    for experiment, section in part["experiments"].items():
        for entry in section["methods"]:
            if "locality" in entry and load_method(entry["method"]).stream_training == "none":
                raise UserError(
                    f"config: sequential.experiments.{experiment}: {entry['method']} is not "
                    "trained, so it has no locality loss; leave locality out"
                )
    for name, grid in part["tuning"]["grid"].items():
        _check_grid(name, grid, stream_methods(config))


def _check_grid(name: str, grid: Mapping[str, Any], used: Sequence[str]) -> None:
    """A search on streams that would change nothing costs time and is a mistake."""
    where, method = f"config: sequential.tuning.grid.{name}", load_method(name)
    if name not in used:
        raise UserError(f"{where}: no stream uses this method; leave it out")
    effect = {"bound": method.shift_rule == "fine_tuning", "reg_coef": method.locality == "norm"}
    for key in grid:
        if not effect.get(key, True):
            raise UserError(f"{where}: {key} has no effect on {name}; leave it out")


def _check_data(config: Mapping[str, Any]) -> None:
    sizes = {n for x in config["experiments"].values() for n in x["n_edits"]}
    if config["eval_edits"] < max(sizes):
        raise UserError(
            f"config: eval_edits {config['eval_edits']} is less than the largest n_edits "
            f"{max(sizes)}; raise it"
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
    for name, spec in config["datasets"].items():
        rows = count_rows(name, spec)
        if rows is None:
            continue  # not known before the download; the job that reads it checks again
        for split, count in _rows_of_dataset(config, name).items():
            if count > rows[split]:
                raise UserError(
                    f"config: dataset {name} has {rows[split]} {split} rows, {count} are needed; "
                    "use fewer or smaller batches, or a smaller eval_edits"
                )


def _rows_of_dataset(config: Mapping[str, Any], dataset: str) -> dict[str, int]:
    needed = [all_rows_needed(config, model, dataset) for model in config["models"]]
    return {split: max(rows[split] for rows in needed) for split in needed[0]}


def _explain(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "top level"
    if error.validator == "additionalProperties" and error.schema.get("properties"):
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        return f"{where}: unknown key {unknown!r}{nearest(unknown, known)}"
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        return f"{where}: unknown value {error.instance!r}{nearest(str(error.instance), known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{where}: the key {missing!r} is missing"
    return f"{where}: {error.message.splitlines()[0]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(known)}"


def expand_modules(patterns: Iterable[str]) -> list[str]:
    """Expand ``layers.{24..29}.mlp`` (or ``{10..26..2}``, with a step) to one name per index."""
    names: list[str] = []
    for pattern in patterns:
        match = re.search(r"\{(\d+)\.\.(\d+)(?:\.\.(\d+))?\}", pattern)
        if match is None:
            names.append(pattern)
            continue
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        names += [
            pattern[: match.start()] + str(i) + pattern[match.end() :]
            for i in range(first, last + 1, step)
        ]
    return names


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as canonical JSON, the same for the same settings."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
