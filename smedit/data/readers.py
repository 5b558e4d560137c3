"""Dataset files to edit requests, in the formats of `smedit.data.formats`.

docs/datasets.md says where the files are. Rows are counted from 1. What is left out, of rows or of
their locality prompts, is counted, and one line of the log says so.
"""

import difflib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smedit.data.dataset_sources import (
    Rows,
    builtin_rows,
    file_rows,
    files_of,
    folder_rows,
    hub_rows,
)
from smedit.data.facts import UNSPLIT, EditRequest, Splits, Tally
from smedit.data.formats import formats
from smedit.data.row_fields import UnusableRowError, check_scored_alike
from smedit.data.splits import TRAIN_SHARE, cut_off_tune, disjoint_and_shuffled, split_pool
from smedit.errors import UserError, kind_of, shown

LOG = logging.getLogger("smedit")

RowReader = Callable[[Mapping[str, Any], str], EditRequest]
"""Makes an edit request of a row; the text says which file and row, for messages."""


SOURCES = {"builtin": builtin_rows, "file": file_rows, "folder": folder_rows, "hub": hub_rows}
CONTRADICTIONS = ("keep", "leave_out")

MAX_UNUSABLE_SHARE = 0.05
"""Largest share of a file's rows that may be left out (and reported) as unusable."""

UNUSABLE = "unusable"
REPEATED = "the same as an earlier row"


def load_requests(name: str, spec: Mapping[str, Any], seed: int) -> Splits:
    """Read a dataset and split it.

    Parameters
    ----------
    name : str
        The dataset's name in the configuration, for messages.
    spec : mapping
        ``format`` and ``source``; the format's own keys; ``data_dir`` for a folder; ``path`` for
        a file; ``repository``, ``revision`` and ``files`` for the hub; ``tune_share``,
        ``contradictions``, ``space_before_answer`` and ``train_on``, another such mapping that
        gives the training rows, if wanted. See docs/datasets.md.
    seed : int
        Seed of the order within the splits; who is in which split never changes.

    Returns
    -------
    Splits
        Train, tune and eval requests, disjoint by subject. Official files are respected.

    Raises
    ------
    UserError
        If a setting, a file or a row is unusable, or a split would be empty. ``tune`` may be, if
        ``tune_share`` is 0.
    """
    form = _choice(name, spec, "format", formats())
    source = _choice(name, spec, "source", SOURCES)
    read_row = _row_reader(name, form, spec)
    if not _space_before_answer(name, spec):
        read_row = _without_space(read_row)
    tune_share = _tune_share(name, spec)
    leave_out = _choice(name, {"contradictions": "keep", **spec}, "contradictions", CONTRADICTIONS)
    parts: dict[str, list[EditRequest]] = {}
    left_out: list[Tally] = []
    files = SOURCES[source](name, form, spec)
    for role, rows in files.items():
        cut = role == "pool" or (role == "eval" and "tune" not in files and tune_share != 0)
        try:
            split = UNSPLIT if cut else role
            parts[role], tallies = _requests(_cut(rows, form), read_row, split)
        except UserError as error:
            raise UserError(f"dataset {name}: {error}") from error
        left_out += tallies
    if "train_on" in spec:
        parts["train"] = list(load_requests(f"{name} (train_on)", spec["train_on"], seed).train)
    share = {} if tune_share is None else {"tune_share": tune_share}
    leave = leave_out == "leave_out"
    if "pool" in parts:
        splits = split_pool(parts["pool"], seed, leave_out_contradictions=leave, **share)
    elif "tune" in parts:
        splits = disjoint_and_shuffled(parts["train"], parts["tune"], parts["eval"], seed, leave)
    else:
        splits = cut_off_tune(
            parts["train"], parts["eval"], seed, leave_out_contradictions=leave, **share
        )
    if "train_on" in spec:  # in the order in which an editor of that dataset sees them
        order = {row.edit: place for place, row in enumerate(parts["train"])}
        splits = replace(splits, train=tuple(sorted(splits.train, key=lambda r: order[r.edit])))
    _log(name, splits)
    splits = replace(splits, left_out=(*left_out, *splits.left_out))
    for part, requests in splits.parts.items():
        if not requests and not (part == "tune" and tune_share == 0):
            what = f"the {part} split is empty{splits.why(part)}"
            raise UserError(f"dataset {name}: {what}; give it more subjects")
    check_scored_alike(f"dataset {name}", [*splits.tune, *splits.eval])
    return splits


def splits_before_jobs(name: str, spec: Mapping[str, Any]) -> Splits | None:
    """Read a dataset so that a plan can be checked before any job starts.

    Parameters
    ----------
    name : str
        The dataset's name in the configuration, for messages.
    spec : mapping
        As for `load_requests`.

    Returns
    -------
    Splits or None
        Of as many rows as for every seed. None for the hub, where they are not known before the
        download.

    Raises
    ------
    UserError
        As `load_requests`.
    """
    if _choice(name, spec, "source", SOURCES) == "hub":
        return None
    return load_requests(name, spec, seed=0)


def count_rows(name: str, spec: Mapping[str, Any]) -> dict[str, int] | None:
    """Count the rows of ``train``, ``tune`` and ``eval``; see `splits_before_jobs`."""
    splits = splits_before_jobs(name, spec)
    if splits is None:
        return None
    return {part: len(requests) for part, requests in splits.parts.items()}


