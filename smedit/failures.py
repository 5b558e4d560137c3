"""Which jobs of a run failed, and why, from their logs."""

from __future__ import annotations

import csv
import re
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


def find_failures(failed: Iterable[tuple[str, list[str], str]], started: float) -> list[Failure]:
    """Say why jobs failed.

    Parameters
    ----------
    failed
        Rule, outputs and log of each job that Snakemake counts as failed. One whose outputs were
        all made did its part: it was in a group with a job that failed.
    started
        When the run started, in seconds since the epoch; what is older is of an earlier run.
    """
    failures = []
    for rule, outputs, log in failed:
        why = _reason(Path(log), started)
        if not were_made(outputs, started) and not why.startswith("interrupted"):
            failures.append(Failure(rule, outputs[0], log, why))
    return sorted(failures, key=lambda failure: failure.output)


def were_made(paths: Iterable[str], started: float) -> bool:
    """Whether all files or folders are there and no older than the start of the run."""
    try:
        return all(Path(path).stat().st_mtime >= started for path in paths)
    except OSError:
        return False


def _reason(log: Path, started: float) -> str:
    """The last error line of a log, else its last line."""
    if not were_made([str(log)], started):
        return "it was never started; see what Snakemake says of it"
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    errors = re.findall(r"(?m)^(?:smedit[\w -]*: )?error: (.*)", text)
    if errors:
        return errors[-1]
    if not text:
        return "it ended without a word: killed, or the disk is full"
    last = text.splitlines()[-1]
    if last.startswith("interrupted") or re.search(r"(?m)^Traceback ", text):
        return last
    return f"it ended without an error message (killed?); last line: {last}"


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
