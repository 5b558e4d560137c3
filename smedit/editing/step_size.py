"""The step size at edit time, chosen for the facts at hand under a bound on harm.

What it is chosen by is the harmonic mean of two: how well the facts are taken up (the mean of
efficacy and generalization, of those that they have prompts for), and agreement, if they have
locality prompts. The score S of arXiv 2202.05262 is a harmonic mean, too. A plain one would favour
doing nothing, which leaves agreement at 100 %.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean
from typing import Any

from smedit.data.facts import EditRequest
from smedit.editing.defaults import HARM_AT_MOST
from smedit.editing.scoring import Harm, Scored
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.errors import DivergedError, counted
from smedit.report.bound import best_within

log = logging.getLogger("smedit")

CANDIDATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Step sizes that are tried, beside the one that training left."""

REFINEMENTS = 3
"""How often the gap is halved, in logarithms, between the largest step size within the bound and
the next one. While there is no next one, larger ones are tried first, up to `LARGEST`."""

LARGEST = 1.0

KEPT = "agreement"
"""The score that an edit can only lower."""

LEAST_SCORE = 1.0
"""Percent that either of the two counts at least, so that a 0 does not hide the other."""


@dataclass(frozen=True)
class Tried:
    """A step size, and what it does: scores in percent, harm in nats per token.

    A step size of None is the one that training left. One that fails has no scores, and harm
    without end.
    """

    step_size: float | None
    scores: Mapping[str, float]
    harm: float

    @property
    def objective(self) -> float:
        """How well the facts are taken up, and their neighbours left alone; 0 without scores."""
        taken = [score for name, score in self.scores.items() if name != KEPT]
        if not taken:
            return 0.0
        if KEPT not in self.scores:
            return fmean(taken)
        return harmonic_mean([max(x, LEAST_SCORE) for x in (fmean(taken), self.scores[KEPT])])

    def as_json(self) -> dict[str, Any]:
        """The same for a file, where harm without end is null."""
        harm = self.harm if math.isfinite(self.harm) else None
        return {"step_size": self.step_size, "scores": dict(self.scores), "harm": harm}

    def __str__(self) -> str:
        size = "as trained" if self.step_size is None else f"{self.step_size:.2g}"
        scores = "".join(f"   {name} {value:3.0f} %" for name, value in self.scores.items())
        return f"{size:>10}{scores}   harm {self.harm:z6.2f}"


MATTERS = 5.0
"""Points by which the bound must have cost the objective to be told."""


def lost_to_the_bound(tried: Sequence[Tried], chosen: Tried | None) -> Tried | None:
    """The best step size, if the bound on harm stood against it and it is clearly better."""
    best = max(tried, key=lambda each: each.objective, default=None)
    if best is None or chosen is None or best.objective <= chosen.objective + MATTERS:
        return None
    return best


def choose_step_size(
    model: LanguageModel,
    facts: Sequence[EditRequest],
    edit: Callable[[float | None], Shifts],
    harm_at_most: float = HARM_AT_MOST,
) -> tuple[Tried, list[Tried]]:
    """Try step sizes; the best objective whose harm is within the bound.

    Harm is measured on the paragraphs that choosing may see. Of equals the least harmful is
    taken. If none is within the bound, it is the least harmful of all, and a warning says so.

    Parameters
    ----------
    model, facts
        What is edited.
    edit
        Step size → the change of the weights.
    harm_at_most
        The bound, in nats per token.

    Returns
    -------
    Tried, list of Tried
        The chosen one, and all.

    Raises
    ------
    DivergedError
        If every one of them fails.
    """
    scored, harm = Scored(model, facts), Harm(model, "tune")

    def tried(size: float | None) -> Tried:
        try:
            shifts = edit(size)
            found = Tried(size, scored.measure(shifts), harm.measure(shifts))
        except DivergedError as error:
            log.info("step size %s: %s", size, error)
            return Tried(size, {}, math.inf)
        log.info("step size %s", found)
        return found

    start = time.perf_counter()
    listed = [tried(None)]
    rest = (len(CANDIDATES) + REFINEMENTS) * (time.perf_counter() - start)
    log.info("step sizes are tried, %s at once; about %.0f s", counted(len(facts), "fact"), rest)
    listed += [tried(size) for size in CANDIDATES]
    left = REFINEMENTS
    while left:
        sizes = {t.step_size: t.harm <= harm_at_most for t in listed if t.step_size}
        within = max((size for size, good in sizes.items() if good), default=0)
        above = min((size for size, good in sizes.items() if not good and size > within), default=0)
        if not within or (not above and within * 3 > LARGEST):
            break
        listed.append(tried(math.sqrt(within * above) if above else within * 3))
        left -= bool(above)
    if all(each.harm == math.inf for each in listed):
        raise DivergedError(
            "no step size gives finite numbers; train the editor with a smaller lr (--set lr=…)"
        )
    order = sorted(listed, key=lambda each: each.harm)
    best = best_within([t.objective for t in order], [t.harm for t in order], harm_at_most)
    chosen = order[best]
    if chosen.harm > harm_at_most:
        log.warning(
            "no step size keeps harm within %g; the least harmful one is taken", harm_at_most
        )
    return chosen, listed
