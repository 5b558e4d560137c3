"""The JSON schema of a configuration and of a job's settings, made from the declarations."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from smedit.data.formats import formats
from smedit.plan.settings import Declared, Machine, Measurement, Settings, all_settings, declared

TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}

SYNONYMS = {
    "device": {
        **dict.fromkeys(("gpu", "nvidia"), "cuda"),
        **dict.fromkeys(("automatic", "default"), "auto"),
        "processor": "cpu",
    }
}
"""What is written in the place of a value; only a message uses it."""

PLACES = ("model", "dataset", "seed", "method")
"""The settings that a configuration names in lists: ``models``, ``datasets``, ``seeds`` and
``methods``."""

NAMES = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}}


def properties_of(record: type) -> dict[str, Any]:
    """Setting → the JSON schema of its value, of `Settings`, `Measurement` or `Machine`."""
    return {name: _value(said) for name, said in declared(record).items()}


def _value(said: Declared) -> dict[str, Any]:
    if said.kind is tuple:
        return {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
    schema: dict[str, Any] = {"type": TYPES[said.kind]}
    if said.choices:
        return {"enum": list(said.choices), "synonyms": SYNONYMS.get(said.name, {})}
    bounds = {"minimum": said.least, "exclusiveMinimum": said.above, "maximum": said.most}
    return schema | {key: bound for key, bound in bounds.items() if bound is not None}


def _one_or_more(said: Declared) -> dict[str, Any]:
    """A value, or a list of values."""
    value = _value(said)
    if said.name == "edit_lr":
        value = {"oneOf": [value, {"enum": ["trained"]}]}
    several = {"type": "array", "minItems": 1, "uniqueItems": True, "items": value}
    return {"oneOf": [value, several]}


@cache
def config_schema() -> dict[str, Any]:
    """The schema of a configuration."""
    free = {name: _one_or_more(said) for name, said in all_settings().items() if name not in PLACES}
    text = files("smedit.plan").joinpath("sources.schema.yaml").read_text(encoding="utf-8")
    sources = yaml.safe_load(text)
    _add_formats(sources["$defs"]["dataset"])
    machine = properties_of(Machine)
    for folder in ("results_dir", "figures_dir"):
        machine[folder] |= {"minLength": 1, "maxLength": 200}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "required": ["models", "datasets", "experiments"],
        "properties": {
            "models": _named("model"),
            "datasets": _named("dataset"),
            "experiments": {
                "type": "object",
                "propertyNames": {"$ref": "#/$defs/name"},
                "additionalProperties": {"oneOf": [_experiment(free), {"type": "null"}]},
            },
            "seeds": _seeds(),
            **machine,
            **free,
        },
        **sources,
    }


def _add_formats(dataset: dict[str, Any]) -> None:
    """Add the formats and the options of each, which have no effect on the others."""
    options = [key for each in formats().values() for key in each.options]
    absent = {key: {"$ref": "#/$defs/absent"} for key in options}
    properties = {"format": {"enum": list(formats())}, **{key: {} for key in options}}
    own = []
    for name, each in formats().items():
        values = {key: {"enum": list(known)} for key, known in each.options.items()}
        chosen = {"required": ["format"], "properties": {"format": {"const": name}}}
        then = {"required": list(values), "properties": absent | values}
        own.append({"if": chosen, "then": then})
    dataset |= {"properties": properties | dataset["properties"], "allOf": own + dataset["allOf"]}


@cache
def job_schema() -> dict[str, Any]:
    """The schema of what commands take as JSON; the command's name is a key of its ``$defs``."""
    text = files("smedit.data").joinpath("job.schema.yaml").read_text(encoding="utf-8")
    schema = yaml.safe_load(text)
    schema["$defs"]["settings"] = _whole(Settings)
    schema["$defs"]["measurement"] = _whole(Measurement)
    freeze = schema["$defs"]["freeze"]["properties"]["settings"]
    freeze["properties"] = {name: properties_of(Settings)[name] for name in freeze["required"]}
    return schema


def _whole(record: type) -> dict[str, Any]:
    """A record with all its fields. The numbers of what a method does not use may be 0."""
    properties = properties_of(record)
    for name in ("rank", "n_blocks"):
        if name in properties:
            properties[name]["minimum"] = 0
    if "edit_lr" in properties:
        properties["edit_lr"] = {"oneOf": [properties["edit_lr"], {"type": "null"}]}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _named(kind: str) -> dict[str, Any]:
    """Names with what they are (null leaves one out), or a list of those and of known names."""
    mapped = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"$ref": "#/$defs/name"},
        "additionalProperties": {"oneOf": [{"$ref": f"#/$defs/{kind}"}, {"type": "null"}]},
    }
    return {"oneOf": [{**NAMES, "items": {"oneOf": [NAMES["items"], mapped]}}, mapped]}


def _seeds() -> dict[str, Any]:
    seed = _value(declared(Settings)["seed"])
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": seed}


def _experiment(free: dict[str, Any]) -> dict[str, Any]:
    part = {"type": "object", "additionalProperties": False, "properties": free}
    entry = {
        "type": "object",
        "additionalProperties": False,
        "required": ["method"],
        "properties": {"method": {"type": "string"}, "name": {"type": "string"}, **free},
    }
    places = {"type": "object", "additionalProperties": part}
    scores = {"enum": ["efficacy", "generalization", "specificity", "agreement"]}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["methods"],
        "properties": {
            "methods": {
                "type": "array",
                "minItems": 1,
                "items": {"oneOf": [entry, {"type": "string"}]},
            },
            "models": NAMES,
            "datasets": NAMES,
            "seeds": _seeds(),
            "by_model": places,
            "by_dataset": places,
            "chosen_in": {
                "oneOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["search", "shared"],
                        "properties": {"search": {"type": "string"}, "shared": NAMES},
                    },
                ]
            },
            "objective": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "mean_of": {"type": "array", "minItems": 1, "items": scores},
                    "harm_at_most": {"type": "number", "minimum": 0},
                },
            },
            "keep_editor": {"type": "boolean"},
            "question": {"type": "string", "minLength": 1, "maxLength": 200},
            **free,
        },
    }
