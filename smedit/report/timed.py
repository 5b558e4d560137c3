"""The claims on time and memory, from what ``make bench`` measured apart from any run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from smedit.report import statistics

TIMED = {
    "share_of_kl": "share of a training step with KL that KL takes, percent",
    "seconds_saved": "seconds of a training step saved by the norm, percent",
    "memory_saved": "peak memory saved by the norm, percent",
}
"""Score of a claim → what it is. All compare the same training step with KL and with the norm."""


def timed(benchmark: pd.DataFrame | None, score: str) -> dict[str, Any] | None:
    """Compare a training step with KL (``a``) and with the norm (``b``); None without a benchmark.

    One difference, in percent of the step with KL, per model and number of edits of the benchmark's
    part ``locality``; its t interval is over these settings, which stand in the place of seeds.
    """
    if benchmark is None:
        return None
    part = benchmark[benchmark.part == "locality"]

    def measured(locality: str, quantity: str, phase: str = "total") -> pd.Series:
        mine = part[(part.locality == locality) & (part.quantity == quantity)]
        return mine[mine.phase == phase].set_index(["model", "n_edits"])["value"]

    quantity = "peak_memory_mb" if score == "memory_saved" else "seconds"
    whole = measured("kl", quantity)
    if score == "share_of_kl":
        a, b = measured("kl", quantity, "locality loss"), whole * 0
    else:
        a, b = whole, measured("norm", quantity)
    shares = (100 * (a - b) / whole).dropna().tolist()
    if not shares:
        return None
    mean, low, high = statistics.over_seeds(shares)
    return {
        **{"a": a.mean(), "b": b.mean(), "difference": mean},
        **{"low": low, "high": high, "seeds": len(shares), "settings": len(shares)},
        "smallest_effect": statistics.smallest_effect(shares),
    }
