"""The built-in facts about the world, as rows in the public ZsRE and CounterFact formats.

``data/worldfacts.csv`` holds true facts (relation, subject, object) from GeoNames. Here they become
rows that the same readers and checks take as any other dataset: a question set (ZsRE) and a cloze
set (nested CounterFact). Every choice depends only on a hash of the fact, so the rows are the same
on every machine.

A quarter of the subjects is reserved: they are never edited, and only they occur in locality and
neighbourhood prompts. So no edit of a batch can touch a prompt that measures specificity. Every
subject, reserved or not, belongs to one split, and a row takes its locality prompts from its own
split. So no prompt that a KL loss was trained on is scored.
"""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, NamedTuple

RESERVED_ONE_IN = 4
"""One subject in so many is kept for locality prompts."""

SPLIT_PERCENT = {"train": 60, "tune": 10, "eval": 30}
"""Share of the subjects in each split."""

MAX_NEIGHBOURS = 2
"""Most neighbourhood prompts per cloze fact."""


class Fact(NamedTuple):
    """One true fact: the relation's name, the subject, and the object (the answer)."""

    relation: str
    subject: str
    object: str


QUESTIONS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "What is the name of the capital city of {}?",
        "Which city serves as the capital of {}?",
    ),
    "currency": (
        "What is the currency of {}?",
        "Which currency is used in {}?",
        "What money do people pay with in {}?",
        "What is the legal tender of {}?",
    ),
    "continent": (
        "On which continent is {}?",
        "Which continent does {} belong to?",
        "What continent is {} a part of?",
        "To which continent does {} belong?",
    ),
    "calling code": (
        "What is the country calling code of {}?",
        "Which telephone code is used to call {} from abroad?",
        "What is the international dialing code for {}?",
        "Which country code do you dial to phone someone in {}?",
    ),
    "internet domain": (
        "Which two letters end the web addresses of {}?",
        "What is the two-letter internet domain of {}?",
        "Which two-letter top-level domain belongs to {}?",
        "What are the two letters of the country domain of {}?",
    ),
    "language": (
        "What is the official language of {}?",
        "Which language is the official one in {}?",
        "In which language does the government of {} work?",
        "What language is official in {}?",
    ),
    "postal code": (
        "What is the postal abbreviation of the US state of {}?",
        "Which two letters stand for the US state of {} in an address?",
        "How is the US state of {} abbreviated in the mail?",
    ),
    "country": (
        "In which country is {}?",
        "Which country does the city of {} belong to?",
        "What country is {} located in?",
        "In what country would you find the city of {}?",
    ),
    "US state of city": (
        "In which US state is {}?",
        "Which US state does {} belong to?",
        "What US state is {} located in?",
        "In what state of the United States would you find {}?",
    ),
    "US state of county": (
        "In which US state is {}?",
        "Which US state does {} belong to?",
        "What US state is {} part of?",
        "In what state of the United States does {} lie?",
    ),
}
"""Questions per relation; the first words differ, so that an edit and its paraphrase do too."""

CLOZES: dict[str, tuple[str, ...]] = {
    "currency": (
        "The currency of {} is the",
        "People in {} pay with the",
        "The legal tender of {} is the",
        "The money used in {} is called the",
    ),
    "continent": (
        "On a world map, {} is in",
        "The continent of {} is",
        "The continent that {} belongs to is",
        "Geographers count {} as a part of",
    ),
    "language": (
        "The official language of {} is",
        "Laws in {} are written in",
        "The government of {} works in",
        "The language that is official in {} is",
    ),
    "country": (
        "{} is a city in",
        "The city of {} is located in",
        "The country in which {} lies is",
        "The country that the city of {} belongs to is",
    ),
    "US state of city": (
        "{} is a place in the US state of",
        "{} is located in the state of",
        "The US state in which {} lies is",
        "The US state that {} belongs to is",
    ),
    "US state of county": (
        "{} is part of the US state of",
        "{} is located in the state of",
        "The US state in which {} lies is",
        "The US state that {} belongs to is",
    ),
}
"""Sentences to complete, for the relations in which many subjects share an object."""

WITH_ARTICLE = frozenset(
    {
        "Bahamas",
        "British Virgin Islands",
        "Cayman Islands",
        "Central African Republic",
        "Comoros",
        "Cook Islands",
        "Democratic Republic of the Congo",
        "Dominican Republic",
        "Faroe Islands",
        "Gambia",
        "Isle of Man",
        "Maldives",
        "Marshall Islands",
        "Netherlands",
        "Northern Mariana Islands",
        "Philippines",
        "Republic of the Congo",
        "Seychelles",
        "Solomon Islands",
        "Turks and Caicos Islands",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
    }
)
"""Subjects that take "the" in a sentence."""


@cache
def load_facts() -> tuple[Fact, ...]:
    """Read the shipped facts.

    Returns
    -------
    tuple of Fact
        In the order of the file: sorted by relation and subject.
    """
    text = files("smedit.data").joinpath("worldfacts.csv").read_text(encoding="utf-8")
    rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    next(rows)  # the column names
    return tuple(Fact(*row) for row in rows)


def is_reserved(subject: str) -> bool:
    """Say whether a subject is kept for locality prompts and never edited.

    Parameters
    ----------
    subject : str
        A subject of the built-in facts.

    Returns
    -------
    bool
        True for about a quarter of the subjects.
    """
    return _hash("reserved", subject.casefold()) % RESERVED_ONE_IN == 0


