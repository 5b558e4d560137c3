"""A plan → the jobs that the workflow starts, as the command line takes them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smedit.data.readers import data_files
from smedit.errors import UserError
from smedit.plan.plan import Plan
from smedit.plan.runs import Run, with_facts
from smedit.plan.settings import Measurement, Settings, complete, declared
from smedit.store.archives import data_of, described, unpack, unpacked
from smedit.store.files import replacing
from smedit.store.results import EARLIER, checksum
from smedit.store.sources import frozen_checksum

FROZEN_FOR = ("model", "dataset", "seed", "edit_modules", "precision", "threads")
"""The settings that what `freeze` computes depends on."""

BACK = 2**60
"""Nanoseconds, 36 years, by which a file that is to be made anew is dated back. No file was made so
long ago, so the date says both that this was done and what it was."""

HEAD = 2**20
"""Characters in which the first value of a result stands."""


def model_folder(model: str) -> str:
    """Where a prepared model lies."""
    return f"resources/models/{model}"


def frozen_name(plan: Plan, settings: Settings) -> str:
    """Name of the two files that `freeze` writes for these settings."""
    place = _place(plan, {name: getattr(settings, name) for name in FROZEN_FOR})
    dataset = with_facts(place["dataset_spec"])
    total = checksum([place["settings"], place["model_spec"], dataset])
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
    used = {name: getattr(settings, name) for name in (*FROZEN_FOR, "minibatch")}
    needed = plan.rows_needed(settings.model, settings.dataset).items()
    rows_before = first_value(before) or {}
    return {
        **_place(plan, used),
        "device": device,
        "rows": {
            split: max(count, rows_before.get(split, {}).get("count", 0)) for split, count in needed
        },
        "sequential": _has_streams(plan, settings),
    }


def _has_streams(plan: Plan, settings: Settings) -> bool:
    """Whether any run of this model and dataset is measured in sequence."""
    runs = plan.runs_on(settings.model, settings.dataset)
    return any(m.protocol == "sequential" for run in runs for m in run.measurements)


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
    chosen, before = None, asked_before(result) or asked_before(result.with_suffix(EARLIER))
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
    # There stand the chosen values in place of the first candidate's.
    chosen = run.chosen.names if run.chosen else ()

    def fixed(measurement: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in measurement.items() if key not in chosen}

    held = [fixed(measurement) for measurement in asked]
    return all(fixed(asdict(measurement)) in held for measurement in run.measurements)


def go_on(plan: Plan, results: Path) -> set[str]:
    """Take what the archives of a repository hold of a plan's runs; the names of those runs.

    Nothing is left to do for them, now or when the plan is read again. A result that lacks
    something is taken, too, for what it has. A model of this machine may have changed since; where
    the files of a dataset differ from those of the archives, their results are not taken.
    """
    same = same_data(plan, results)

    def wanted(name: str) -> bool:
        return name in plan.runs and plan.runs[name].settings.dataset in same

    unpack(results, wanted)
    return {
        name
        for name, run in plan.runs.items()
        if unpacked(file := results / f"runs/{name}.json")
        and has_all(run, asked_before(file))
        and plan.models[run.settings.model]["source"] != "path"
        and run.settings.dataset in same
    }


def same_data(plan: Plan, results: Path, absent: bool = False) -> set[str]:
    """The datasets whose files are those that the archives' results were made from.

    Parameters
    ----------
    plan, results
        The plan, and the folder of its results.
    absent
        Whether those count, too, none of whose files are on this machine.
    """
    data = data_of(results)

    def is_same(name: str, spec: Mapping[str, Any]) -> bool:
        if absent and not _is_here(name, spec):
            return True
        return bool(data) and described(data_files(name, spec)) == data.get(checksum(spec), {})

    return {name for name, spec in plan.datasets.items() if is_same(name, spec)}


def _is_here(dataset: str, spec: Mapping[str, Any]) -> bool:
    """Whether any file of a dataset is on this machine; of one without files, yes."""
    try:
        files = data_files(dataset, spec)
    except UserError:  # no such folder, or none of its files
        return False
    return not files or any(path.exists() for path in files)


def whole_runs(plan: Plan, results: Path) -> set[str]:
    """Names of the runs whose results have all that is asked of them, of the data as it is now.

    Any other result, and what `freeze` wrote if it lacks rows that one needs, is dated back, so
    that it counts as out of date: what a job is asked for is no reason for Snakemake to run it. It
    has its own date again once a plan asks for no more than it has.
    """
    whole = set()
    for name, run in plan.runs.items():
        file = results / f"runs/{name}.json"
        if not file.exists():
            continue
        if has_all(run, asked_before(file)) and not _changed_since(plan, run.settings, file):
            whole.add(name)
        if not unpacked(file):
            _date(file, back=name not in whole)
    for name, settings in frozen(plan).items():
        file = results / f"frozen/{name}.json"
        if not file.exists():
            continue
        left = {run.name for run in plan.runs_on(settings.model, settings.dataset)} - whole
        _date(file, back=bool(left) and _lacks_rows(plan, settings, file))
    return whole


def set_aside(plan: Plan, results: Path) -> None:
    """Keep beside each result that lacks something what it measured, while its run makes it anew.

    Snakemake removes the result when that job starts; one from an archive, which has no date to be
    out of date by, goes here. What was set aside before, and the job did not get to, is the result
    again where no more is asked than it has; it goes once its data has changed.
    """
    same = same_data(plan, results)

    def has_changed(run: Run, result: Path) -> bool:
        if unpacked(result) and run.settings.dataset in same:
            return False
        return _changed_since(plan, run.settings, result)

    for name, run in plan.runs.items():
        file = results / f"runs/{name}.json"
        aside = file.with_suffix(EARLIER)
        if aside.exists() and has_changed(run, aside):
            aside.unlink()
        if not file.exists():
            if aside.exists() and has_all(run, asked_before(aside)):
                aside.replace(file)
        elif has_changed(run, file) or has_all(run, asked_before(file)):
            aside.unlink(missing_ok=True)
        elif not unpacked(file):
            with replacing(aside) as part:
                shutil.copy2(file, part)
        elif aside.exists():
            file.unlink()
        else:
            file.replace(aside)


def not_held(asked: Iterable[dict[str, Any]], result: Path) -> list[dict[str, Any]]:
    """What a run has to measure, beside what was set aside of its earlier result."""
    held = asked_before(result.with_suffix(EARLIER))
    return [measurement for measurement in asked if measurement not in held]


def _made(file: Path) -> int:
    """When a file was made: its date, in nanoseconds, also if it is dated back."""
    date = file.stat().st_mtime_ns
    return date + BACK if 0 < date < BACK else date


def _date(file: Path, back: bool) -> None:
    """Date a file back, or give it its own date again."""
    date = _made(file) - BACK * back
    if date != file.stat().st_mtime_ns:
        os.utime(file, ns=(date, date))


def _changed_since(plan: Plan, settings: Settings, result: Path) -> bool:
    """Whether a dataset's files, or a model that is read from this machine, are newer."""
    model = plan.models[settings.model]
    files = data_files(settings.dataset, plan.datasets[settings.dataset])
    read = [*files, *([Path(model_folder(settings.model))] if model["source"] == "path" else [])]
    made = _made(result)
    return any(path.exists() and path.stat().st_mtime_ns > made for path in map(Path, read))


def _lacks_rows(plan: Plan, settings: Settings, before: Path) -> bool:
    """Whether what `freeze` wrote has fewer rows than are needed, or no text of streams, or is of
    other sources of the suite.
    """  # noqa: D205
    try:
        held = json.loads(before.read_bytes())
    except ValueError:
        return False  # a job that reads it says so
    needed = plan.rows_needed(settings.model, settings.dataset)
    rows = held.get("rows", {})
    other = held.get("sources") != frozen_checksum()
    few = any(count > rows.get(split, {}).get("count", 0) for split, count in needed.items())
    return other or few or (_has_streams(plan, settings) and not held.get("perplexity"))


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
