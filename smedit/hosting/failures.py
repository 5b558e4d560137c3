"""Which jobs of a run failed, and why, from their logs and from what SLURM said of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from smedit.store.files import replacing

ENDED = r"exceeded memory limit|oom.kill|DUE TO [A-Z ]+"
"""In SLURM's log of a submission: it ended the job itself."""

STATES = r"OUT_OF_MEMORY|TIMEOUT|DEADLINE|NODE_FAIL|node failure|BOOT_FAIL|PREEMPTED|CANCELLED"
"""The same in what the plugin says of it."""


@dataclass(frozen=True)
class Submission:
    """What was said of a job's last submission to SLURM, which may have been a group's.

    Attributes
    ----------
    words
        SLURM's words, or those of the plugin that submits.
    taken
        Whether SLURM took it.
    logs
        SLURM's own logs of it.
    """

    words: str
    taken: bool
    logs: tuple[str, ...] = ()

    def reason(self) -> str:
        """Why there is no result, in SLURM's words; empty if it does not know."""
        words = self.words.partition("\n    sbatch call:")[0]
        words = " ".join(words.removeprefix("Job submission failed with exception: ").split())
        if not self.taken:
            return f"SLURM did not take it: {words or 'it did not say why'}"
        lines = [line for log in map(Path, self.logs) for line in _lines(log)]
        ended = [line for line in lines if re.search(ENDED, line)]
        if ended or re.search(STATES, words):
            return f"SLURM ended it: {ended[-1].strip() if ended else words}"
        return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


@dataclass(frozen=True)
class Failure:
    """A job that failed: its rule, its first output, its log, and the reason that this gives."""

    rule: str
    output: str
    log: str
    why: str


def find_failures(
    failed: Iterable[tuple[str, list[str], str]],
    started: float,
    submissions: Mapping[str, Submission] | None = None,
) -> list[Failure]:
    """Say why jobs failed.

    Parameters
    ----------
    failed
        Rule, outputs and log of each job that Snakemake counts as failed. One whose outputs were
        all made did its part: it was in a group with a job that failed.
    started
        When the run started, in seconds since the epoch; what is older is of an earlier run.
    submissions
        Log of a job → its last submission, on a cluster.
    """
    failures = []
    for rule, outputs, log in failed:
        why = _reason(Path(log), started, (submissions or {}).get(log))
        if not were_made(outputs, started) and not why.startswith("interrupted"):
            failures.append(Failure(rule, outputs[0], log, why))
    return sorted(failures, key=lambda failure: failure.output)


def were_made(paths: Iterable[str], started: float) -> bool:
    """Whether all files or folders are there and no older than the start of the run."""
    try:
        return all(Path(path).stat().st_mtime >= started for path in paths)
    except OSError:
        return False


def _reason(log: Path, started: float, submission: Submission | None) -> str:
    """The last error line of a log, else what SLURM says, else the log's last line."""
    of_slurm = submission.reason() if submission else ""
    if not were_made([str(log)], started):
        return of_slurm or "it was never started; see what Snakemake says of it"
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    errors = re.findall(r"(?m)^(?:smedit[\w -]*: )?error: (.*)", text)
    if errors:
        return errors[-1]
    if not text:
        return of_slurm or "it ended without a word: killed, or the disk is full"
    last = text.splitlines()[-1]
    if last.startswith("interrupted") or re.search(r"(?m)^Traceback ", text):
        return last
    return of_slurm or f"it ended without an error message (killed?); last line: {last}"


def describe(failures: list[Failure], n_unfinished: int, table: Path) -> str:
    """What a person wants to know of the failures; `write_table` puts them into a file."""
    parts = [f"Failed jobs: {len(failures)}, listed in {table}"]
    parts += [f"  {f.output}\n    {f.why}\n    log: {f.log}" for f in failures]
    waiting = n_unfinished - len(failures)
    if waiting:
        parts.append(f"{waiting} more have no result: they need one of those, or were not reached.")
    parts.append("All other results are safe. The same command tries again what is missing.")
    return "\n".join(parts)


def write_table(failures: list[Failure], table: Path) -> None:
    """Write the failures as CSV, a row each."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with replacing(table) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Failure))
        writer.writerows(astuple(failure) for failure in failures)