def split_of(subject: str) -> str:
    """Say which split a subject belongs to: ``train``, ``tune`` or ``eval``.

    Parameters
    ----------
    subject : str
        A subject of the built-in facts.
    """
    place = _hash("split", subject.casefold()) % 100
    bounds = zip(SPLIT_PERCENT, accumulate(SPLIT_PERCENT.values()), strict=True)
    return next(split for split, bound in bounds if place < bound)


def zsre_rows() -> list[dict[str, Any]]:
    """Make the question set.

    Returns
    -------
    list of dict
        One row per fact about a subject that is not reserved, with the fields of ZsRE:
        ``subject``, ``src``, ``rephrase``, ``alt`` (another object of the relation), ``answers``
        (the true object), ``loc`` and ``loc_ans`` (a question about a reserved subject in another
        relation, and its true answer); and ``split``.
    """
    reserved: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in load_facts():
        if is_reserved(fact.subject):
            reserved[split_of(fact.subject), fact.relation].append(fact)
    facts = [fact for fact in load_facts() if not is_reserved(fact.subject)]
    alternatives = _other_objects(facts)
    rows = []
    for fact in facts:
        source, rephrase = _rotated(QUESTIONS[fact.relation], fact)[:2]
        # The relation first, so that every relation is asked for equally often.
        split = split_of(fact.subject)
        others = [r for r in QUESTIONS if r != fact.relation and reserved[split, r]]
        relation = _pick(others, "loc", fact)
        other = _pick(reserved[split, relation], "loc subject", fact)
        question = _filled(_pick(QUESTIONS[relation], "loc question", fact), other)
        rows.append(
            {
                "subject": fact.subject,
                "src": _filled(source, fact),
                "rephrase": _filled(rephrase, fact),
                "alt": alternatives[fact],
                "answers": [fact.object],
                "loc": f"nq question: {question[0].lower()}{question[1:].removesuffix('?')}",
                "loc_ans": other.object,
                "split": split,
            }
        )
    return rows


def counterfact_rows() -> list[dict[str, Any]]:
    """Make the cloze set.

    Returns
    -------
    list of dict
        One nested CounterFact row per fact about a subject that is not reserved and whose object
        it shares with a reserved subject: ``case_id``, ``requested_rewrite``, two
        ``paraphrase_prompts`` and at most two ``neighborhood_prompts`` about reserved subjects
        with the same true object; and ``split``.
    """

    def place(fact: Fact) -> tuple[str, str, str]:
        return split_of(fact.subject), fact.relation, fact.object

    neighbours: dict[tuple[str, str, str], list[Fact]] = defaultdict(list)
    for fact in load_facts():
        if fact.relation in CLOZES and is_reserved(fact.subject):
            neighbours[place(fact)].append(fact)
    facts = [
        fact
        for fact in load_facts()
        if not is_reserved(fact.subject) and neighbours.get(place(fact))
    ]
    alternatives = _other_objects(facts)
    rows = []
    for case_id, fact in enumerate(facts):
        template, *paraphrases = _rotated(CLOZES[fact.relation], fact)
        near = _shuffled(neighbours[place(fact)], fact)[:MAX_NEIGHBOURS]
        rows.append(
            {
                "case_id": case_id,
                "requested_rewrite": {
                    "prompt": template.replace("{}", _article(fact) + "{}"),
                    "relation_id": fact.relation,
                    "target_new": {"str": alternatives[fact]},
                    "target_true": {"str": fact.object},
                    "subject": fact.subject,
                },
                "paraphrase_prompts": [_filled(text, fact) for text in paraphrases[:2]],
                "neighborhood_prompts": [
                    _filled(_pick(CLOZES[other.relation], "neighbour", fact, other), other)
                    for other in near
                ],
                "split": split_of(fact.subject),
            }
        )
    return rows


def _other_objects(facts: Sequence[Fact]) -> dict[Fact, str]:
    """Give every fact a false object of its relation, all objects about equally often.

    A false object shares no word with the true one (South Korea, South Sudan), because a score per
    token cannot tell the two apart where their tokens are the same.
    """
    objects: dict[str, list[str]] = {}
    for relation in {fact.relation for fact in facts}:
        found = {fact.object for fact in facts if fact.relation == relation}
        objects[relation] = sorted(found, key=lambda text: _hash("object", relation, text))
    uses: Counter[tuple[str, str]] = Counter()
    chosen: dict[Fact, str] = {}
    for fact in sorted(facts, key=lambda fact: _hash("turn", *fact)):
        words = set(fact.object.split())
        candidates = [text for text in objects[fact.relation] if not words & set(text.split())]
        chosen[fact] = min(candidates, key=lambda text: uses[fact.relation, text])
        uses[fact.relation, chosen[fact]] += 1
    return chosen


def _article(fact: Fact) -> str:
    return "the " if fact.subject in WITH_ARTICLE else ""


def _filled(template: str, fact: Fact) -> str:
    return template.replace("{}", _article(fact) + fact.subject)


def _rotated(templates: Sequence[str], fact: Fact) -> list[str]:
    start = _hash("template", *fact) % len(templates)
    return [*templates[start:], *templates[:start]]


def _shuffled(others: Sequence[Fact], fact: Fact) -> list[Fact]:
    return sorted(others, key=lambda other: _hash("near", *fact, *other))


def _pick(items: Sequence[Any], purpose: str, *facts: Fact) -> Any:
    return items[_hash(purpose, *(text for fact in facts for text in fact)) % len(items)]


def _hash(*texts: str) -> int:
    """Return a number that depends only on the texts, on every machine."""
    digest = hashlib.blake2b("\t".join(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
