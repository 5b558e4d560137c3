"""Training batches on the fast path at several sizes, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from smedit.benchmark.pieces import TRAINING, Variant
from smedit.benchmark.process import Task, in_new_process, measure_point, save_states
from smedit.benchmark.table import Row, row, seconds_rows, slope_row


class PointsPart:
    """Training batches on the fast path, each point in a process of its own.

    Parameters
    ----------
    part
        ``n_edits`` or ``bp_steps`` (what grows; a slope is fitted) or ``locality``.
    job
        A model's, as in `PathsPart`.
    section
        The part's settings: ``methods``, ``n_edits`` and for ``bp_steps`` the steps.
    folder
        For the frozen states.
    """

    def __init__(
        self, part: str, job: Mapping[str, Any], section: Mapping[str, Any], folder: Path
    ) -> None:
        self.part, self.job, self.section = part, job, section
        self.states = folder / f"{part}-{job['model']}.safetensors"
        self.points = [
            (Variant.of({**entry, **steps}), n)
            for entry in section["methods"]
            for n in section["n_edits"]
            for steps in [{"bp_steps": s} for s in section.get("bp_steps", [])] or [{}]
        ]
        self.points.sort(key=lambda point: point[1])  # KL and norm of one size run side by side
        self.measured: dict[tuple[Variant, int], dict[str, Any]] = {}

    def tasks(self) -> list[Task]:
        """Run the frozen part, then every point."""
        largest, model = max(self.section["n_edits"]), self.job["model"]
        tasks = [Task(f"{model}, frozen part run", 3.0 * largest, self._freeze)]
        for variant, n in self.points:
            choices = f"{variant.locality}, steps {variant.bp_steps}, {n} edits"
            what = f"{model}, {variant.method}, {choices}"
            cost = n * variant.bp_steps * self.section["repetitions"] + 50
            tasks.append(Task(what, cost, partial(self._measure, variant, n)))
        return tasks

    def rows(self) -> list[Row]:
        """All rows of this part."""
        keys = {
            "part": self.part,
            **{name: self.job[name] for name in ("model", "dataset", "precision", "threads")},
            "path": "fast",
            "piece": TRAINING,
        }
        rows: list[Row] = []
        for (variant, n), measured in self.measured.items():
            mine = keys | vars(variant) | {"n_edits": n, "device": measured["device"]}
            rows += seconds_rows(mine, measured["seconds"])
            for phase, value in measured["memory_mb"].items():
                rows.append(row(mine, "peak_memory_mb", [value], phase=phase))
        return rows if self.part == "locality" else rows + self._slopes(keys, rows)

    def _slopes(self, keys: Mapping[str, Any], rows: Sequence[Row]) -> list[Row]:
        slopes: list[Row] = []
        fixed = "bp_steps" if self.part == "n_edits" else "n_edits"
        names = ("method", "locality", fixed, "device")
        for group in dict.fromkeys(tuple(r[name] for name in names) for r in rows):
            shared = dict(zip(names, group, strict=True))
            mine = [r for r in rows if all(r[name] == value for name, value in shared.items())]
            for quantity in ("seconds", "peak_memory_mb"):
                slopes.append(slope_row({**keys, **shared}, mine, self.part, quantity))
        return slopes

    def _freeze(self) -> None:
        largest = max(self.section["n_edits"])
        in_new_process(save_states, self.job, self.points[0][0], largest, self.states)

    def _measure(self, variant: Variant, n_edits: int) -> None:
        self.measured[variant, n_edits] = in_new_process(
            measure_point, self.job, self.states, variant, n_edits, self.section["repetitions"]
        )
