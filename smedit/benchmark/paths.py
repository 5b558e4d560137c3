"""The plain path against the fast one, in turns in one process; for some variants each saving.

Timing in turns lets a slow spell of the machine meet every path. Peak memory and operations come
from processes of their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from smedit.benchmark.pieces import (
    Evaluation,
    Run,
    Variant,
    Work,
    check_agreement,
    differences,
    paths,
    run,
)
from smedit.benchmark.process import (
    WARM_UP,
    Task,
    device_name,
    in_new_process,
    make_evaluation,
    make_work,
    measure_path,
    open_fast,
)
from smedit.benchmark.table import Row, row, seconds_rows
from smedit.engine.frozen_states import FrozenStates
from smedit.engine.language_model import LanguageModel

MATRIX_SIZE = 4096
"""Rows and columns of the matrices whose product is timed."""

COST = {"plain": 6.0, "fast": 1.0}
"""Rough cost of a path, for the estimate of what remains; paths in between cost 3."""


class PathsPart:
    """Plain path against fast path, per variant; for some variants each saving on its own.

    Parameters
    ----------
    job
        A model's, as in `smedit.benchmark.process.opened`, with data and hyperparameters.
    section
        ``paths`` of the settings.
    folder
        For the frozen states.
    """

    def __init__(self, job: Mapping[str, Any], section: Mapping[str, Any], folder: Path) -> None:
        self.job, self.section = job, section
        self.states = folder / "paths.safetensors"
        self.variants = [Variant.of(entry) for entry in section["methods"]]
        self.ablated = [Variant.of(entry) for entry in section["ablation"]]
        self.executions = paths(job["hyperparameters"]["minibatch"])
        self.model: LanguageModel
        self.work: dict[Variant, Work] = {}
        self.evaluation: Evaluation
        self.references: dict[Variant, Run] = {}
        self.seconds: dict[tuple[Variant, str], list[dict[str, dict[str, float]]]] = {}
        self.apart: dict[tuple[Variant, str], dict[str, float]] = {}
        self.alone: dict[tuple[Variant, str], dict[str, Any]] = {}
        self.products: list[float] = []
        self.device = ""

    def tasks(self) -> list[Task]:
        """Prepare; repeat all paths in turns; then each path in a process of its own."""
        n = self.section["n_edits"]
        tasks = [Task("model opened, frozen part run", 3.0 * n, self._prepare)]
        for repetition in range(self.section["repetitions"]):
            tasks.append(Task("matrix products", 10, self._multiply))
            for variant in self.variants:
                for path in self._order(variant, repetition):
                    what = f"{variant.label}, {path}, repetition {repetition + 1}"
                    tasks.append(
                        Task(what, self._cost(variant, path), partial(self._run, variant, path))
                    )
        for variant in self.variants:
            for path in ("plain", "fast"):
                what = f"{variant.label}, {path}, memory and operations"
                cost = self._cost(variant, path) + n / 2
                tasks.append(Task(what, cost, partial(self._measure_alone, variant, path)))
        return tasks

    def rows(self) -> list[Row]:
        """All rows of this part."""
        keys = {
            "part": "paths",
            **{name: self.job[name] for name in ("model", "dataset", "precision", "threads")},
            "device": self.device,
        }
        rows = [row(keys, "gflop_per_second", self.products, piece="matrix product")]
        keys |= {"n_edits": self.section["n_edits"]}
        for (variant, path), runs in self.seconds.items():
            rows += self._rows_of(keys | vars(variant) | {"path": path}, variant, path, runs)
        return rows

    def _rows_of(
        self,
        keys: Mapping[str, Any],
        variant: Variant,
        path: str,
        runs: Sequence[Mapping[str, Mapping[str, float]]],
    ) -> list[Row]:
        rows: list[Row] = []
        alone = self.alone.get((variant, path))
        for piece in runs[0]:
            timed = seconds_rows({**keys, "piece": piece}, [run[piece] for run in runs])
            rows += timed
            totals = [sum(run[piece].values()) for run in runs]
            if path != "plain":
                slow = [sum(run[piece].values()) for run in self.seconds[variant, "plain"]]
                ratios = [a / b for a, b in zip(slow, totals, strict=False)]
                rows.append(row(keys, "speedup", ratios, piece=piece, phase="total"))
            if alone:
                gflop = alone["operations"][piece] / 1e9
                rates = [gflop / seconds for seconds in totals]
                rows.append(row(keys, "gflop", [gflop], piece=piece, phase="total"))
                rows.append(row(keys, "gflop_per_second", rates, piece=piece, phase="total"))
        for name, value in self.apart.get((variant, path), {}).items():
            rows.append(row(keys, "largest_difference", [value], phase=name))
        for phase, value in (alone or {"memory_mb": {}})["memory_mb"].items():
            rows.append(row(keys, "peak_memory_mb", [value], phase=phase))
        return rows

    def _order(self, variant: Variant, repetition: int) -> list[str]:
        """Plain and fast take turns in going first; the paths in between run once."""
        if repetition == 0 and variant in self.ablated:
            return list(self.executions)
        return ["plain", "fast"] if repetition % 2 == 0 else ["fast", "plain"]

    def _cost(self, variant: Variant, path: str) -> float:
        return self.section["n_edits"] * variant.bp_steps * COST.get(path, 3.0)

    def _prepare(self) -> None:
        n = self.section["n_edits"]
        self.model = model = open_fast(self.job)
        self.work = {variant: make_work(self.job, model, variant, n) for variant in self.variants}
        self.evaluation = make_evaluation(self.job, model, n)
        parts: list[Work | Evaluation] = [*self.work.values(), self.evaluation]
        for part in parts:
            model.freeze(part.sequences)
        model.states.save(self.states)
        # As in a job of the workflow: the states are read from a file.
        model.states = FrozenStates.open(self.states, model.owner)
        self.device = device_name(model.device)
        self._warm_up()

    def _warm_up(self) -> None:
        """Run a small batch on both paths, so that neither pays for what comes first."""
        n = min(self.section["n_edits"], WARM_UP)
        evaluation = make_evaluation(self.job, self.model, n)
        small = make_work(self.job, self.model, self.variants[0], n)
        for path in ("plain", "fast"):
            run(self.model, small, evaluation, self.executions[path])

    def _multiply(self) -> None:
        self.products += matrix_products(self.model.device, self.model.dtype)

    def _run(self, variant: Variant, path: str) -> None:
        result = run(self.model, self.work[variant], self.evaluation, self.executions[path])
        self.seconds.setdefault((variant, path), []).append(result.seconds)
        reference = self.references.setdefault(variant, result)
        if reference is not result and path != "plain" and (variant, path) not in self.apart:
            found = differences(reference, result)
            self.apart[variant, path] = found
            what = f"{variant.label}, path {path!r} against plain"
            check_agreement(found, self.section["tolerance"], what)

    def _measure_alone(self, variant: Variant, path: str) -> None:
        if hasattr(self, "model"):
            del self.model  # its memory is the other process's now
        self.references.clear()
        self.alone[variant, path] = in_new_process(
            measure_path, self.job, self.states, variant, self.section["n_edits"], path
        )


def matrix_products(device: torch.device, dtype: torch.dtype, repetitions: int = 3) -> list[float]:
    """GFLOP/s of products of two large square matrices, after an untimed one."""
    a = torch.ones(MATRIX_SIZE, MATRIX_SIZE, dtype=dtype, device=device)
    rates: list[float] = []
    for repetition in range(repetitions + 1):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # reading a number waits for the GPU
        if repetition:
            rates.append(2 * MATRIX_SIZE**3 / 1e9 / (time.perf_counter() - start))
    return rates