def data_files(name: str, spec: Mapping[str, Any]) -> list[Path]:
    """The files on this machine that a dataset is read from; none for the other sources.

    Raises
    ------
    UserError
        As `load_requests`.
    """
    form = _choice(name, spec, "format", formats())
    source = _choice(name, spec, "source", SOURCES)
    own = list(files_of(name, form, spec).values()) if source in ("file", "folder") else []
    return own + (data_files(name, spec["train_on"]) if "train_on" in spec else [])


def _choice(name: str, spec: Mapping[str, Any], key: str, known: Collection[str]) -> str:
    value = spec.get(key)
    if value in tuple(known):  # a value of any type; a dict would ask for its hash
        return str(value)
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
    raise UserError(f"dataset {name}, key {key}: {shown(value)} is unknown; {hint}")


def _row_reader(name: str, form: str, spec: Mapping[str, Any]) -> RowReader:
    known = formats()[form]
    options = {key: _choice(name, spec, key, values) for key, values in known.options.items()}
    return lambda row, where: known.request(row, where=where, **options)


def _space_before_answer(name: str, spec: Mapping[str, Any]) -> bool:
    value = spec.get("space_before_answer", True)
    if not isinstance(value, bool):
        raise UserError(
            f"dataset {name}, key space_before_answer: {shown(value)} is neither true nor false; "
            "correct it"
        )
    return value


def _without_space(read_row: RowReader) -> RowReader:
    """Read rows whose answers follow their prompts without a space."""

    def read(row: Mapping[str, Any], where: str) -> EditRequest:
        request = read_row(row, where)
        edit, *others = (
            replace(prompt, between="")
            for prompt in (request.edit, *request.paraphrases, *request.locality)
        )
        n = len(request.paraphrases)
        return replace(
            request, edit=edit, paraphrases=tuple(others[:n]), locality=tuple(others[n:])
        )

    return read


def _tune_share(name: str, spec: Mapping[str, Any]) -> float | None:
    """The share of a cut file's subjects that is to be ``tune``; None for the usual one."""
    share = spec.get("tune_share", 0 if spec["source"] == "file" else None)
    if share is not None and not (isinstance(share, int | float) and 0 <= share < 1 - TRAIN_SHARE):
        raise UserError(
            f"dataset {name}, key tune_share: {shown(share)} is not a number from 0 to below "
            f"{1 - TRAIN_SHARE:g}; correct it"
        )
    return share


def _cut(rows: Rows, form: str) -> Rows:
    """The rows of a file, each cut into its requests where a format has several in one."""
    file, items = rows
    cut = formats()[form].cut
    if cut is None:
        return rows
    parts = [
        part
        for number, row in enumerate(items, start=1)
        for part in (cut(row, f"{file}, row {number}") if isinstance(row, Mapping) else [row])
    ]
    different = list({json.dumps(part, sort_keys=True): part for part in parts}.values())
    if len(different) < len(parts):
        LOG.info("%s: %d requests, each once; %d rows", file, len(different), len(items))
    return file, different


def _requests(rows: Rows, read_row: RowReader, split: str) -> tuple[list[EditRequest], list[Tally]]:
    """Read all rows of one file; leave out the few unusable ones and say so in the log."""
    file, items = rows
    if not items:
        raise UserError(f"{file}: no rows; restore the file")
    requests: dict[EditRequest, int] = {}
    problems: dict[str, dict[int, str]] = {UNUSABLE: {}, REPEATED: {}}
    for number, row in enumerate(items, start=1):
        where = f"{file}, row {number}"
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: {kind_of(row)} instead of an object; restore the file")
        try:
            request = read_row(row, where)
        except UnusableRowError as error:
            problems[UNUSABLE][number] = str(error)
            continue
        same = requests.setdefault(request, number)
        if same != number:
            problems[REPEATED][number] = f"{where}: the same as row {same}; remove one of them"
    tallies = [
        Tally(split, reason, rows=len(found), first=next(iter(found.values())))
        for reason, found in problems.items()
        if found
    ]
    n_unusable = sum(tally.rows for tally in tallies)
    if n_unusable > MAX_UNUSABLE_SHARE * len(items):
        count = f"{n_unusable} of {len(items)} rows"
        raise UserError(f"{tallies[0].first} ({count} are unusable; at most 5 % may be left out)")
    for tally in tallies:
        numbers = ", ".join(map(str, problems[tally.reason]))
        count = f"{tally.rows} of {len(items)} rows (rows {numbers})"
        LOG.warning("%s, %s: left out %s; the first: %s", file, tally.reason, count, tally.first)
    return list(requests), tallies


def _log(name: str, splits: Splits) -> None:
    """One line per split and reason for what splitting left out and found."""
    for tally in splits.left_out:
        first = f"; the first: {shown(tally.first)}" if tally.first else ""
        bare = sum(not request.locality for request in splits.parts[tally.split])
        more = f"; {bare} of its rows are left without any" if tally.prompts and bare else ""
        LOG.warning("dataset %s, %s: left out %s%s%s", name, tally.split, tally, first, more)
    for tally in splits.contradictions:
        what = f"{tally}; the first: {shown(tally.first)}"
        remedy = "contradictions: leave_out leaves them out"
        LOG.warning("dataset %s, %s: kept %s; %s", name, tally.split, what, remedy)
