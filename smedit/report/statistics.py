"""Means with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
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
    top, bottom = np.array(sums, dtype=float), np.array(counts)

    def statistic(s: np.ndarray, c: np.ndarray, axis: int = 0) -> np.ndarray:
        return of(scale * s.sum(axis) / c.sum(axis))

    with np.errstate(over="ignore"):  # a broken model's perplexity may be beyond any number
        value = float(statistic(top, bottom)) if len(top) else math.nan
        bounds = _interval((top, bottom), statistic)
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


def _interval(sample: tuple[np.ndarray, ...], statistic: Callable) -> dict[str, float]:
    if len(sample[0]) < 2:  # one request has no spread
        return dict.fromkeys(("standard_error", "ci_low", "ci_high"), math.nan)
    drawn = stats.bootstrap(
        sample,
        statistic,
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return {
        "standard_error": drawn.standard_error,
        "ci_low": drawn.confidence_interval.low,
        "ci_high": drawn.confidence_interval.high,
    }
