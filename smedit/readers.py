"""Dataset files to edit requests: ZsRE and CounterFact, in the formats in which they are public.

ZsRE is read as MEND published it. CounterFact is read nested, as ROME published it, and flat, as
EasyEdit publishes it. docs/datasets.md says where the files are. Leading and trailing spaces of
every text are dropped, because an answer is always scored as one space and the answer. Rows are
counted from 1.
"""

import difflib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.errors import UserError, shown
from smedit.facts import (
    SPLIT_SEED,
    ZSRE_TUNE_SHARE,
    EditRequest,
    Prompt,
    Splits,
    cut_by_subject,
    disjoint_and_shuffled,
    split_pool,
    subject_key,
)
from smedit.files import user_path
from smedit.worldfacts import SPLIT_PERCENT, counterfact_rows, zsre_rows

LOG = logging.getLogger("smedit")

FORMATS = ("zsre", "counterfact")
SOURCES = ("builtin", "folder", "hub")
ZSRE_TARGETS = ("alt", "answers", "ans")
ZSRE_FILES = {"train": "zsre_mend_train.json", "eval": "zsre_mend_eval.json"}
FLAT_FILES = {
    "train": "counterfact-train.json",
    "tune": "counterfact-val.json",
    "eval": "counterfact-edit.json",
}
HUB_FILE = re.compile(r"\w[\w. -]*(/\w[\w. -]*)*\.(json|jsonl|csv|parquet)")
"""A file of a repository: no pickle, no archive, no other place on this machine or the web."""

NO_CHARACTER = re.compile("[\0\ud800-\udfff]")
"""NUL, and halves of the pairs by which UTF-16 writes a character."""

MAX_UNUSABLE_SHARE = 0.05
"""Largest share of a file's rows that may be left out (and reported) as unusable."""

Rows = tuple[str, Sequence[Any]]
"""The name of a file, for messages, and its rows."""


class _UnusableRowError(UserError):
    """A row that published files are known to hold now and then; see ``_requests``."""


def zsre_request(row: Mapping[str, Any], target: str, where: str) -> EditRequest:
    """Turn one ZsRE row into an edit request.

    Parameters
    ----------
    row : mapping
        Needs ``subject``, ``src``, ``rephrase``, ``loc``, ``loc_ans`` and the target's field.
    target : {"alt", "answers", "ans"}
        The field that holds the target; of a list, the first element is the target.
    where : str
        File and row, for messages.

    Returns
    -------
    EditRequest
        With one paraphrase and one locality prompt; the true answer is the first of ``answers``
        where the row has that field.

    Raises
    ------
    UserError
        If a field is missing or empty, or the subject is not part of the prompt.
    """
    if target not in ZSRE_TARGETS:
        raise UserError(f"target {target!r} is unknown; choose one of {', '.join(ZSRE_TARGETS)}")
    subject = _text(row, "subject", where)
    prompt = _text(row, "src", where)
    answer = _first(row, target, where)
    if not answer:
        raise _UnusableRowError(
            f"{where}, field {target}: the target is empty; fill it in or remove the row"
        )
    _check_subject(subject, prompt, where, "src")
    return EditRequest(
        subject=subject,
        edit=Prompt(prompt, answer),
        paraphrases=(Prompt(_text(row, "rephrase", where), answer),),
        locality=(Prompt(_text(row, "loc", where) + "?", _text(row, "loc_ans", where)),),
        true_answer=(_first(row, "answers", where) or None) if row.get("answers") else None,
    )


def counterfact_request(row: Mapping[str, Any], where: str) -> EditRequest:
    """Turn one CounterFact row, nested or flat, into an edit request.

    Parameters
    ----------
    row : mapping
        Nested (``requested_rewrite``, ``paraphrase_prompts``, ``neighborhood_prompts``) or flat
        (``prompt``, ``target_new``, ``subject``, ``ground_truth``, ``rephrase_prompt``,
        ``locality_prompt``, ``locality_ground_truth``).
    where : str
        File and row, for messages.

    Returns
    -------
    EditRequest
        Every prompt has both answers: its own one and the one that competes with it.

    Raises
    ------
    UserError
        If a field is missing or empty, a nested prompt does not hold ``{}`` exactly once, or the
        subject is not part of a flat prompt.
    """
    return _nested(row, where) if "requested_rewrite" in row else _flat(row, where)


