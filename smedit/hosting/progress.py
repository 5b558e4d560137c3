"""How far a run of the workflow is: runs done, share of the work, time left.

Each job's seconds are predicted (`smedit.plan.cost`) and calibrated by the jobs that have ended,
those of earlier runs of the workflow, too, until there are some of this one. How many jobs run at a
time is measured, so that cores, memory, GPUs and a cluster's queue count as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smedit.hosting.borrowed import Job
from smedit.plan.cost import Calibration, seconds, seconds_in
from smedit.plan.jobs import not_held

SMOKE = "smoke_"
"""Before the names of the smoke test's rules, which the Snakefile imports."""

RUN = "run"
USUAL = {"prepare_model": 40.0, "freeze": 60.0, "figures_of_tables": 40.0}
"""Seconds of jobs that are no runs; of all others `OTHER`."""

OTHER = 8.0
LAST = {"tables_of_results", "figures_of_tables", "provenance"}
"""Rules that come after all runs, one after the other."""


@dataclass(frozen=True)
class Piece:
    """A job's share in the work.

    Attributes
    ----------
    kind, group
        Its rule, and what it is calibrated with: of a run, model and dataset.
    predicted
        Its seconds, before any calibration.
    benchmark
        The file that will hold the seconds it took.
    """

    kind: str
    group: tuple[str, ...]
    predicted: float
    benchmark: str = ""

    @property
    def is_run(self) -> bool:
        """Whether it trains and measures; others prepare, or gather results."""
        return self.kind == RUN


class Progress:
    """The state of a run of the workflow.

    Parameters
    ----------
    pieces
        Number of a job → its share.
    before
        Runs that were done before.
    cores
        Jobs at a time until some have ended; None on a cluster, where a job's own seconds are read
        from its benchmark file, as it waits before it starts.
    """

    def __init__(self, pieces: Mapping[int, Piece], before: int, cores: int | None) -> None:
        self.pieces = dict(pieces)
        self.before = before
        self.cores = cores
        self.begun: dict[int, float] = {}
        self.took: dict[int, float] = {}
        self.runs, self.others = Calibration(), Calibration()
        self._busy = self._seen = 0.0

    def start(self, number: int, now: float) -> None:
        """Count a job as running."""
        if number in self.pieces:
            self._pass(now)
            self.begun[number] = now

    def end(self, number: int, now: float) -> None:
        """Count a job as done, and learn from the time that it took."""
        if number not in self.pieces or number in self.took:
            return
        self._pass(now)
        piece, begun = self.pieces[number], self.begun.pop(number, now)
        took = now - begun
        if self.cores is None:
            took = seconds_in(piece.benchmark) or took
        self.took[number] = took
        (self.runs if piece.is_run else self.others).add(piece.group, took, piece.predicted)

    def fail(self, number: int, now: float) -> None:
        """Count a job as not running; it may be tried again."""
        self._pass(now)
        self.begun.pop(number, None)

    @property
    def done(self) -> int:
        """Runs that are done, those of before, too."""
        return self.before + sum(self.pieces[number].is_run for number in self.took)

    @property
    def all(self) -> int:
        """Runs in all."""
        return self.before + sum(piece.is_run for piece in self.pieces.values())

    def share(self, now: float) -> float:
        """How much of this command's work is done, from 0 to 1."""
        parts = self._left(now)
        worked = sum(self.took.values()) + sum(
            self._predicted(number) - parts[number] for number in self.begun
        )
        total = worked + sum(parts.values())
        return worked / total if total else 1.0

    def seconds_left(self, now: float) -> float | None:
        """Until all is done; None as long as no run has ended from which to tell."""
        if not self.runs.ended and any(piece.is_run for piece in self.pieces.values()):
            return None
        parts = self._left(now)
        last = sum(left for number, left in parts.items() if self.pieces[number].kind in LAST)
        rest = [left for number, left in parts.items() if self.pieces[number].kind not in LAST]
        abreast, longest = self.abreast(now), max(rest, default=0)
        # At best the longest job comes first, at worst it is left for the end.
        best = max(sum(rest) / abreast, longest)
        worst = (sum(rest) - longest) / abreast + longest
        return (best + worst) / 2 + last

    def abreast(self, now: float) -> float:
        """How many jobs run at a time, as measured while any run did."""
        self._pass(now)
        worked = sum(took for number, took in self.took.items() if self.pieces[number].is_run)
        if self.cores is not None:
            worked += sum(now - t for n, t in self.begun.items() if self.pieces[n].is_run)
        return max(1.0, worked / self._busy) if worked and self._busy else float(self.cores or 1)

    def _left(self, now: float) -> dict[int, float]:
        """Number of a job that is not done → its seconds that are left."""
        left = {n: self._predicted(n) for n in self.pieces if n not in self.took}
        if self.cores is not None:
            for number, begun in self.begun.items():
                left[number] = max(left[number] - (now - begun), 0.1 * left[number])
        return left

    def _predicted(self, number: int) -> float:
        piece = self.pieces[number]
        return piece.predicted * (self.runs if piece.is_run else self.others).factor(piece.group)

    def _pass(self, now: float) -> None:
        """Let time pass, and count it as busy if any run was running."""
        if any(self.pieces[number].is_run for number in self.begun):
            self._busy += now - self._seen
        self._seen = now


current: Progress | None = None
"""Of the run of this process; none with ``--no-hooks``."""


def begin(
    jobs: Sequence[Job],
    to_do: Sequence[Job],
    settings: Mapping[int, Mapping[str, Any]],
    cores: int | None,
) -> None:
    """Know what there is to do.

    Parameters
    ----------
    jobs, to_do
        All jobs that the targets need, and those that are not done.
    settings
        Number of a job → what it takes.
    cores
        Of this machine that the run may use; None on a cluster.
    """
    global current
    numbers = {job.number for job in to_do}
    pieces = {job.number: piece_of(job, settings.get(job.number)) for job in jobs if job.outputs}
    done = [piece for number, piece in pieces.items() if number not in numbers]
    earlier = Calibration()
    for piece in done:
        if piece.is_run and (took := seconds_in(piece.benchmark)):
            earlier.add(piece.group, took, piece.predicted)
    left = {
        number: replace(piece, predicted=piece.predicted * earlier.factor(piece.group))
        if piece.is_run
        else piece
        for number, piece in pieces.items()
        if number in numbers
    }
    threads = max((job.threads for job in to_do), default=1)
    slots = None if cores is None else max(1, cores // threads)
    current = Progress(left, sum(piece.is_run for piece in done), slots)


def piece_of(job: Job, settings: Mapping[str, Any] | None) -> Piece:
    """A job's share in the work, by what it takes."""
    kind = job.rule.removeprefix(SMOKE)
    if kind != RUN or settings is None:
        return Piece(kind, (kind,), USUAL.get(kind, OTHER), job.benchmark)
    trains = settings["settings"]
    asked = not_held(settings["asked"], Path(job.outputs[0]))
    predicted = seconds(trains, asked, settings["model_spec"])
    return Piece(kind, (trains["model"], trains["dataset"]), predicted, job.benchmark)


def line(progress: Progress, now: float | None = None) -> str:
    """What a person reads."""
    now = time.time() if now is None else now
    left = progress.seconds_left(now)
    words = "time left: known once the next run is done"
    if left is not None:
        words = f"{in_words(left)} left"
    runs = f"{progress.done} of {progress.all} runs done; " if progress.all else ""
    return f"{runs}{100 * progress.share(now):.0f} % of the work; {words}"


def in_words(seconds: float) -> str:
    """A time to go by: in seconds, minutes or hours."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
