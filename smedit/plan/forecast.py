"""The plan on one screen: what will be run, and about how long and how large that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smedit.plan.cost import Calibration, parameters, seconds, seconds_in
from smedit.plan.jobs import asked_before, frozen, has_all, not_held
from smedit.plan.plan import Plan
from smedit.plan.runs import Run
from smedit.plan.settings import all_settings

RESULT_MB, EDITOR_MB, FROZEN_MB = 0.2, 250, 0.2
"""Of a result, of an editor that is kept, and of what is frozen for a row (SmolLM2-135M)."""


def screen(plan: Plan, results: Path) -> str:
    """What the workflow prints before it starts, and in a dry run.

    Parameters
    ----------
    plan, results
        The plan, and the folder of its results.
    """
    done = {name for name, run in plan.runs.items() if is_done(run, results)}
    of_experiment: dict[str, list[dict[str, Any]]] = {}
    for row in plan.resolved():
        of_experiment.setdefault(row["experiment"], []).append(row)
    width = max(map(len, ("experiment", *of_experiment))) + 2
    lines = ["", f"{'experiment':<{width}}{'runs':>6}{'done':>6}  what varies"]
    for name, rows in of_experiment.items():
        runs = {row["run"] for row in rows if row["run"]}
        lines.append(
            f"{name:<{width}}{len(runs):>6}{len(runs & done):>6}  {', '.join(varied(rows))}"[:100]
        )
    left = [run for name, run in plan.runs.items() if name not in done]
    lines += [
        f"{'in all':<{width}}{len(plan.runs):>6}{len(done):>6}",
        *forecast(plan, left, results),
    ]
    return "\n".join(lines)


def is_done(run: Run, results: Path) -> bool:
    """Whether a run's result holds all that is asked of it."""
    return has_all(run, asked_before(results / "runs" / f"{run.name}.json"))


def varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has several values in an experiment, in words."""
    names = {"variant": "variants", "model": "models", "dataset": "datasets", "seed": "seeds"}
    names |= {
        name: said.label
        for name, said in all_settings().items()
        if not said.choice and name not in (*names, "method", "rows")
    }
    places = ("variant", "model", "dataset", "seed")
    of_variant: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        of_variant.setdefault(row["variant"], []).append(row)
    counts = {name: len({row[name] for row in rows}) for name in places}
    words = [f"{counts[name]} {names[name]}" for name in places if counts[name] > 1]
    return words + [
        label
        for name, label in names.items()
        if name not in places
        and any(len({str(row[name]) for row in own}) > 1 for own in of_variant.values())
    ]


def forecast(plan: Plan, left: Sequence[Run], results: Path) -> list[str]:
    """In one line or two: core hours and disk of what is left, and what they are taken from."""
    if not left:
        return ["nothing is left to run"]
    calibration = calibrated(plan, results)
    known = {place[0] for place in calibration.spent}
    total, unknown, guessed = 0.0, 0, 0
    for run in left:
        model = run.settings.model
        if model not in known and not parameters(plan.models[model]):
            unknown += 1
            continue
        guessed += model not in known
        total += predicted(plan, run, results) * calibration.factor((model, run.settings.dataset))
    rows = sum(sum(plan.rows_needed(s.model, s.dataset).values()) for s in frozen(plan).values())
    kept = sum(run.keep_editor for run in left)
    disk = RESULT_MB * len(left) + EDITOR_MB * kept + FROZEN_MB * rows
    source = "from runs that are done here"
    if guessed:
        source = f"{guessed} of them by the size of the model alone: expect twice or half"
    line = f"left: {len(left)} runs, about {_hours(total)} of a core and {disk / 1000:.1f} GB"
    if unknown:
        line += f" ({unknown} runs on models of unknown size are not counted)"
    if unknown == len(left):
        return [line]
    return [line, f"({source}; models and `freeze` come on top)"]


def predicted(plan: Plan, run: Run, results: Path) -> float:
    """A run's seconds, before any calibration."""
    asked = not_held(map(asdict, run.measurements), results / "runs" / f"{run.name}.json")
    return seconds(asdict(run.settings), asked, plan.models[run.settings.model])


def calibrated(plan: Plan, results: Path) -> Calibration:
    """What the runs that are done say of the others, by model and dataset."""
    calibration = Calibration()
    for name, run in plan.runs.items():
        took = seconds_in(results / "benchmarks/runs" / f"{name}.tsv")
        if took is not None:
            calibration.add(
                (run.settings.model, run.settings.dataset), took, predicted(plan, run, results)
            )
    return calibration


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
