"""What a fact to edit is, and how facts are split (the benchmark's data model).

An edit request holds one prompt to edit, its paraphrases and its locality prompts, whatever
dataset it came from. The readers in ``smedit/readers.py`` make them. Imports nothing heavy, so the
workflow can load it before any job starts.
"""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

SPLIT_SEED = 0
"""Draws who is in which split. It is fixed: a row that one seed tunes on, no seed reports on."""

TRAIN_SHARE = 0.6
"""Share of the subjects of one pool that meta-training sees."""

TUNE_SHARE = 0.1
"""Share of the subjects of one pool on which hyperparameters are chosen; eval gets the rest."""

ZSRE_TUNE_SHARE = 0.2
"""Share of the subjects of ZsRE's evaluation file that is used for tuning."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, the answer it is scored on, and (CounterFact) the answer that competes with it.

    Parameters
    ----------
    text : str
        The prompt, without a trailing space.
    answer : str
        The answer, without a leading space.
    other_answer : str or None, default None
        The competing answer; None for ZsRE, where a score needs only one answer.
    """

    text: str
    answer: str
    other_answer: str | None = None


@dataclass(frozen=True)
class EditRequest:
    """One fact to edit, with the prompts that measure what the edit did.

    Parameters
    ----------
    subject : str
        Whom or what the fact is about.
    edit : Prompt
        The prompt and the answer that the model shall give from now on.
    paraphrases : tuple of Prompt
        The same request in other words, at least one. They measure generalization.
    locality : tuple of Prompt
        Prompts whose answers must not change, at least one. They measure specificity.
    true_answer : str or None
        What the world says. None where the file does not hold it.
    """

    subject: str
    edit: Prompt
    paraphrases: tuple[Prompt, ...]
    locality: tuple[Prompt, ...]
    true_answer: str | None


@dataclass(frozen=True)
class Splits:
    """Three lists of requests that share no subject.

    Parameters
    ----------
    train : tuple of EditRequest
        For meta-training.
    tune : tuple of EditRequest
        For choosing hyperparameters; never reported on.
    eval : tuple of EditRequest
        For the scores that are reported.
    """

    train: tuple[EditRequest, ...]
    tune: tuple[EditRequest, ...]
    eval: tuple[EditRequest, ...]


def subject_key(subject: str) -> str:
    """Return the form in which two subjects are compared: any case, any spacing, any encoding.

    One text can be encoded in several ways, as an accented letter or as a letter and its accent.

    Parameters
    ----------
    subject : str
        A subject as the dataset writes it.

    Returns
    -------
    str
        The same subject, composed (Unicode's NFC), case-folded, with every run of spaces made one.
    """
    return unicodedata.normalize("NFC", " ".join(subject.split()).casefold())


def cut_by_subject(
    requests: Sequence[EditRequest], shares: Sequence[float], seed: int
) -> list[list[EditRequest]]:
    """Cut one pool into parts that share no subject.

    The subjects are shuffled by ``seed``, from the order in which the file first names them, and
    then cut. Every part but the last gets its share of the subjects, and every part gets at least
    one while there are enough.

    Parameters
    ----------
    requests : sequence of EditRequest
        The pool, in file order.
    shares : sequence of float
        Share of the subjects for every part but the last, which takes what is left.
    seed : int
        Seed of the shuffle.

    Returns
    -------
    list of list of EditRequest
        ``len(shares) + 1`` parts, each in file order.
    """
    subjects = list(dict.fromkeys(subject_key(request.subject) for request in requests))
    random.Random(seed).shuffle(subjects)
    part_of: dict[str, int] = {}
    start = 0
    for part, share in enumerate(shares):
        left_for_it = len(subjects) - start - (len(shares) - part)
        size = max(0, min(max(1, round(share * len(subjects))), left_for_it))
        part_of.update(dict.fromkeys(subjects[start : start + size], part))
        start += size
    parts: list[list[EditRequest]] = [[] for _ in range(len(shares) + 1)]
    for request in requests:
        parts[part_of.get(subject_key(request.subject), len(shares))].append(request)
    return parts


def split_pool(requests: Sequence[EditRequest], seed: int) -> Splits:
    """Split a dataset without official files: 60 % train, 10 % tune, 30 % eval, by subject.

    Parameters
    ----------
    requests : sequence of EditRequest
        The whole dataset, in file order.
    seed : int
        Seed of the order within the splits; who is in which split is drawn by `SPLIT_SEED`.

    Returns
    -------
    Splits
        Disjoint by subject; each split shuffled.
    """
    train, tune, evaluation = cut_by_subject(requests, (TRAIN_SHARE, TUNE_SHARE), SPLIT_SEED)
    return disjoint_and_shuffled(train, tune, evaluation, seed)


def disjoint_and_shuffled(
    train: Sequence[EditRequest],
    tune: Sequence[EditRequest],
    evaluation: Sequence[EditRequest],
    seed: int,
) -> Splits:
    """Make three given lists disjoint by subject and by locality prompt, and shuffle each.

    A subject or a locality prompt that several lists hold stays only in the first of eval, tune,
    train that holds it, so what is reported never shrinks, and nothing scored was trained on.

    Parameters
    ----------
    train, tune, evaluation : sequence of EditRequest
        The three lists, in file order.
    seed : int
        Seed of the shuffles. The same seed and files give the same order on every machine.

    Returns
    -------
    Splits
        Disjoint by subject; each split shuffled.
    """
    taken: set[str] = set()
    shuffled: dict[str, tuple[EditRequest, ...]] = {}
    for part, requests in (("eval", evaluation), ("tune", tune), ("train", train)):
        kept = [request for request in requests if taken.isdisjoint(_held_by(request))]
        taken.update(*map(_held_by, kept))
        random.Random(f"{seed} {part}").shuffle(kept)
        shuffled[part] = tuple(kept)
    return Splits(**shuffled)


def _held_by(request: EditRequest) -> set[str]:
    """What may occur in one split only: the subject, and the texts of the locality prompts."""
    return {subject_key(request.subject), *(f"locality {p.text}" for p in request.locality)}
