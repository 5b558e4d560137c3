"""The rule by which values are chosen: the best objective among what keeps the bound on harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

UNEDITED = "unedited"
"""Where the unedited model is a candidate, it comes first: it wins a tie."""


def best_within(objective: ArrayLike, harm: ArrayLike, bound: float) -> Any:
    """Index of the best candidate, along the first axis.

    The best objective among those whose harm is at most the bound; where none is, the least
    harmful. At a tie the first wins.

    Parameters
    ----------
    objective, harm
        (candidates, ...): percent, and nats per token. Of a candidate that diverged the harm is
        infinite.
    bound
        Nats per token.

    Returns
    -------
    numpy.ndarray
        (...): of integers.
    """
    harm = np.asarray(harm, dtype=float)
    allowed = harm <= bound
    best = np.where(allowed, objective, -np.inf).argmax(0)
    return np.where(allowed.any(0), best, harm.argmin(0))


def in_words(values: Mapping[str, Any]) -> str:
    """Setting → value as text; the step size that training left is ``trained``."""
    said = {name: "trained" if v is None else f"{v:g}" for name, v in values.items()}
    return ", ".join(f"{name} {value}" for name, value in said.items())


def at_edge(values: Mapping[str, Any], tried: Iterable[Mapping[str, Any]]) -> str:
    """Which of the chosen numbers are the least or the largest tried: a better one may lie beyond.

    Parameters
    ----------
    values
        Setting → what was chosen.
    tried
        All that was to choose from.

    Returns
    -------
    str
        The settings, with commas; empty where each choice lies between two others.
    """
    tried = list(tried)
    found = []
    for name, value in values.items():
        numbers = {each[name] for each in tried if isinstance(each[name], int | float)}
        if len(numbers) > 1 and value in (min(numbers), max(numbers)):
            found.append(f"{name} {'least' if value == min(numbers) else 'largest'}")
    return ", ".join(found)
