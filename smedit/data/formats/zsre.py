"""ZsRE, as MEND published it: a row → an edit request."""

from collections.abc import Mapping
from typing import Any

from smedit.data.facts import EditRequest, Prompt
from smedit.data.formats import dataset_format
from smedit.data.row_fields import UnusableRowError, check_subject, stripped, text_of
from smedit.data.worldfacts import zsre_rows
from smedit.errors import UserError, kind_of

ZSRE_TARGETS = ("alt", "answers", "ans")
ZSRE_FILES = {"train": "zsre_mend_train.json", "eval": "zsre_mend_eval.json"}


@dataset_format(
    "zsre",
    files=ZSRE_FILES,
    options={"target": ("alt", "answers")},
    builtin=zsre_rows,
    marks=("src", "alt", "rephrase"),
    fields=("subject", "src", "rephrase", "alt", "answers", "loc", "loc_ans"),
)
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
    subject = text_of(row, "subject", where)
    prompt = text_of(row, "src", where)
    answer = _first(row, target, where)
    if not answer:
        raise UnusableRowError(
            f"{where}, field {target}: the target is empty; fill it in or remove the row"
        )
    check_subject(subject, prompt, where, "src")
    return EditRequest(
        subject=subject,
        edit=Prompt(prompt, answer),
        paraphrases=(Prompt(text_of(row, "rephrase", where), answer),),
        locality=(Prompt(text_of(row, "loc", where) + "?", text_of(row, "loc_ans", where)),),
        true_answer=(_first(row, "answers", where) or None) if row.get("answers") else None,
    )


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
        raise UserError(f"{where}, field {field}: {kind_of(value)} instead of a text; correct it")
    return stripped(value, f"{where}, field {field}")