def load_requests(name: str, spec: Mapping[str, Any], seed: int) -> Splits:
    """Read a dataset and split it.

    Parameters
    ----------
    name : str
        The dataset's name in the configuration, for messages.
    spec : mapping
        ``format`` and ``source``; ``target`` for ZsRE; ``data_dir`` for a folder; ``repository``,
        ``revision`` and ``files`` for the hub. See docs/datasets.md.
    seed : int
        Seed of the order within the splits; who is in which split never changes.

    Returns
    -------
    Splits
        Train, tune and eval requests, disjoint by subject. Official files are respected.

    Raises
    ------
    UserError
        If a setting, a file or a row is unusable, or a split would be empty.
    """
    form = _choice(name, spec, "format", FORMATS)
    source = _choice(name, spec, "source", SOURCES)
    target = _choice(name, spec, "target", ZSRE_TARGETS) if form == "zsre" else ""
    read = {"builtin": _builtin, "folder": _folder, "hub": _hub}[source]
    parts = {
        role: [request for rows in files for request in _requests(rows, form, target)]
        for role, files in read(name, form, spec).items()
    }
    if "pool" in parts:
        splits = split_pool(parts["pool"], seed)
    elif "tune" in parts:
        splits = disjoint_and_shuffled(parts["train"], parts["tune"], parts["eval"], seed)
    else:
        tune, evaluation = cut_by_subject(parts["eval"], (ZSRE_TUNE_SHARE,), SPLIT_SEED)
        splits = disjoint_and_shuffled(parts["train"], tune, evaluation, seed)
    for part, requests in vars(splits).items():
        if not requests:
            raise UserError(f"dataset {name}: the {part} split is empty; give it more subjects")
    return splits


def count_rows(name: str, spec: Mapping[str, Any]) -> dict[str, int] | None:
    """Count the rows of each split, so that a plan can be checked before any job starts.

    Parameters
    ----------
    name : str
        The dataset's name in the configuration, for messages.
    spec : mapping
        As for `load_requests`.

    Returns
    -------
    dict of str to int, or None
        Rows of ``train``, ``tune`` and ``eval``, the same for every seed. None for the hub, where
        the count is not known before the download.

    Raises
    ------
    UserError
        As `load_requests`.
    """
    if _choice(name, spec, "source", SOURCES) == "hub":
        return None
    splits = load_requests(name, spec, seed=0)
    return {part: len(requests) for part, requests in vars(splits).items()}


def _nested(row: Mapping[str, Any], where: str) -> EditRequest:
    rewrite = row["requested_rewrite"]
    if not isinstance(rewrite, Mapping):
        raise UserError(f"{where}, field requested_rewrite: not an object; restore the file")
    subject = _text(rewrite, "subject", where, "requested_rewrite.")
    template = _text(rewrite, "prompt", where, "requested_rewrite.")
    if template.count("{}") != 1:
        raise UserError(
            f"{where}, field requested_rewrite.prompt: {shown(template)} must hold {{}} exactly "
            "once, where the subject goes; correct the prompt"
        )
    new, true = (_answer_string(rewrite, field, where) for field in ("target_new", "target_true"))
    return EditRequest(
        subject=subject,
        edit=Prompt(template.replace("{}", subject), new, true),
        paraphrases=tuple(Prompt(text, new, true) for text in _texts(row, "paraphrase", where)),
        locality=tuple(Prompt(text, true, new) for text in _texts(row, "neighborhood", where)),
        true_answer=true,
    )


def _flat(row: Mapping[str, Any], where: str) -> EditRequest:
    subject, prompt, new, true = (
        _text(row, field, where) for field in ("subject", "prompt", "target_new", "ground_truth")
    )
    _check_subject(subject, prompt, where, "prompt")
    locality_answer = _text(row, "locality_ground_truth", where)
    return EditRequest(
        subject=subject,
        edit=Prompt(prompt, new, true),
        paraphrases=(Prompt(_text(row, "rephrase_prompt", where), new, true),),
        locality=(Prompt(_text(row, "locality_prompt", where), locality_answer, new),),
        true_answer=true,
    )


