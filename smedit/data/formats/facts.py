"""One's own facts: the plainest format, with whatever else is known of each."""

from collections.abc import Mapping, Sequence
from typing import Any

from smedit.data.facts import EditRequest, Prompt
from smedit.data.formats import dataset_format
from smedit.data.row_fields import text_of
from smedit.errors import UserError, kind_of

SEPARATOR = "|"
"""Stands between the paraphrases of one cell of a table."""

FIELDS = ("id", "prompt", "target", "subject", "paraphrases", "competing", "locality", "space")
CELLS = ("locality_prompt", "locality_answer")


@dataset_format("facts", marks=("prompt", "target"), fields=(*FIELDS, *CELLS))
def fact_request(row: Mapping[str, Any], where: str) -> EditRequest:
    """Turn one fact into an edit request.

    Parameters
    ----------
    row : mapping
        ``prompt`` and ``target``. If there are such: ``subject``; ``paraphrases``, a list (in a
        table, one cell with | between them); ``competing``, the answer that stands against the
        target; ``locality``, a list of objects with ``prompt`` and ``answer`` (in a table,
        ``locality_prompt`` and ``locality_answer``); ``space``, false (in a table, ``no``) where
        nothing stands between a prompt and its answer, as in Chinese.
    where : str
        File and row, for messages.

    Returns
    -------
    EditRequest
        A fact without ``subject`` is about its prompt.

    Raises
    ------
    UserError
        If the prompt or the target is missing, or a field is not of its kind.
    """
    given = {key: value for key, value in row.items() if value not in (None, "")}
    prompt, target = (text_of(given, field, where) for field in ("prompt", "target"))
    competing = text_of(given, "competing", where) if "competing" in given else None
    if competing == target:
        raise UserError(f"{where}, field competing: the same as the target; leave it out")
    between = "" if _without_space(given, where) else " "
    paraphrases = given.get("paraphrases", ())
    if isinstance(paraphrases, str):
        paraphrases = [part for part in paraphrases.split(SEPARATOR) if part.strip()]
    return EditRequest(
        subject=text_of(given, "subject", where) if "subject" in given else prompt,
        edit=Prompt(prompt, target, competing, between),
        paraphrases=tuple(
            Prompt(text_of({name: text}, name, where), target, competing, between)
            for name, text in _numbered(paraphrases, "paraphrases", where)
        ),
        locality=tuple(_locality(given, where, between)),
        true_answer=competing,
    )


def _locality(row: Mapping[str, Any], where: str, between: str) -> list[Prompt]:
    entries = _numbered(row.get("locality", ()), "locality", where)
    if any(field in row for field in CELLS):
        cells = {"prompt": row.get(CELLS[0]), "answer": row.get(CELLS[1])}
        entries.append(("locality", cells))
    prompts = []
    for name, entry in entries:
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{where}, field {name}: {kind_of(entry)} instead of an object with prompt "
                "and answer; correct it"
            )
        text, answer = (text_of(entry, key, where, f"{name}.") for key in ("prompt", "answer"))
        prompts.append(Prompt(text, answer, between=between))
    return prompts


def _without_space(row: Mapping[str, Any], where: str) -> bool:
    said = row.get("space", True)
    known = {True: False, False: True, "yes": False, "no": True}
    if not isinstance(said, bool | str) or said not in known:
        raise UserError(f"{where}, field space: {said!r}; write false (in a table, no), or omit it")
    return known[said]


def _numbered(values: Any, field: str, where: str) -> list[tuple[str, Any]]:
    """The entries of a list, each with its name in messages."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(f"{where}, field {field}: {kind_of(values)} instead of a list")
    return [(f"{field}[{number}]", value) for number, value in enumerate(values)]
