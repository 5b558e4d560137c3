"""A plan → the jobs that the workflow starts, as the command line takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smedit.data.readers import data_files
from smedit.plan.plan import Plan
from smedit.plan.runs import Run
from smedit.plan.settings import Measurement, Settings, complete, declared
from smedit.store.archives import data_of, described, unpack, unpacked
from smedit.store.results import checksum

FROZEN_FOR = ("model", "dataset", "seed", "edit_modules", "precision", "threads")
"""The settings that what `freeze` computes depends on."""


HEAD = 2**20
"""Characters in which the first value of a result stands."""


def model_folder(model: str) -> str:
    """Where a prepared model lies."""
    return f"resources/models/{model}"


def frozen_name(plan: Plan, settings: Settings) -> str:
    """Name of the two files that `freeze` writes for these settings."""
    place = _place(plan, {name: getattr(settings, name) for name in FROZEN_FOR})
    total = checksum([place["settings"], place["model_spec"], place["dataset_spec"]])
    return f"{settings.model}_{settings.dataset}_seed{settings.seed}-{total[:10]}"


def frozen(plan: Plan) -> dict[str, Settings]:
    """Name of what is frozen → the settings of a run that needs it."""
    return {frozen_name(plan, run.settings): run.settings for run in plan.runs.values()}


def freeze_job(plan: Plan, name: str, device: str, before: Path) -> dict[str, Any]:
    """Run the frozen part of a model once over all rows that any run needs.

    Parameters
    ----------
    plan, name
        One of `frozen`.
    device
        As in a configuration.
    before
        The JSON file that `freeze` writes. What it holds by now stays in it.
    """
    settings = frozen(plan)[name]
    runs = plan.runs_on(settings.model, settings.dataset)
    used = {name: getattr(settings, name) for name in (*FROZEN_FOR, "minibatch")}
    needed = plan.rows_needed(settings.model, settings.dataset).items()
    rows_before = first_value(before) or {}
    return {
        **_place(plan, used),
        "device": device,
        "rows": {
            split: max(count, rows_before.get(split, {}).get("count", 0)) for split, count in needed
        },
        "sequential": any(m.protocol == "sequential" for r in runs for m in r.measurements),
    }


def run_job(plan: Plan, run: Run, device: str, result: Path) -> dict[str, Any]:
    """Train one editor and measure what is asked of it.

    Parameters
    ----------
    plan, run
        The run, and the plan that it belongs to.
    device
        As in a configuration.
    result
        The run's file. What it holds by now is asked for, too: a configuration that asks for less
        measures nothing anew, and one that asks for more loses nothing.
    """
    chosen, before = None, asked_before(result)
    if run.chosen:
        names = list(run.chosen.names)
        chosen = {"search": run.chosen.search, "variant": run.chosen.variant, "names": names}
        if set(names) & set(declared(Measurement)):
            before = []  # there stand the chosen values, here the first candidate's
    return {
        **_place(plan, asdict(run.settings)),
        "device": device,
        "asked": before + [m for m in map(asdict, run.measurements) if m not in before],
        "identity": run.identity,
        "chosen": chosen,
        "keep_editor": run.keep_editor,
    }


def _place(plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    spec = plan.models[settings["model"]]
    return {
        "settings": {**settings, "edit_modules": list(settings["edit_modules"])},
        "model_spec": {key: value for key, value in spec.items() if key != "edit_modules"},
        "model_folder": model_folder(settings["model"]),
        "dataset_spec": dict(plan.datasets[settings["dataset"]]),
    }


def asked_before(result: Path) -> list[dict[str, Any]]:
    """What the result of a run holds; nothing if there is none, or it is of another version."""
    return _whole(first_value(result))


def has_all(run: Run, asked: list[dict[str, Any]]) -> bool:
    """Whether a result that holds this much holds all that is asked of a run."""
    if run.chosen:  # there stand the chosen values in place of the first candidate's
        return len(asked) >= len(run.measurements)
    return all(asdict(m) in asked for m in run.measurements)


def go_on(plan: Plan, results: Path) -> set[str]:
    """Take what the archives of a repository hold of a plan's runs; the names of those runs.

    Nothing is left to do for them, now or when the plan is read again. A model of this machine may
    have changed since; where the files of a dataset differ from those of the archives, their
    results are not taken.
    """
    data = data_of(results)
    same = {
        name: described(data_files(name, spec)) == data.get(checksum(spec), {})
        for name, spec in plan.datasets.items()
        if data
    }

    def wanted(name: str, text: bytes) -> bool:
        if name not in plan.runs or not same.get(plan.runs[name].settings.dataset):
            return False
        asked = _whole(first_of(text[:HEAD].decode("utf-8", "replace")))
        return has_all(plan.runs[name], asked)

    unpack(results, wanted)
    return {
        name
        for name, run in plan.runs.items()
        if unpacked(file := results / f"runs/{name}.json")
        and has_all(run, asked_before(file))
        and plan.models[run.settings.model]["source"] != "path"
        and same.get(run.settings.dataset)
    }


def _whole(asked: Any) -> list[dict[str, Any]]:
    listed = [complete(a, Measurement) for a in asked or [] if isinstance(a, dict)]
    known = set(declared(Measurement))
    whole = len(listed) == len(asked or []) and all(set(a) == known for a in listed)
    return listed if whole else []


def first_value(path: Path) -> Any:
    """The first value of a JSON object in a file, without reading the rest; None if there is none.

    Results are large, and a plan looks into all of them.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return first_of(file.read(HEAD))
    except OSError:
        return None


def first_of(text: str) -> Any:
    """The same, of a file's beginning."""
    try:
        return json.JSONDecoder().raw_decode(text, text.index(":") + 2)[0]
    except ValueError:
        return None
