"""Records of KnowEdit and EasyEdit (arXiv 2401.01286): a row → an edit request."""

from collections.abc import Iterator, Mapping
from typing import Any

from smedit.data.facts import EditRequest, Prompt
from smedit.data.formats import dataset_format
from smedit.data.row_fields import text_of

FIELDS = (
    *("prompt", "target_new", "subject", "ground_truth", "rephrase_prompt", "rephrase"),
    *("locality", "locality_prompt", "locality_ground_truth"),
)


@dataset_format("knowedit", marks=("prompt", "target_new"), fields=FIELDS)
def knowedit_request(row: Mapping[str, Any], where: str) -> EditRequest:
    """Turn one record into an edit request.

    Parameters
    ----------
    row : mapping
        ``prompt`` and ``target_new``. If there are such: ``subject``, ``ground_truth``,
        ``rephrase_prompt`` or ``rephrase``, ``locality`` (kind → prompts with their
        ``ground_truth``), or ``locality_prompt`` and ``locality_ground_truth``. An answer may be a
        list, of which the first stands for all.
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
    others = row.get("rephrase") or row.get("rephrase_prompt") or ()
    others = [others] if isinstance(others, str) else others
    return EditRequest(
        subject=text_of(row, "subject", where) if row.get("subject") else prompt,
        edit=Prompt(prompt, target),
        paraphrases=tuple(
            Prompt(text_of({"rephrase": other}, "rephrase", where), target) for other in others
        ),
        locality=tuple(
            Prompt(text_of(entry, "prompt", where, "locality."), answer)
            for entry in _locality(row)
            if isinstance(answer := _first(entry.get("ground_truth")), str) and answer.strip()
        ),
        true_answer=true if isinstance(true, str) else None,
    )


def _locality(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if row.get("locality_prompt"):
        answer = row.get("locality_ground_truth")
        yield {"prompt": row["locality_prompt"], "ground_truth": answer}
    kinds = row.get("locality")
    for entries in kinds.values() if isinstance(kinds, Mapping) else ():
        yield from (entry for entry in entries if isinstance(entry, Mapping))


def _first(value: Any) -> Any:
    """A value, or the first of a list of such, however deep."""
    while isinstance(value, list) and value:
        value = value[0]
    return value
