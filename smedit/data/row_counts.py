"""What a dataset became, in numbers: for ``provenance.json``."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from smedit.data.facts import UNSPLIT, EditRequest, Splits, Tally, text_key

WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+")
"""A word; of Chinese and Japanese, which put no spaces between words, a sign."""


def row_counts(splits: Splits) -> dict[str, Any]:
    """The rows of each split, what was left out of them and why, and what contradicts.

    Returns
    -------
    dict
        JSON-ready. Split → ``rows``, ``without_locality_prompt`` (rows), ``left_out`` and
        ``contradictions`` (reason → rows and prompts), ``naming_an_edited_subject`` (see
        `naming_an_edited_subject`); `UNSPLIT` → ``left_out``, of files that were then cut.
    """
    counts: dict[str, Any] = {
        part: {
            "rows": len(requests),
            "without_locality_prompt": sum(not request.locality for request in requests),
            "left_out": _by_reason(splits.left_out, part),
            "contradictions": _by_reason(splits.contradictions, part),
            "naming_an_edited_subject": naming_an_edited_subject(requests),
        }
        for part, requests in splits.parts.items()
    }
    before = _by_reason(splits.left_out, UNSPLIT)
    return counts | ({UNSPLIT: {"left_out": before}} if before else {})


def _by_reason(tallies: Sequence[Tally], split: str) -> dict[str, dict[str, int]]:
    mine = (tally for tally in tallies if tally.split == split)
    return {tally.reason: {"rows": tally.rows, "prompts": tally.prompts} for tally in mine}


def naming_an_edited_subject(requests: Sequence[EditRequest]) -> int:
    """How many locality prompts name a subject that one of these requests edits, word by word.

    An edit may well change their answers, without that being a contradiction. A subject within a
    longer name counts, too.
    """
    subjects = {_words(request.subject) for request in requests}
    lengths: dict[str, set[int]] = defaultdict(set)  # by the first word
    for subject in filter(None, subjects):
        lengths[subject[0]].add(len(subject))

    def names_one(words: tuple[str, ...]) -> bool:
        return any(
            words[i : i + length] in subjects
            for i, word in enumerate(words)
            for length in lengths.get(word, ())
        )

    return sum(names_one(_words(p.text)) for request in requests for p in request.locality)


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text_key(text)))
