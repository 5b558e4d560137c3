"""A configuration's experiments → what is asked: one item per measurement of a variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from smedit.plan.catalogue import named
from smedit.plan.settings import Measurement, Settings, all_settings
from smedit.plan.variants import changes_of, labelled, resolve, variant_name

PLACES = {"models": "model", "datasets": "dataset", "seeds": "seed"}
"""Key of a configuration or an experiment → the setting that it lists the values of."""


@dataclass(frozen=True)
class Asked:
    """One measurement that an experiment asks for.

    Attributes
    ----------
    experiment, variant
        Where it belongs in tables and figures.
    settings, measurement
        What is trained, and what is measured of it.
    changes
        The choices in which the variant differs from its method.
    strengths
        What the experiment itself sets of the settings that a search may choose.
    """

    experiment: str
    variant: str
    settings: Settings
    measurement: Measurement
    changes: Mapping[str, Any]
    strengths: Mapping[str, Any]


def experiments(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name → experiment, without those that an overlay has set to null."""
    return {name: part for name, part in config["experiments"].items() if part is not None}


def searches(config: Mapping[str, Any]) -> set[str]:
    """Names of the experiments that others take values from."""
    return {search_of(part)[0] for part in experiments(config).values() if "chosen_in" in part}


def is_search(experiment: Mapping[str, Any]) -> bool:
    """Whether an experiment says by what values are chosen, and takes none from another one."""
    return "objective" in experiment and "chosen_in" not in experiment


def search_of(experiment: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    """The search that an experiment takes values from, and the choices that share theirs."""
    chosen_in = experiment["chosen_in"]
    if isinstance(chosen_in, str):
        return chosen_in, frozenset()
    return chosen_in["search"], frozenset(chosen_in["shared"])


def asked(config: Mapping[str, Any]) -> list[Asked]:
    """Everything that the experiments ask for, in the order of the configuration.

    Parameters
    ----------
    config
        A checked configuration.
    """
    chosen_from = searches(config)
    items: list[Asked] = []
    for name, experiment in experiments(config).items():
        searched = name in chosen_from or is_search(experiment)
        both = {"rows": ["tune", "eval"]} if searched else {}
        found = list(expanded(config, name, {**both, **experiment}))
        items += _uniquely_named(list(dict.fromkeys(found)))
    return items


def expanded(
    config: Mapping[str, Any], name: str, experiment: Mapping[str, Any]
) -> Iterator[tuple[int, Asked]]:
    """What an experiment asks for, each with the number of its entry under ``methods``."""
    known, models = all_settings(), named(config, "models")
    own = {k: v for k, v in experiment.items() if k in known}
    common = {k: v for k, v in config.items() if k in known}
    places = {
        "models": experiment.get("models", list(models)),
        "datasets": experiment.get("datasets", list(named(config, "datasets"))),
        "seeds": experiment.get("seeds", config["seeds"]),
    }
    for model, dataset in product(places["models"], places["datasets"]):
        modules = models[model]["edit_modules"]
        of_place = {
            **experiment.get("by_model", {}).get(model, {}),
            **experiment.get("by_dataset", {}).get(dataset, {}),
        }
        for number, entry in enumerate(experiment["methods"]):
            entry = {"method": entry} if isinstance(entry, str) else dict(entry)
            label = entry.pop("name", None)
            said = own | of_place | entry
            for point in _points(common | said):
                for seed in places["seeds"]:
                    given = {**point, "model": model, "dataset": dataset, "seed": seed}
                    settings, measurement = resolve(given, modules)
                    changes = changes_of(settings, measurement, modules)
                    values = vars(settings) | vars(measurement)
                    yield (
                        number,
                        Asked(
                            name,
                            label or variant_name(settings.method, changes),
                            settings,
                            measurement,
                            Values(changes),
                            Values({k: values[k] for k in said if known[k].searched}),
                        ),
                    )


class Values(dict[str, Any]):
    """Settings that stand in a set."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _points(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that are listed."""
    known = all_settings()
    axes = {k: values_of(v, known[k].kind is tuple) for k, v in given.items()}
    for point in product(*axes.values()):
        yield dict(zip(axes, point, strict=True))


def values_of(value: Any, is_list: bool) -> list[Any]:
    """The values of a setting: of one that is a list itself, a list of lists is several."""
    if isinstance(value, list) and (not is_list or any(isinstance(v, list) for v in value)):
        return value
    return [value]


def _uniquely_named(items: Sequence[tuple[int, Asked]]) -> list[Asked]:
    """Where two entries of an experiment have one name, the strengths that each sets are added."""
    entries: dict[str, set[int]] = {}
    for number, item in items:
        entries.setdefault(item.variant, set()).add(number)
    own: dict[int, list[Mapping[str, Any]]] = {}
    for number, item in items:
        own.setdefault(number, []).append(item.strengths)
    named_apart = []
    for number, item in items:
        if len(entries[item.variant]) > 1:
            told = [k for k in item.strengths if _tells(k, own, entries[item.variant], number)]
            words = "".join(f", {labelled(k, item.strengths[k])}" for k in told)
            item = replace(item, variant=item.variant + words)
        named_apart.append(item)
    return named_apart


def _tells(
    key: str, strengths: Mapping[int, Sequence[Mapping[str, Any]]], entries: set[int], one: int
) -> bool:
    """Whether an entry has one value of a setting, and another entry of its name has others."""
    values = {n: {each.get(key) for each in strengths[n]} for n in entries}
    return len(values[one]) == 1 and any(values[n] != values[one] for n in entries)
