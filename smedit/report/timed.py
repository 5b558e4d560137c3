"""The claims on time and memory, from what ``make bench`` measured apart from any run."""

from __future__ import annotations

from typing import Any

import pandas as pd

TIMED = {
    "share_of_kl": "of a training step with KL are KL's",
    "seconds_saved": "of a training step's seconds saved by the norm",
    "memory_saved": "of its peak memory saved by the norm",
}
"""Score of a claim → what it is, in percent. SMEdit's training step, with KL and with the norm."""


def timed(benchmark: pd.DataFrame | None, score: str) -> list[dict[str, Any]]:
    """One comparison, in percent of the step with KL; none without a benchmark.

    The settings are the models and numbers of edits of the benchmark's part ``locality``. There is
    no seed: ``low`` and ``high`` are the least and the largest of the settings, so that a claim is
    shown where it is in each of them.
    """
    if benchmark is None:
        return []
    part = benchmark[benchmark.part == "locality"]

    def measured(locality: str, quantity: str, phase: str = "total") -> pd.Series:
        mine = part[(part.locality == locality) & (part.quantity == quantity)]
        return mine[mine.phase == phase].set_index(["model", "n_edits"])["value"]

    quantity = "peak_memory_mb" if score == "memory_saved" else "seconds"
    whole = measured("kl", quantity)
    if score == "share_of_kl":
        saved = measured("kl", quantity, "locality loss")
    else:
        saved = whole - measured("norm", quantity)
    shares = (100 * saved / whole).dropna()
    if shares.empty:
        return []
    return [
        {
            "complete": True,
            "difference": shares.mean(),
            "low": shares.min(),
            "high": shares.max(),
            "settings": len(shares),
            "models": ", ".join(dict.fromkeys(shares.index.get_level_values("model"))),
        }
    ]
