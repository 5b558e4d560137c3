"""Training in sequence, variant after variant in turns, so that a slow spell meets them all.

What is timed is a run's training (`smedit.run.training`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.benchmark.pieces import Variant
from smedit.benchmark.process import Task, device_name, in_new_process, opened, save_states
from smedit.benchmark.table import Row, row
from smedit.data.readers import load_requests
from smedit.engine.clock import Clock
from smedit.plan.variants import resolve
from smedit.run.opening import make_editor
from smedit.run.training import Training

COST = 3.0
"""Rough cost of a request and step, as in `Task`: batches are small, and RLEdit looks back."""


class InSequencePart:
    """Seconds of training in sequence per request, one process per model.

    Parameters
    ----------
    job
        A model's, as in `PathsPart`.
    section
        ``in_sequence`` of the settings.
    folder
        For the frozen states.
    """

    def __init__(self, job: Mapping[str, Any], section: Mapping[str, Any], folder: Path) -> None:
        self.job, self.section = job, section
        self.states = folder / f"in-sequence-{job['model']}.safetensors"
        self.variants = [Variant.of(entry) for entry in section["methods"]]
        self.requests = section["n_edits"] * section["train_sequences"]
        self.measured: dict[str, Any] = {}

    def tasks(self) -> list[Task]:
        """Run the frozen part, then train all variants in turns."""
        model = self.job["model"]
        steps = sum(variant.bp_steps for variant in self.variants)
        cost = COST * self.requests * steps * (self.section["repetitions"] + 1)
        return [
            Task(f"{model}, frozen part run", 3.0 * self.requests, self._freeze),
            Task(f"{model}, training in sequence", cost, self._measure),
        ]

    def rows(self) -> list[Row]:
        """All rows of this part."""
        keys = {
            "part": "in_sequence",
            **{name: self.job[name] for name in ("model", "dataset", "precision", "threads")},
            "device": self.measured["device"],
            "n_edits": self.section["n_edits"],
            "path": "fast",
            "piece": "training request",
            "phase": "total",
        }
        first = self.measured["seconds"][0]
        rows: list[Row] = []
        for variant, seconds in zip(self.variants, self.measured["seconds"], strict=True):
            mine = keys | vars(variant)
            rows.append(row(mine, "seconds", seconds))
            ratios = [a / b for a, b in zip(seconds, first, strict=True)]
            rows.append(row(mine, "ratio", ratios))
        return rows

    def _freeze(self) -> None:
        in_new_process(save_states, self.job, self.variants[0], self.requests, self.states)

    def _measure(self) -> None:
        self.measured = in_new_process(
            measure_in_sequence, self.job, self.states, self.variants, self.section
        )


def measure_in_sequence(
    job: Mapping[str, Any], states: Path, variants: Sequence[Variant], section: Mapping[str, Any]
) -> dict[str, Any]:
    """Train a fresh editor per variant on the same stream; all in turns, after an untimed turn.

    Returns
    -------
    dict
        ``seconds``: per variant, seconds per request of each repetition; ``device``: its name.
    """
    model = opened(job, states)
    splits = load_requests(job["dataset"], job["dataset_spec"], job["seed"])
    n_edits, n_batches = section["n_edits"], section["train_sequences"]
    rows = splits.train[: n_edits * n_batches]
    seconds: list[list[float]] = [[] for _ in variants]
    for repetition in range(section["repetitions"] + 1):
        for variant, mine in zip(variants, seconds, strict=True):
            given = {name: job[name] for name in ("model", "dataset", "seed")}
            given |= {**vars(variant), "protocol": "sequential", "n_edits": n_edits}
            settings = vars(resolve(given | job["hyperparameters"], job["edit_modules"])[0])
            clock = Clock(model.device)
            with clock.phase("train"):
                training = Training(make_editor(settings, model), model, settings, rows)
                for _ in training.up_to(n_batches):
                    pass
                training.editor()  # with the update that ends the pass
            if repetition:
                mine.append(clock.seconds["train"] / (n_edits * n_batches))
    return {"seconds": seconds, "device": device_name(model.device)}
