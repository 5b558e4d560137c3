"""Records of KnowEdit and EasyEdit (arXiv 2401.01286): a row → an edit request."""

from collections.abc import Iterator, Mapping
from typing import Any

from smedit.data.facts import EditRequest, Prompt
from smedit.data.formats import dataset_format
from smedit.data.row_fields import text_of
from smedit.errors import UserError, kind_of

FIELDS = (
    *("prompt", "target_new", "subject", "ground_truth", "rephrase_prompt", "rephrase"),
    *("locality", "locality_prompt", "locality_ground_truth"),
)
WIKIBIO = {"text": "prompt", "labels": "target_new", "concept": "subject"}
"""What the part on biographies calls its fields."""


@dataset_format("knowedit", marks=("prompt", "target_new"), fields=FIELDS)
def knowedit_request(row: Mapping[str, Any], where: str) -> EditRequest:
    """Turn one record into an edit request.

    Parameters
    ----------
    row : mapping
        ``prompt`` and ``target_new``. If there are such: ``subject``, ``ground_truth``,
        ``rephrase_prompt`` or ``rephrase``, ``locality`` (kind → prompts with their
        ``ground_truth``), or ``locality_prompt`` and ``locality_ground_truth``. Of a list of
        answers, or of wordings of a locality prompt, the first stands for all.
    where : str
        File and row, for messages.

    Raises
    ------
    UserError
        If the prompt or the target is missing, or a field is not of its kind.
    """
    prompt = text_of(row, "prompt", where)
    target = text_of({"target_new": _first(row.get("target_new"))}, "target_new", where)
    true = _first(row.get("ground_truth"))
    others = row.get("rephrase") or row.get("rephrase_prompt") or []
    if not isinstance(others, str | list):
        raise UserError(f"{where}, field rephrase: {kind_of(others)} instead of a text")
    return EditRequest(
        subject=text_of(row, "subject", where) if row.get("subject") else prompt,
        edit=Prompt(prompt, target),
        paraphrases=tuple(
            Prompt(text_of({"rephrase": other}, "rephrase", where), target)
            for other in ([others] if isinstance(others, str) else others)
        ),
        locality=tuple(
            Prompt(text_of({"prompt": _first(text)}, "prompt", where, "locality."), first)
            for text, answer in _locality(row, where)
            if isinstance(first := _first(answer), str) and first.strip()
        ),
        true_answer=true if isinstance(true, str) else None,
    )


@dataset_format("wikibio", marks=tuple(WIKIBIO), fields=(*WIKIBIO, "locality"))
def wikibio_request(row: Mapping[str, Any], where: str) -> EditRequest:
    """Turn one biography of KnowEdit into an edit request; see `knowedit_request`."""
    return knowedit_request({WIKIBIO.get(key, key): value for key, value in row.items()}, where)


def _locality(row: Mapping[str, Any], where: str) -> Iterator[tuple[Any, Any]]:
    """Prompt and answer of each entry."""
    if row.get("locality_prompt"):
        yield row["locality_prompt"], row.get("locality_ground_truth")
    kinds = row.get("locality") or {}
    if not isinstance(kinds, Mapping):
        raise UserError(f"{where}, field locality: {kind_of(kinds)} instead of an object")
    for kind, entries in kinds.items():
        if isinstance(entries, Mapping):  # lists side by side
            texts, answers = entries.get("prompt"), entries.get("ground_truth")
            if isinstance(texts, list) and isinstance(answers, list):
                yield from zip(texts, answers, strict=False)
            else:
                yield texts, answers
        elif isinstance(entries, list) and all(isinstance(each, Mapping) for each in entries):
            yield from ((each.get("prompt"), each.get("ground_truth")) for each in entries)
        else:
            raise UserError(f"{where}, field locality.{kind}: holds no prompts; correct it")


def _first(value: Any) -> Any:
    """A value, or the first of a list of such, however deep."""
    while isinstance(value, list) and value:
        value = value[0]
    return value