def _text(row: Mapping[str, Any], field: str, where: str, prefix: str = "") -> str:
    value = row.get(field)
    if value is None:
        raise UserError(f"{where}, field {prefix}{field}: missing; add it or remove the row")
    if not isinstance(value, str):
        raise UserError(
            f"{where}, field {prefix}{field}: {type(value).__name__} instead of text; correct it"
        )
    text = _stripped(value, f"{where}, field {prefix}{field}")
    if not text:
        raise UserError(f"{where}, field {prefix}{field}: empty; fill it in or remove the row")
    return text


def _stripped(text: str, where: str) -> str:
    """A text without the spaces around it; empty if there is nothing to see in it.

    What no text holds but a damaged one does is refused: tokenizers stumble over it.
    """
    found = NO_CHARACTER.search(text)
    if found:
        raise UserError(
            f"{where}: holds {found[0]!r}, which is no character; correct it or remove the row"
        )
    return text.strip() if any(c.isprintable() and not c.isspace() for c in text) else ""


def _texts(row: Mapping[str, Any], kind: str, where: str) -> list[str]:
    field = f"{kind}_prompts"
    values = row.get(field)
    if not isinstance(values, list) or not values:
        raise UserError(
            f"{where}, field {field}: needs a list of at least one prompt; add it or remove the row"
        )
    return [_text({f"{field}[{i}]": text}, f"{field}[{i}]", where) for i, text in enumerate(values)]


def _answer_string(rewrite: Mapping[str, Any], field: str, where: str) -> str:
    value = rewrite.get(field)
    if not isinstance(value, Mapping):
        raise UserError(
            f"{where}, field requested_rewrite.{field}: needs an object with the answer as str; "
            "add it or remove the row"
        )
    return _text(value, "str", where, f"requested_rewrite.{field}.")


def _first(row: Mapping[str, Any], field: str, where: str) -> str:
    """Return the field's text, or the first text of its list; empty if there is none."""
    value = row.get(field)
    if value is None:
        known = [choice for choice in ZSRE_TARGETS if row.get(choice) is not None]
        hint = f"set target: {known[0]}" if known else "add the field"
        raise UserError(f"{where}, field {field}: missing; {hint}")
    if isinstance(value, list):
        value = value[0] if value else ""
    if not isinstance(value, str):
        raise UserError(
            f"{where}, field {field}: {type(value).__name__} instead of text; correct it"
        )
    return _stripped(value, f"{where}, field {field}")


def _check_subject(subject: str, prompt: str, where: str, field: str) -> None:
    if subject_key(subject) not in subject_key(prompt):
        raise _UnusableRowError(
            f"{where}, field {field}: the prompt does not name the subject {shown(subject)}; "
            "correct the row or remove it"
        )


def _choice(name: str, spec: Mapping[str, Any], key: str, known: Sequence[str]) -> str:
    value = spec.get(key)
    if value in known:
        return str(value)
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
    raise UserError(f"dataset {name}, key {key}: {shown(value)} is unknown; {hint}")


def _requests(rows: Rows, form: str, target: str) -> list[EditRequest]:
    """Read all rows of one file; leave out the few unusable ones and say so in one log line."""
    file, items = rows
    if not items:
        raise UserError(f"{file}: no rows; restore the file")
    requests: dict[EditRequest, int] = {}
    unusable: dict[int, str] = {}
    for number, row in enumerate(items, start=1):
        where = f"{file}, row {number}"
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: {type(row).__name__} instead of an object; restore the file")
        try:
            request = (
                zsre_request(row, target, where)
                if form == "zsre"
                else counterfact_request(row, where)
            )
            if request in requests:
                raise _UnusableRowError(
                    f"{where}: the same as row {requests[request]}; remove one of them"
                )
            requests[request] = number
        except _UnusableRowError as error:
            unusable[number] = str(error)
    if unusable:
        first = next(iter(unusable.values()))
        count = f"{len(unusable)} of {len(items)} rows"
        if len(unusable) > MAX_UNUSABLE_SHARE * len(items):
            raise UserError(f"{first} ({count} are unusable; at most 5 % may be left out)")
        numbers = ", ".join(map(str, unusable))
        LOG.warning("%s: left out %s (rows %s); the first: %s", file, count, numbers, first)
    return list(requests)


