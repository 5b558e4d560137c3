"""Training in sequence, variant after variant in turns, so that a slow spell meets them all.

What is timed is what a stream's job calls training (`smedit.run.stream_cell.train`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.benchmark.pieces import Variant
from smedit.benchmark.process import Task, device_name, in_new_process, save_states
from smedit.benchmark.table import Row, row
from smedit.data.readers import load_requests
from smedit.engine.clock import Clock
from smedit.run.jobs import make_editor, open_model
from smedit.run.stream_cell import train

COST = 3.0
"""Rough cost of a request and step, as in `Task`: batches are small, and RLEdit looks back."""


class InSequencePart:
    """Seconds of training in sequence per request, one process per model.

    Parameters
    ----------
    job
        A model's, as in `PathsPart`, with the hyperparameters of streams.
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
    model = open_model(job, states)
    splits = load_requests(job["dataset"], job["dataset_spec"], job["seed"])
    # Another pass would only repeat the first.
    stream = {key: section[key] for key in ("n_edits", "train_sequences")} | {"passes": 1}
    seconds: list[list[float]] = [[] for _ in variants]
    for repetition in range(section["repetitions"] + 1):
        for variant, mine in zip(variants, seconds, strict=True):
            settings = {**vars(variant), **stream, "seed": job["seed"]}
            editor = make_editor(settings, job["hyperparameters"], model, variant.bp_steps)
            clock = Clock(model.device)
            with clock.phase("train"):
                steps = train({**job, "settings": settings}, model, editor, splits)
            if repetition:
                mine.append(clock.seconds["train"] / (section["n_edits"] * len(steps)))
    return {"seconds": seconds, "device": device_name(model.device)}
