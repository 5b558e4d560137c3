"""The fields of a dataset's row, checked one by one: what every format's reader needs.

Leading and trailing spaces of every text are dropped, because an answer is always scored as one
space and the answer.
"""

import re
from collections.abc import Mapping
from typing import Any

from smedit.data.facts import text_key
from smedit.errors import UserError, shown

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
            f"{where}, field {prefix}{field}: {type(value).__name__} instead of text; correct it"
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
