"""CounterFact, nested as ROME published it or flat as EasyEdit does: a row → an edit request."""

from collections.abc import Mapping
from typing import Any

from smedit.data.facts import EditRequest, Prompt
from smedit.data.formats import dataset_format
from smedit.data.row_fields import check_subject, text_of
from smedit.data.worldfacts import counterfact_rows
from smedit.errors import UserError, shown

FLAT_FILES = {
    "train": "counterfact-train.json",
    "tune": "counterfact-val.json",
    "eval": "counterfact-edit.json",
}


NESTED = ("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts")


@dataset_format(
    "counterfact",
    files=FLAT_FILES,
    pool="counterfact",
    builtin=counterfact_rows,
    marks=NESTED,
    fields=(*NESTED, "case_id"),
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


def _nested(row: Mapping[str, Any], where: str) -> EditRequest:
    subject, prompt, new, true = rewrite_of(row, where)
    return EditRequest(
        subject=subject,
        edit=Prompt(prompt, new, true),
        paraphrases=tuple(Prompt(text, new, true) for text in _texts(row, "paraphrase", where)),
        locality=tuple(Prompt(text, true, new) for text in _texts(row, "neighborhood", where)),
        true_answer=true,
    )


def rewrite_of(row: Mapping[str, Any], where: str) -> tuple[str, str, str, str]:
    """Subject, prompt, new and true answer of a row's ``requested_rewrite``."""
    rewrite = row["requested_rewrite"]
    if not isinstance(rewrite, Mapping):
        raise UserError(f"{where}, field requested_rewrite: not an object; restore the file")
    subject = text_of(rewrite, "subject", where, "requested_rewrite.")
    template = text_of(rewrite, "prompt", where, "requested_rewrite.")
    if template.count("{}") != 1:
        raise UserError(
            f"{where}, field requested_rewrite.prompt: {shown(template)} must hold {{}} exactly "
            "once, where the subject goes; correct the prompt"
        )
    new, true = (_answer_string(rewrite, field, where) for field in ("target_new", "target_true"))
    return subject, template.replace("{}", subject), new, true


def _flat(row: Mapping[str, Any], where: str) -> EditRequest:
    subject, prompt, new, true = (
        text_of(row, field, where) for field in ("subject", "prompt", "target_new", "ground_truth")
    )
    check_subject(subject, prompt, where, "prompt")
    locality_answer = text_of(row, "locality_ground_truth", where)
    return EditRequest(
        subject=subject,
        edit=Prompt(prompt, new, true),
        paraphrases=(Prompt(text_of(row, "rephrase_prompt", where), new, true),),
        locality=(Prompt(text_of(row, "locality_prompt", where), locality_answer, new),),
        true_answer=true,
    )


def _texts(row: Mapping[str, Any], kind: str, where: str) -> list[str]:
    field = f"{kind}_prompts"
    values = row.get(field)
    if not isinstance(values, list) or not values:
        raise UserError(
            f"{where}, field {field}: needs a list of at least one prompt; add it or remove the row"
        )
    return [
        text_of({f"{field}[{i}]": text}, f"{field}[{i}]", where) for i, text in enumerate(values)
    ]


def _answer_string(rewrite: Mapping[str, Any], field: str, where: str) -> str:
    value = rewrite.get(field)
    if not isinstance(value, Mapping):
        raise UserError(
            f"{where}, field requested_rewrite.{field}: needs an object with the answer as str; "
            "add it or remove the row"
        )
    return text_of(value, "str", where, f"requested_rewrite.{field}.")
