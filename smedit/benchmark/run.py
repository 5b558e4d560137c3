"""The benchmark: the plain path against the fast one, scaling, KL against norm, and streams.

Every number is measured. The paths are timed in one process, in turns, so that a slow spell of
the machine meets them all; peak memory and operations come from processes of their own.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.benchmark.in_sequence import InSequencePart
from smedit.benchmark.paths import PathsPart
from smedit.benchmark.points import PointsPart
from smedit.benchmark.process import Task
from smedit.benchmark.settings import models_of_part, parts_of
from smedit.benchmark.summary import summary
from smedit.benchmark.table import as_table
from smedit.store.files import replacing

log = logging.getLogger("smedit")


def run_benchmark(job: Mapping[str, Any], out: Path) -> None:
    """Measure what the settings ask for.

    Parameters
    ----------
    job
        ``settings`` (a file like ``config/benchmark.yaml``), ``models`` (name →
        ``model_folder``, ``edit_modules``), ``dataset_spec`` and ``hyperparameters``
        (those of `smedit.benchmark.settings.PUBLISHED`).
    out
        The table to write; a summary is written beside it as ``.txt``.
    """
    settings = job["settings"]
    shared = {
        **{key: settings[key] for key in ("device", "precision", "threads", "dataset", "seed")},
        **{key: job[key] for key in ("dataset_spec", "hyperparameters")},
    }

    def of_model(name: str) -> dict[str, Any]:
        return {"model": name, **job["models"][name], **shared}

    busy = os.getloadavg()[0]
    if busy > 0.5:
        log.warning("the machine is busy (load average %.1f): other work spoils the times", busy)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts: list[PathsPart | InSequencePart | PointsPart] = []
        for name, section in parts_of(settings).items():
            for model in models_of_part(section):
                mine = of_model(model)
                if name == "paths":
                    parts.append(PathsPart(mine, section, folder))
                elif name == "in_sequence":
                    parts.append(InSequencePart(mine, section, folder))
                else:
                    parts.append(PointsPart(name, mine, section, folder))
        _carry_out([task for part in parts for task in part.tasks()])
        table = as_table([row for part in parts for row in part.rows()])
    with replacing(out) as partial_file:
        table.to_csv(partial_file, index=False, float_format="%.6g", lineterminator="\n")
    text = summary(table, settings)
    with replacing(out.with_suffix(".txt")) as partial_file:
        partial_file.write_text(text, encoding="utf-8")


def _carry_out(tasks: Sequence[Task]) -> None:
    level = log.level
    start, done, total = time.perf_counter(), 0.0, sum(task.cost for task in tasks)
    for task in tasks:
        log.setLevel("WARNING")  # the pieces' own progress lines would cost time and clarity
        try:
            task.do()
        finally:
            log.setLevel(level)
        done += task.cost
        spent = time.perf_counter() - start
        left = spent * (total / done - 1)
        log.info("%3.0f %% done, about %.0f s left: %s", 100 * done / total, left, task.what)
