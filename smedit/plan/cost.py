"""About how long a run takes: by its requests, its steps, and the model's blocks that are computed.

Only the ratios between runs must be about right: what a machine makes of them is learned from the
runs that have ended (`Calibration`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smedit.models.module_names import layer_of
from smedit.store.files import suite_path

START = 8.0
"""Seconds in which a job starts, opens its model, and writes what it made."""

SECONDS = 1.1e-9
"""Of one core for one parameter and one unit of `work`: an AMD EPYC core."""

TRAINED = {"norm": 2.25, "kl": 3.0, "none": 1.75}
"""Units of a request in one training step, by locality loss."""

IN_SEQUENCE = 2.0
"""How much longer measuring takes along a stream, as fitted to the jobs of a default run."""

SCORED, HELD_OUT, GENERATED = 1.3, 70, 10
"""Units of a request's scores, of the held-out text, and of an answer by greedy decoding."""


def work(settings: Mapping[str, Any], asked: Sequence[Mapping[str, Any]]) -> float:
    """A run's work; the unit is one step of the edit of one request.

    The other kinds of work in this unit are taken from results of the reference run.
    """
    s = settings
    largest = max((m["train_batches"] for m in asked), default=0)
    trained = 0.0
    if s["training"] != "none":
        trained = TRAINED[s["locality"]] * s["n_edits"] * largest * s["passes"] * s["bp_steps"]
    measured = 0.0
    for m in asked:
        batch = m["protocol"] == "batch"
        requests = m["n_requests"] if batch else s["n_edits"] * m["n_batches"]
        each = m["rows"] == "eval" and batch and s["shift_rule"] != "fine_tuning"
        stages = (m["edit_steps"] if each else 1) * (1.0 if batch else (m["points"] + 1) / 2)
        streamed = 1.0 if batch else IN_SEQUENCE
        measured += streamed * requests * (m["edit_steps"] + SCORED * stages)
        measured += HELD_OUT * stages + GENERATED * m["generate"]
    return trained + measured


def seconds(
    settings: Mapping[str, Any], asked: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]
) -> float:
    """A run's seconds on one core; of a model of unknown size those of the smallest default one.

    Parameters
    ----------
    settings, asked, spec
        What trains, what is measured, and the model, as a job takes them.
    """
    size = parameters(spec, settings["edit_modules"]) or 4e7
    return START + SECONDS * size * work(settings, asked)


def parameters(spec: Mapping[str, Any], edit_modules: Sequence[str] = ()) -> float | None:
    """About how many a model has, by the config.json that describes it; None if there is none.

    Parameters
    ----------
    spec
        The model.
    edit_modules
        If given, only those of the blocks from the first edited one on, and half of the output
        layer: the blocks before are run once for all runs, and only answers reach the output.
    """
    path = suite_path(spec.get("architecture", ""))
    if not path.is_file():
        return None
    c = json.loads(path.read_text(encoding="utf-8"))
    width = c.get("hidden_size") or c.get("n_embd")
    depth = c.get("num_hidden_layers") or c.get("n_layer")
    if not (width and depth):
        return None
    inner = c.get("intermediate_size") or c.get("n_inner") or 4 * width
    blocks = depth - min((layer_of(name) or 0 for name in edit_modules), default=0)
    output = c.get("vocab_size", 0) * width * (0.5 if edit_modules else 1)
    return output + blocks * (4 * width**2 + 3 * width * inner)


def seconds_in(benchmark: str | Path) -> float | None:
    """The seconds in Snakemake's benchmark file; None if there is none, or no whole one."""
    with suppress(OSError, ValueError, KeyError), Path(benchmark).open(encoding="utf-8") as file:
        took = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
        return sum(took) / len(took) if took else None
    return None


@dataclass
class Calibration:
    """How many seconds a predicted second takes, by what has ended.

    A group of like runs is trusted by itself once some of its runs have ended; until then it
    takes after all others.
    """

    spent: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    ended: int = 0

    def add(self, group: tuple[str, ...], actual: float, predicted: float) -> None:
        """Learn from a run that has ended."""
        total = self.spent.setdefault(group, [0.0, 0.0])
        total[0] += actual
        total[1] += predicted
        self.ended += 1

    def factor(self, group: tuple[str, ...]) -> float:
        """Actual seconds for a predicted one."""
        if not self.ended:
            return 1.0
        actual, predicted = (sum(column) for column in zip(*self.spent.values(), strict=True))
        mean = predicted / self.ended
        own_actual, own_predicted = self.spent.get(group, (0.0, 0.0))
        return (own_actual + mean * actual / predicted) / (own_predicted + mean)
