"""Means with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 2000
INTERVAL = ["standard_error", "ci_low", "ci_high", "n_rows", "n_resampled"]
"""Columns beside a value: prompts that it is the mean of, and requests that the bootstrap draws
from; for text, tokens and paragraphs."""

Rows = Sequence[Sequence[float]]
"""Values in [0, 1]: of each request, those of its prompts."""


def mean_with_interval(rows: Rows) -> dict[str, float]:
    """Mean over prompts in percent, with its uncertainty over requests.

    Parameters
    ----------
    rows
        A request without any prompt counts for nothing.

    Returns
    -------
    dict
        ``value`` and `INTERVAL` (95 %, percentile bootstrap over requests).
    """
    return ratio_with_interval(
        [sum(r) for r in rows if r], [len(r) for r in rows if r], scale=100.0
    )


def ratio_with_interval(
    sums: Sequence[float],
    counts: Sequence[float],
    scale: float = 1.0,
    of: Callable[[np.ndarray], np.ndarray] = lambda ratio: ratio,
) -> dict[str, float]:
    """``of(scale × Σ sums / Σ counts)``, with its uncertainty over the entries.

    Returns
    -------
    dict
        ``value`` and `INTERVAL`.
    """
    top, bottom = np.array(sums, dtype=float), np.array(counts, dtype=float)

    def statistic(s: np.ndarray, c: np.ndarray) -> np.ndarray:
        return of(scale * s / c)

    with np.errstate(over="ignore"):  # a broken model's perplexity may be beyond any number
        value = float(statistic(top.sum(), bottom.sum())) if len(top) else math.nan
        bounds = _interval(top, bottom, statistic)
    return {"value": value, **bounds, "n_rows": int(bottom.sum()), "n_resampled": len(top)}


def paired_gain(ours: Rows, theirs: Rows) -> dict[str, float]:
    """How much higher the first scores are, in percentage points, paired by request."""
    pairs = [pair for pair in zip(ours, theirs, strict=True) if pair[0]]
    difference = [sum(r) - sum(s) for r, s in pairs]
    return ratio_with_interval(difference, [len(r) for r, _ in pairs], scale=100.0)


def perplexity(losses: Sequence[tuple[float, int]]) -> dict[str, float]:
    """exp(mean loss per token), with its uncertainty over paragraphs."""
    sums, counts = zip(*losses, strict=True)
    return ratio_with_interval(sums, counts, of=np.exp)


def harm(text: Sequence[Sequence[Sequence[float]]], before: Sequence[Sequence[float]]) -> dict:
    """Loss above the unedited model's in nats per token: mean over batches, over paragraphs.

    Parameters
    ----------
    text
        Per edited batch and paragraph: loss, drift, tokens.
    before
        Per paragraph, of the unedited model.
    """
    change = [[p[0] - b[0] for p, b in zip(batch, before, strict=True)] for batch in text]
    return ratio_with_interval(np.mean(change, axis=0).tolist(), [b[2] for b in before])


def drift(text: Sequence[Sequence[Sequence[float]]]) -> dict[str, float]:
    """KL(unedited ‖ edited) in nats per token: mean over batches, over paragraphs."""
    values = np.mean([[p[1] for p in batch] for batch in text], axis=0).tolist()
    return ratio_with_interval(values, [p[2] for p in text[0]])


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its t interval over seeds; of two seeds, which have next to none, both values; with
    one seed nothing.
    """  # noqa: D205
    values = [value for value in values if not math.isnan(value)]
    mean = float(np.mean(values)) if values else math.nan
    if len(values) < 2:
        return mean, math.nan, math.nan
    if len(values) == 2:
        return mean, min(values), max(values)
    width = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return mean, mean - width, mean + width


def smallest_effect(values: Sequence[float]) -> float:
    """The smallest mean that a t test over these seeds would find four times out of five."""
    n = len(values)
    if n < 2:
        return math.nan
    needed = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    return float(needed * stats.sem(values))


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided p of the mean of paired differences, exact over all flips of their signs.

    With more than 20 differences, one is drawn of a million flips.
    """
    if len(differences) < 2:
        return math.nan
    flips = np.inf if len(differences) <= 20 else 10**6
    return float(
        stats.permutation_test(
            (np.asarray(differences),),
            lambda sample, axis: np.mean(sample, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=flips,
            batch=2**16,
            rng=np.random.default_rng(0),
        ).pvalue
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P values after Holm's step-down adjustment."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return []
    return multipletests(p_values, method="holm")[1].tolist()


def resamples(n: int, seed: int = 0) -> np.ndarray:
    """How often each of n entries is drawn in each of `RESAMPLES` resamples: (resamples, n)."""
    return _drawn(n, seed, RESAMPLES)


@cache
def _drawn(n: int, seed: int, size: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=size)
    return drawn.astype(float)


def _interval(top: np.ndarray, bottom: np.ndarray, statistic: Callable) -> dict[str, float]:
    if len(top) < 2:  # one request has no spread
        return dict.fromkeys(("standard_error", "ci_low", "ci_high"), math.nan)
    weights = resamples(len(top))
    drawn = statistic(weights @ top, weights @ bottom)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"standard_error": drawn.std(ddof=1), "ci_low": low, "ci_high": high}
