"""The fields of a dataset's row, checked one by one: what every format's reader needs.

Leading and trailing spaces of every text are dropped: what stands between a prompt and its answer
is said apart, one space by default.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from smedit.data.facts import EditRequest, text_key
from smedit.errors import UserError, kind_of, shown

NO_CHARACTER = re.compile("[\0\ud800-\udfff]")
"""NUL, and halves of the pairs by which UTF-16 writes a character."""


class UnusableRowError(UserError):
    """A row that published files are known to hold now and then; a few are left out."""


def text_of(row: Mapping[str, Any], field: str, where: str, prefix: str = "") -> str:
    """The text of a field that must not be empty; ``prefix`` is put before its name."""
    value = row.get(field)
    if value is None:
        raise UserError(f"{where}, field {prefix}{field}: missing; add it or remove the row")
    if not isinstance(value, str):
        raise UserError(
            f"{where}, field {prefix}{field}: {kind_of(value)} instead of a text; correct it"
        )
    text = stripped(value, f"{where}, field {prefix}{field}")
    if not text:
        raise UserError(f"{where}, field {prefix}{field}: empty; fill it in or remove the row")
    return text


def stripped(text: str, where: str) -> str:
    """A text without the spaces around it; empty if there is nothing to see in it.

    What no text holds but a damaged one does is refused: tokenizers stumble over it.
    """
    found = NO_CHARACTER.search(text)
    if found:
        raise UserError(
            f"{where}: holds {found[0]!r}, which is no character; correct it or remove the row"
        )
    return text.strip() if any(c.isprintable() and not c.isspace() for c in text) else ""


def check_subject(subject: str, prompt: str, where: str, field: str) -> None:
    """Refuse a row whose prompt does not name its subject."""
    if text_key(subject) not in text_key(prompt):
        raise UnusableRowError(
            f"{where}, field {field}: the prompt does not name the subject {shown(subject)}; "
            "correct the row or remove it"
        )


def check_scored_alike(where: str, requests: Sequence[EditRequest]) -> None:
    """Refuse facts of which some have a competing answer: without one a fact has another score, and
    a mean over both means nothing.

    Parameters
    ----------
    where
        Whose facts these are, for the message.
    requests
        What is scored.
    """  # noqa: D205
    bare = sum(request.edit.other_answer is None for request in requests)
    if 0 < bare < len(requests):
        raise UserError(
            f"{where}: {bare} of {len(requests)} facts name no competing answer, the others do; "
            "name one for each, or for none"
        )