def _builtin(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, list[Rows]]:
    rows = zsre_rows() if form == "zsre" else counterfact_rows()
    return {
        role: [("built-in world facts", [row for row in rows if row["split"] == role])]
        for role in SPLIT_PERCENT
    }


def data_files(name: str, spec: Mapping[str, Any]) -> list[Path]:
    """The files on this machine that a dataset is read from; none for the other sources.

    Raises
    ------
    UserError
        As `load_requests`.
    """
    form, source = _choice(name, spec, "format", FORMATS), _choice(name, spec, "source", SOURCES)
    return list(_files(name, form, spec).values()) if source == "folder" else []


def _folder(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, list[Rows]]:
    return {role: [_read_json(file)] for role, file in _files(name, form, spec).items()}


def _files(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, Path]:
    if not spec.get("data_dir"):
        raise UserError(f"dataset {name}, key data_dir: missing; name the folder with the files")
    folder = user_path(spec["data_dir"])
    if not folder.is_dir():
        raise UserError(f"dataset {name}, key data_dir: no folder {folder}; correct the path")
    official = ZSRE_FILES if form == "zsre" else FLAT_FILES
    if all((folder / file).is_file() for file in official.values()):
        return {role: folder / file for role, file in official.items()}
    looked_for = " and ".join(official.values())
    found = [] if form == "zsre" else sorted(folder.glob("counterfact*.json"))
    nested = folder / "counterfact.json"
    if nested in found or len(found) == 1:
        return {"pool": nested if nested in found else found[0]}
    if form == "counterfact":
        looked_for += ", or one counterfact.json"
        if found:
            looked_for += f"; found only {', '.join(path.name for path in found)}"
    raise UserError(f"dataset {name}: {folder} does not hold {looked_for}; put the files there")


def _read_json(path: Path) -> Rows:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not complete JSON ({error}); download the file again, or write its rows as "
            "one list"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: {type(rows).__name__} instead of a list of rows; restore it")
    return path.name, rows


def _hub(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, list[Rows]]:
    repository, revision = spec.get("repository"), str(spec.get("revision"))
    if not repository:
        raise UserError(f"dataset {name}, key repository: missing; name it as owner/name")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"dataset {name}, key revision: {revision!r} is not a full commit (40 hexadecimal "
            "digits); pin one, so that the data cannot change"
        )
    files: Mapping[str, str] = spec.get("files") or {}
    roles = [set(ZSRE_FILES)] if form == "zsre" else [{"pool"}, set(FLAT_FILES)]
    if set(files) not in roles:
        expected = " or ".join(", ".join(sorted(choice)) for choice in roles)
        raise UserError(
            f"dataset {name}, key files: names {', '.join(files) or 'nothing'}; expected {expected}"
        )
    for role, file in files.items():
        if not HUB_FILE.fullmatch(str(file)):
            raise UserError(
                f"dataset {name}, key files.{role}: {file!r} is not a .json, .jsonl, .csv or "
                ".parquet file inside the repository; write its path"
            )
    return {
        role: [(f"{repository}/{file}", _hub_rows(name, repository, revision, file))]
        for role, file in files.items()
    }


def _hub_rows(name: str, repository: str, revision: str, file: str) -> list[dict[str, Any]]:
    """Download one file, as a list of rows."""
    import datasets  # not at module level: it takes seconds to import

    # One file at a time: datasets asks all files of one call to have the same columns.
    try:
        loaded: Iterable[Any] = datasets.load_dataset(
            repository, data_files=file, revision=revision
        ).values()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"dataset {name}: cannot load {file} of {repository} at {revision} "
            f"({reason}); check the names and the network, or use source: folder"
        ) from error
    return [row for split in loaded for row in split.to_list()]
