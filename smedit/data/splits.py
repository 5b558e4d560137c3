"""How facts become three splits that share no subject and no locality prompt.

What is left out on the way is counted, per split and reason.
"""

import random
from collections.abc import Sequence, Set
from dataclasses import replace

from smedit.data.contradictions import resolve
from smedit.data.facts import EditRequest, Splits, Tally, text_key

SPLIT_SEED = 0
"""Draws who is in which split. It is fixed: a row that one seed tunes on, no seed reports on."""

TRAIN_SHARE = 0.6
"""Share of the subjects of one pool that meta-training sees."""

TUNE_SHARE = 0.1
"""Share of the subjects of one pool on which hyperparameters are chosen; eval gets the rest."""

ZSRE_TUNE_SHARE = 0.2
"""Share of the subjects of ZsRE's evaluation file that is used for tuning."""

DISJOINT_SEEDS = 5
"""So many seeds in a row report on different requests, if each takes at most this share of
``eval``."""

OTHER_SUBJECT = "subject of another split"
OTHER_PROMPT = "held by another split"


def cut_by_subject(
    requests: Sequence[EditRequest], shares: Sequence[float], seed: int
) -> list[list[EditRequest]]:
    """Cut one pool into parts that share no subject.

    The subjects are shuffled by ``seed``, from the order in which the file first names them, and
    then cut. Every part but the last gets its share of the subjects, and every part whose share is
    not 0 gets at least one while there are enough.

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
    subjects = list(dict.fromkeys(text_key(request.subject) for request in requests))
    random.Random(seed).shuffle(subjects)
    part_of: dict[str, int] = {}
    start = 0
    for part, share in enumerate(shares):
        others = 1 + sum(later > 0 for later in shares[part + 1 :])
        left_for_it = len(subjects) - start - others
        size = max(0, min(max(1, round(share * len(subjects))), left_for_it)) if share else 0
        part_of.update(dict.fromkeys(subjects[start : start + size], part))
        start += size
    parts: list[list[EditRequest]] = [[] for _ in range(len(shares) + 1)]
    for request in requests:
        parts[part_of.get(text_key(request.subject), len(shares))].append(request)
    return parts


def split_pool(
    requests: Sequence[EditRequest],
    seed: int,
    tune_share: float = TUNE_SHARE,
    leave_out_contradictions: bool = False,
) -> Splits:
    """Split a dataset without official files: 60 % train, 10 % tune, 30 % eval, by subject.

    Parameters
    ----------
    requests : sequence of EditRequest
        The whole dataset, in file order.
    seed : int
        Seed of the order within the splits; who is in which split is drawn by `SPLIT_SEED`.
    tune_share : float, default `TUNE_SHARE`
        Share of the subjects for ``tune``. ``eval`` gets what it and ``train`` leave.
    leave_out_contradictions : bool, default False
        As in `disjoint_and_shuffled`.

    Returns
    -------
    Splits
        Disjoint by subject; each split shuffled.
    """
    shares = {"train": TRAIN_SHARE, "tune": tune_share, "eval": 1 - TRAIN_SHARE - tune_share}
    train, tune, evaluation = cut_by_subject(requests, (TRAIN_SHARE, tune_share), SPLIT_SEED)
    splits = disjoint_and_shuffled(train, tune, evaluation, seed, leave_out_contradictions)
    return replace(splits, shares=shares)


def cut_off_tune(
    train: Sequence[EditRequest],
    evaluation: Sequence[EditRequest],
    seed: int,
    tune_share: float = ZSRE_TUNE_SHARE,
    leave_out_contradictions: bool = False,
) -> Splits:
    """Split a dataset with files for training and evaluation: the second is cut into two.

    Parameters
    ----------
    train, evaluation : sequence of EditRequest
        The two files' requests, in file order.
    seed, tune_share, leave_out_contradictions
        As in `split_pool`; the share is that of the evaluation file's subjects.

    Returns
    -------
    Splits
        Disjoint by subject; each split shuffled.
    """
    tune, evaluation = cut_by_subject(evaluation, (tune_share,), SPLIT_SEED)
    splits = disjoint_and_shuffled(train, tune, evaluation, seed, leave_out_contradictions)
    return replace(splits, shares={"tune": tune_share, "eval": 1 - tune_share})


def disjoint_and_shuffled(
    train: Sequence[EditRequest],
    tune: Sequence[EditRequest],
    evaluation: Sequence[EditRequest],
    seed: int,
    leave_out_contradictions: bool = False,
) -> Splits:
    """Make three given lists disjoint by subject and by locality prompt, and shuffle each.

    A subject or a locality prompt that several lists hold stays only in the first of eval, tune,
    train that holds it, so what is reported never shrinks, and nothing scored was trained on. A
    subject takes its facts with it; a locality prompt is left out of a fact that stays.

    Parameters
    ----------
    train, tune, evaluation : sequence of EditRequest
        The three lists, in file order.
    seed : int
        Of the order, see `_ordered`. The same seed and files give the same on every machine.
    leave_out_contradictions : bool, default False
        Whether to leave out what `smedit.data.contradictions.resolve` finds in each list.

    Returns
    -------
    Splits
        Disjoint by subject; each split shuffled; with the counts of what was left out.
    """
    subjects: set[str] = set()
    prompts: set[str] = set()
    shuffled: dict[str, tuple[EditRequest, ...]] = {}
    left_out: list[Tally] = []
    contradictions: list[Tally] = []
    for part, requests in (("eval", evaluation), ("tune", tune), ("train", train)):
        own = [request for request in requests if text_key(request.subject) not in subjects]
        kept = [_without(prompts, request) for request in own] if prompts else own
        left_out += [
            Tally(part, OTHER_SUBJECT, rows=len(requests) - len(own)),
            Tally(
                part,
                OTHER_PROMPT,
                prompts=_n_prompts(own) - _n_prompts(kept),
                first=_first_gone(own, kept),
            ),
        ]
        kept, found = resolve(part, kept, leave_out_contradictions)
        (left_out if leave_out_contradictions else contradictions).extend(found)
        subjects.update(text_key(request.subject) for request in kept)
        prompts.update(text_key(prompt.text) for request in kept for prompt in request.locality)
        shuffled[part] = tuple(_ordered(part, kept, seed))
    return Splits(
        shuffled["train"],
        shuffled["tune"],
        shuffled["eval"],
        left_out=tuple(tally for tally in left_out if tally.rows or tally.prompts),
        contradictions=tuple(contradictions),
    )


def _ordered(part: str, requests: list[EditRequest], seed: int) -> list[EditRequest]:
    """A split in the order of a seed: shuffled; ``eval`` by the first seed, from where its share
    of `DISJOINT_SEEDS` begins.
    """  # noqa: D205
    random.Random(f"{0 if part == 'eval' else seed} {part}").shuffle(requests)
    start = seed % DISJOINT_SEEDS * (len(requests) // DISJOINT_SEEDS) if part == "eval" else 0
    return requests[start:] + requests[:start]


def _without(prompts: Set[str], request: EditRequest) -> EditRequest:
    """A request without the locality prompts that are among these."""
    own = tuple(prompt for prompt in request.locality if text_key(prompt.text) not in prompts)
    return request if len(own) == len(request.locality) else replace(request, locality=own)


def _first_gone(before: Sequence[EditRequest], after: Sequence[EditRequest]) -> str:
    """The first locality prompt that was left out, with the edit prompt of its row."""
    for request, kept in zip(before, after, strict=True):
        for prompt in request.locality:
            if prompt not in kept.locality:
                return f"{prompt.text} (of {request.edit.text})"
    return ""


def _n_prompts(requests: Sequence[EditRequest]) -> int:
    return sum(len(request.locality) for request in requests)
