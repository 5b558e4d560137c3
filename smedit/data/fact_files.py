"""A file of facts to edit, in any of the formats: read whole, in its order, nothing left out.

A dataset is read by `smedit.data.readers`, which splits it. Here every row is wanted, so the first
that cannot be used is named.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from smedit.data.facts import EditRequest, text_key
from smedit.data.formats import DatasetFormat, formats
from smedit.data.row_fields import check_scored_alike
from smedit.errors import UserError, counted, kind_of, nearest, shown

MISSPELT = 0.85
"""How alike a field and a known one are at least (`difflib`) where it is taken for a mistake."""

IDS = ("id", "case_id")
"""Fields by which a file calls its facts."""

DELIMITERS = (",", ";", "\t")
"""What stands between the cells of a table, as spreadsheets write it: what its first line has most
of."""


@dataclass(frozen=True)
class FactFile:
    """What a file of facts holds.

    Attributes
    ----------
    path
        The file.
    form
        Name of its format.
    requests
        One per fact.
    ids
        What the file calls each; else its number, from 1.
    notes
        What a person should know: fields that are not used, facts that contradict each other.
    """

    path: Path
    form: str
    requests: tuple[EditRequest, ...]
    ids: tuple[str, ...]
    notes: tuple[str, ...]


def read_facts(path: str | Path) -> FactFile:
    """Read a file of facts: JSON (a list), JSONL or CSV, in a format of `smedit.data.formats`.

    Raises
    ------
    UserError
        If the file cannot be read, holds no facts, or a fact cannot be used.
    """
    path = Path(path)
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path}: holds no facts; write one object with prompt and target per fact")
    form = _format_of(path, rows)
    facts: dict[EditRequest, str] = {}
    n_repeated = 0
    for number, row in enumerate(rows, start=1):
        where = f"{path}, fact {number}"
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: {kind_of(row)} instead of an object; correct it")
        parts = form.cut(row, where) if form.cut else [row]
        options = {key: values[0] for key, values in form.options.items()}
        found = [form.request(part, where=where, **options) for part in parts]
        given = (row.get(key) for key in IDS)
        name = str(next((each for each in given if each not in (None, "")), number))
        for part, request in enumerate(found, start=1):
            label = name if len(found) == 1 else f"{name}.{part}"
            n_repeated += request in facts
            facts.setdefault(request, label)
    check_scored_alike(str(path), list(facts))
    notes = [*_unused(form, rows), *_contradictions(list(facts)), *_doubled(facts.values())]
    if n_repeated:
        notes.append(f"{counted(n_repeated, 'fact')} left out, the same as earlier ones")
    return FactFile(path, form.name, tuple(facts), tuple(facts.values()), tuple(notes))


def fact(prompt: str, target: str, **more: Any) -> EditRequest:
    """One fact, with what else is known of it.

    Parameters
    ----------
    prompt, target
        A text, and how it goes on from now on.
    **more
        ``subject``, ``paraphrases``, ``competing``, ``locality``, as in a file of facts.

    Raises
    ------
    UserError
        If a field is unknown or not of its kind.
    """
    form = formats()["facts"]
    unknown = [name for name in more if name not in form.fields]
    if unknown:
        raise UserError(f"a fact has no {shown(unknown[0])}{nearest(unknown[0], form.fields)}")
    return form.request({"prompt": prompt, "target": target, **more}, where="the fact")


def check_are_facts(facts: Sequence[Any]) -> None:
    """Refuse what is no fact, such as a bare text.

    Raises
    ------
    UserError
        At the first.
    """
    other = [each for each in facts if not isinstance(each, EditRequest)]
    if other:
        raise UserError(f"{shown(other[0])}: no fact; make one with smedit.fact(prompt, target)")


def read_rows(path: Path) -> Sequence[Any]:
    """The rows of a JSON, JSONL or CSV file.

    Raises
    ------
    UserError
        If there is no such file, or it is not whole.
    """
    readers = {".json": _json, ".jsonl": _json_lines, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: name a file that ends in {', '.join(readers)}")
    try:
        return reader(path, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from error


def _json(path: Path, text: str) -> Sequence[Any]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not complete JSON ({error}); correct it") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: {kind_of(rows)} instead of a list of facts; write a list")
    return rows


def _json_lines(path: Path, text: str) -> Sequence[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}); correct it") from error
    return rows


def _csv(path: Path, text: str) -> Sequence[Any]:
    first_line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[Any] = []
    begins = 1
    try:
        begins += bool(reader.fieldnames)
        for row in reader:
            rows.append(row)
            begins = reader.line_num + 1
    except csv.Error as error:
        what = "a quotation mark that is never closed" if "end of data" in str(error) else error
        raise UserError(f"{path}, fact that begins in line {begins}: {what}; correct it") from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(
                f"{path}, fact {number}: has {'more' if None in row else 'fewer'} cells than the "
                "first line has names; put a cell with such a separator in quotes"
            )
    return rows


def _format_of(path: Path, rows: Sequence[Any]) -> DatasetFormat:
    """The format whose marks the first row has; of several, the one with the most."""
    first = rows[0] if isinstance(rows[0], Mapping) else {}
    fitting = [f for f in formats().values() if f.marks and all(m in first for m in f.marks)]
    if fitting:
        return max(fitting, key=lambda f: len(f.marks))
    if "prompt" in first or "target" in first:
        return formats()["facts"]  # it says which of the two is missing
    found = ", ".join(map(shown, list(first)[:8])) or "no fields"
    raise UserError(f"{path}, fact 1: has {found}; a fact needs prompt and target")


def _unused(form: DatasetFormat, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    used = {*form.fields, *IDS}
    names = dict.fromkeys(str(key) for row in rows for key in row if key not in used)
    if not names:
        return []
    free = [field for field in form.fields if not any(field in row for row in rows)]
    close = {name: get_close_matches(name.casefold(), free, 1, MISSPELT) for name in names}
    listed = (f"{name} (did you mean {near[0]}?)" if near else name for name, near in close.items())
    return [f"not used: {', '.join(listed)}"]


def _doubled(names: Iterable[str]) -> list[str]:
    often = [name for name, count in Counter(names).items() if count > 1]
    if not often:
        return []
    return [f"{counted(len(often), 'id')} given to several facts; the first: {often[0]}"]


def _contradictions(requests: Sequence[EditRequest]) -> list[str]:
    answers: dict[str, set[str]] = {}
    for request in requests:
        answers.setdefault(text_key(request.edit.text), set()).add(text_key(request.edit.answer))
    several = [text for text, found in answers.items() if len(found) > 1]
    if not several:
        return []
    return [f"{len(several)} prompts are given two targets, so one of them fails: {several[0]}"]
