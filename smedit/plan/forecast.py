"""The plan on one screen: what will be run, and about how long and how large that is."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.plan.jobs import asked_before, frozen, has_all
from smedit.plan.plan import Plan
from smedit.plan.runs import Run
from smedit.plan.settings import all_settings
from smedit.store.files import suite_path

SECONDS = 5e-10
"""Of one core for one parameter of the model and one unit of `work`: SmolLM2-135M on an AMD EPYC
core, with other work beside it. Only for models of which no run is done."""

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
    rates = measured_rates(plan, results)
    seconds, unknown, guessed = 0.0, 0, 0
    for run in left:
        model = run.settings.model
        rate = rates.get(model)
        if rate is None:
            size = parameters(plan.models[model])
            rate, guessed = (SECONDS * size, guessed + 1) if size else (None, guessed)
        unknown += rate is None
        seconds += (rate or 0.0) * work(run)
    rows = sum(sum(plan.rows_needed(s.model, s.dataset).values()) for s in frozen(plan).values())
    kept = sum(run.keep_editor for run in left)
    disk = RESULT_MB * len(left) + EDITOR_MB * kept + FROZEN_MB * rows
    source = "from runs that are done here"
    if guessed:
        source = f"{guessed} of them by the size of the model alone: expect twice or half"
    line = f"left: {len(left)} runs, about {_hours(seconds)} of a core and {disk / 1000:.1f} GB"
    if unknown:
        line += f" ({unknown} runs on models of unknown size are not counted)"
    return [line, f"({source}; models and `freeze` come on top)"]


def work(run: Run) -> float:
    """A run's work in requests × steps: an edit or a score is one, training three."""
    s, largest = run.settings, max(m.train_batches for m in run.measurements)
    trained = 3.0 * s.n_edits * largest * s.passes * s.bp_steps
    edited = 0.0
    for m in run.measurements:
        batch = m.protocol == "batch"
        requests = m.n_requests if batch else s.n_edits * m.n_batches
        stages = (m.edit_steps if m.rows == "eval" and batch else 1) * (
            1.0 if batch else (m.points + 1) / 2
        )
        edited += requests * (m.edit_steps + stages) + 40 * stages + 10 * m.generate
    return trained + edited


def measured_rates(plan: Plan, results: Path) -> dict[str, float]:
    """Model → seconds per unit of work, of the runs that are done."""
    spent: dict[str, list[float]] = {}
    for name, run in plan.runs.items():
        path = results / "benchmarks/runs" / f"{name}.tsv"
        if path.is_file():
            with path.open(encoding="utf-8") as file:
                seconds = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
            total = spent.setdefault(run.settings.model, [0.0, 0.0])
            total[0] += sum(seconds) / max(len(seconds), 1)
            total[1] += work(run)
    return {model: seconds / units for model, (seconds, units) in spent.items()}


def parameters(spec: Mapping[str, Any]) -> float | None:
    """About how many a model has, by the config.json that describes it; None if there is none."""
    path = suite_path(spec.get("architecture", ""))
    if not path.is_file():
        return None
    c = json.loads(path.read_text(encoding="utf-8"))
    width = c.get("hidden_size") or c.get("n_embd")
    depth = c.get("num_hidden_layers") or c.get("n_layer")
    if not (width and depth):
        return None
    inner = c.get("intermediate_size") or c.get("n_inner") or 4 * width
    return c.get("vocab_size", 0) * width + depth * (4 * width**2 + 3 * width * inner)


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
