"""MQuAKE-CF (arXiv 2305.14795): the single-hop edits of its chains of questions."""

from collections.abc import Mapping
from typing import Any

from smedit.data.facts import EditRequest, Prompt
from smedit.data.formats import dataset_format
from smedit.data.formats.counterfact import rewrite_of
from smedit.data.row_fields import text_of
from smedit.errors import UserError

MARKS = ("requested_rewrite", "single_hops")


def rewrites(row: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """The edits of one chain: a row of this format each."""
    edits = row.get("requested_rewrite")
    if not isinstance(edits, list) or not all(isinstance(edit, Mapping) for edit in edits):
        raise UserError(
            f"{where}, field requested_rewrite: not a list of objects; restore the file"
        )
    return [{"requested_rewrite": edit} for edit in edits]


@dataset_format("mquake", marks=MARKS, fields=("requested_rewrite", "case_id"), cut=rewrites)
def mquake_request(row: Mapping[str, Any], where: str) -> EditRequest:
    """Turn one edit of a chain into an edit request; its question is its paraphrase.

    Parameters
    ----------
    row : mapping
        ``requested_rewrite`` with ``prompt``, which holds ``{}`` in the place of ``subject``,
        ``target_new``, ``target_true`` and, if there is one, ``question``.
    where : str
        File and row, for messages.

    Raises
    ------
    UserError
        If a field is missing or empty.
    """
    subject, prompt, new, true = rewrite_of(row, where)
    question = row["requested_rewrite"].get("question")
    text = {"question": question}
    return EditRequest(
        subject=subject,
        edit=Prompt(prompt, new, true),
        paraphrases=(Prompt(text_of(text, "question", where), new, true),) if question else (),
        locality=(),
        true_answer=true,
    )
