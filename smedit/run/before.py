"""What `freeze` wrote beside the frozen states: how it is read, and whether it still fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.data.facts import EditRequest, Splits
from smedit.store.files import refuse, what_changed
from smedit.store.results import checksum, result_with
from smedit.store.sources import frozen_checksum

LAYOUT = 4
"""How the file is laid out; another layout is another version of the suite's."""

FOR_SETTINGS = ("model", "edit_modules", "precision", "dataset", "seed")
FOR_SPECS = ("model_spec", "dataset_spec")


def made_for(job: Mapping[str, Any]) -> dict[str, Any]:
    """What of a job decides what `freeze` computes."""
    settings = {name: job["settings"][name] for name in FOR_SETTINGS}
    return settings | {name: job[name] for name in FOR_SPECS}


def read_before(job: Mapping[str, Any], states: Path, path: Path) -> dict[str, Any]:
    """What `freeze` wrote at ``path`` for this job, if its other file is still as it wrote it.

    Raises
    ------
    UserError
        If not. The file is marked; see `smedit.store.files.refuse`.
    """
    before = result_with("made_for", path)
    if (before.get("layout"), before.get("sources")) != (LAYOUT, frozen_checksum()):
        refuse(path, "made by another version of the suite")
    ours, theirs = made_for(job), before["made_for"]
    other = [name for name in ours if ours[name] != theirs.get(name)]
    if other:
        refuse(path, f"made for another {' and '.join(other)}")
    changed = what_changed(states, before["states"])
    if changed and states.exists():
        refuse(states, changed)
    return before


def describe_rows(rows: Sequence[EditRequest]) -> dict[str, Any]:
    """How many rows these are, and the SHA-256 of what they say."""
    return {"count": len(rows), "sha256": checksum([dataclasses.asdict(row) for row in rows])}


def check_rows(
    dataset: str,
    splits: Splits,
    scored: Mapping[str, int],
    path: Path,
    before: Mapping[str, Any],
    perplexity: bool,
) -> None:
    """Check that what `freeze` wrote at ``path`` was made from these rows, and from enough.

    Parameters
    ----------
    dataset, splits
        The dataset's name, and what it holds by now.
    scored
        Split → how many of its rows are scored.
    path, before
        What `freeze` wrote, and what it holds.
    perplexity
        Whether the whole held-out text is needed, too.

    Raises
    ------
    UserError
        If a file of the dataset was changed since, or something is lacking. The file is marked; see
        `smedit.store.files.refuse`.
    """
    frozen = before["rows"]
    for split, expected in frozen.items():
        if describe_rows(splits.parts[split][: expected["count"]]) != expected:
            refuse(path, f"made from other {split} rows than dataset {dataset} has by now")
    for split, count in scored.items():
        if frozen[split]["count"] < count:
            rows = f"{frozen[split]['count']} {split} rows of dataset {dataset}"
            refuse(path, f"made for {rows}, {count} are needed")
    if perplexity and not before["perplexity"]:
        refuse(path, "made without the held-out text, which edits in sequence need")
