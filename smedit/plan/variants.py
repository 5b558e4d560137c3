"""A variant: a method with its changes. How it is named, and its settings resolved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from smedit.methods import Method, load_method
from smedit.models.module_names import expand_modules
from smedit.plan.settings import Measurement, Settings, all_settings, declared, without_effect

LEAST_REQUESTS = 32
"""Requests that are scored in batches where a configuration does not say how many."""

LOCALITY_NAMES = {"kl": "KL", "norm": "norm", "none": "no locality loss"}
"""Locality loss → what a variant's name says of it."""

TRAINING_NAMES = {"in_batches": "trained in batches", "in_sequence": "trained in sequence"}


def resolve(given: Mapping[str, Any], edit_modules: Sequence[str]) -> tuple[Settings, Measurement]:
    """Every setting of one run and one of its measurements.

    Parameters
    ----------
    given
        ``model``, ``dataset``, ``method`` and whatever a configuration sets. What has no effect
        among the others takes its default.
    edit_modules
        Those of the model, for a configuration that sets no others.
    """
    values = _with_defaults(given, edit_modules)
    idle = without_effect(values)
    values = _with_defaults({k: v for k, v in given.items() if k not in idle}, edit_modules)
    parts = [{name: values[name] for name in declared(kind)} for kind in (Settings, Measurement)]
    return Settings(**parts[0]), Measurement(**parts[1])


def _with_defaults(given: Mapping[str, Any], edit_modules: Sequence[str]) -> dict[str, Any]:
    method = load_method(given["method"])
    values = {name: known.default for name, known in all_settings().items()}
    values |= choices_of(method) | {k: v for k, v in given.items() if v is not None}
    if values["training"] is None:
        values["training"] = default_training(method, values["protocol"])
    if values["training"] == "none":
        values |= {"train_batches": 0, "rank": method.rank, "n_blocks": method.n_blocks}
    if values["adam_repeats"] is None:
        values["adam_repeats"] = values["bp_steps"] if values["training"] == "in_batches" else 1
    if values["edit_steps"] is None:
        values["edit_steps"] = values["bp_steps"]
    if values["n_requests"] is None:
        n_edits = values["n_edits"]
        values["n_requests"] = n_edits * math.ceil(LEAST_REQUESTS / n_edits)
    values["edit_modules"] = tuple(expand_modules(values["edit_modules"] or edit_modules))
    if values["edit_lr"] == "trained":
        values["edit_lr"] = None
    for name, known in all_settings().items():
        if known.kind is float and values[name] is not None:
            values[name] = float(values[name])
    return values


def choices_of(method: Method) -> dict[str, Any]:
    """The settings that a method decides."""
    names = ("shift_rule", "bp_steps", "locality", "rank", "n_blocks", "back_depth")
    return {name: getattr(method, name) for name in names} | (
        {"lr": method.lr} if method.lr is not None else {}
    )


def default_training(method: Method, protocol: str) -> str:
    """How a method is trained for a protocol: for edits in batches it is trained in batches."""
    if protocol == "batch" and method.training != "none":
        return "in_batches"
    return method.training


def changes_of(
    settings: Settings, measurement: Measurement, edit_modules: Sequence[str]
) -> dict[str, Any]:
    """The choices in which a variant differs from its method on a model with these edit modules."""
    method = load_method(settings.method)
    values = vars(settings) | vars(measurement)
    usual = choices_of(method) | {
        "training": default_training(method, measurement.protocol),
        "adam_repeats": settings.bp_steps if settings.training == "in_batches" else 1,
        "edit_steps": settings.bp_steps,
        "edit_modules": tuple(expand_modules(edit_modules)),
    }
    idle = without_effect(values)
    return {
        name: values[name]
        for name, said in all_settings().items()
        if said.choice and name not in idle and values[name] != usual.get(name, said.default)
    }


def variant_name(method_name: str, changes: Mapping[str, Any]) -> str:
    """Name a method with its changes, as the paper's tables do: ``MEND + MBPS``, ``SMEdit, KL``."""
    method, changes = load_method(method_name), dict(changes)
    name = method.name
    steps = changes.pop("bp_steps", method.bp_steps)
    if method.fine_tunes or 1 < method.bp_steps != steps > 1:
        name += f", {steps} steps" if steps != method.bp_steps else ""
    elif method.bp_steps == 1 < steps:
        name += " + MBPS" if steps == 2 else f" + MBPS, {steps} steps"
    elif steps == 1 < method.bp_steps:
        name += " w/o MBPS"
    if "locality" in changes:
        name += f", {LOCALITY_NAMES[changes.pop('locality')]}"
    if "training" in changes:
        name += f", {TRAINING_NAMES.get(changes.pop('training'), 'untrained')}"
    return name + "".join(f", {labelled(key, value)}" for key, value in changes.items())


def labelled(name: str, value: Any) -> str:
    """A setting and its value in words: ``updates per gradient 1``."""
    label = all_settings()[name].label
    if isinstance(value, tuple | list):
        shown = f"{value[0]} … {value[-1]} ({len(value)})" if len(value) > 2 else ", ".join(value)
    else:
        shown = f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")
    return f"{label} {shown}"
