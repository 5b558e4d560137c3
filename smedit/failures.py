"""Which jobs of a run failed, and why, from their logs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from smedit.files import replacing


@dataclass(frozen=True)
class Failure:
    """A job that failed: its rule, its first output, its log, and the reason that this gives."""

    rule: str
    output: str
    log: str
    why: str


def find_failures(failed: Iterable[tuple[str, list[str], str]]) -> list[Failure]:
    """Say why jobs failed.

    Parameters
    ----------
    failed
        Rule, outputs and log of each job that Snakemake counts as failed. One whose outputs are all
        there did its part: it was in a group with a job that failed.
    """
    failures = []
    for rule, outputs, log in failed:
        why = _reason(Path(log))
        if not all(Path(path).exists() for path in outputs) and not why.startswith("interrupted"):
            failures.append(Failure(rule, outputs[0], log, why))
    return sorted(failures, key=lambda failure: failure.output)


def _reason(log: Path) -> str:
    """The last error line of a log, else its last line."""
    if not log.is_file():
        return "it was never started; see what Snakemake says of it"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    why = (errors or lines or ["it ended without a word: killed, or the disk is full"])[-1]
    return why.removeprefix("error: ")


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
