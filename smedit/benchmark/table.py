"""What a benchmark measured → rows of ``results/benchmark.csv``, one number each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import linregress

from smedit.methods import load_method
from smedit.plan.variants import variant_name

KEYS = [
    "part",
    "model",
    "dataset",
    "device",
    "precision",
    "threads",
    "method",
    "bp_steps",
    "locality",
    "n_edits",
    "path",
    "piece",
    "phase",
    "quantity",
]
"""What tells one row from another; empty where it has no meaning."""

COLUMNS = [*KEYS, "value", "low", "high", "n"]
"""``value`` is the median of n measurements, ``low`` and ``high`` the smallest and the largest.

Quantities: ``seconds``; ``speedup`` (plain ÷ this path, median of the ratios within a repetition);
``ratio`` (in sequence: this variant ÷ the first one, likewise);
``gflop`` (10⁹ floating-point operations of matrix products); ``gflop_per_second``;
``peak_memory_mb`` (phase ``load``: after loading; ``total``: at the end); ``largest_difference``
(relative, to the plain path; phase names what was compared); ``slope_of_seconds`` and
``slope_of_peak_memory_mb`` (of log value against log n_edits or bp_steps, over n points; low and
high are one standard error away).
"""

PATHS = ("plain", "frozen once", "+ answers only", "+ large batches", "fast")
"""From the plain path to the fast one, each with one saving more; the last shares the trace."""

Row = dict[str, Any]


def row(keys: Mapping[str, Any], quantity: str, values: Sequence[float], **more: Any) -> Row:
    """One row: the median of the values, their range and their number."""
    return {
        **dict.fromkeys(KEYS),
        **keys,
        **more,
        "quantity": quantity,
        "value": median(values),
        "low": min(values),
        "high": max(values),
        "n": len(values),
    }


def seconds_rows(keys: Mapping[str, Any], runs: Sequence[Mapping[str, float]]) -> list[Row]:
    """Rows of seconds per phase, and of their sum (phase ``total``), over repetitions."""
    totals = [sum(run.values()) for run in runs]
    phases = [
        row(keys, "seconds", [run.get(phase, 0.0) for run in runs], phase=phase)
        for phase in runs[0]
    ]
    return [*phases, row(keys, "seconds", totals, phase="total")]


def slope_row(keys: Mapping[str, Any], rows: Sequence[Row], against: str, quantity: str) -> Row:
    """Least-squares slope of log value against log ``against``, with its standard error.

    Parameters
    ----------
    keys
        Of the new row.
    rows
        At least three points.
    against
        ``n_edits`` or ``bp_steps``.
    quantity
        Which of the rows' quantities.
    """
    points = [r for r in rows if r["quantity"] == quantity and r["phase"] == "total"]
    fit = linregress(
        np.log([point[against] for point in points]), np.log([point["value"] for point in points])
    )
    error = float(np.nan_to_num(fit.stderr))  # of equal values it is not a number
    return {
        **dict.fromkeys(KEYS),
        **keys,
        "phase": "total",
        "quantity": f"slope_of_{quantity}",
        "value": float(fit.slope),
        "low": float(fit.slope) - error,
        "high": float(fit.slope) + error,
        "n": len(points),
    }


def as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """All rows as a table with the columns `COLUMNS`; counts stay whole numbers."""
    counts = dict.fromkeys(("threads", "bp_steps", "n_edits", "n"), "Int64")
    return pd.DataFrame(list(rows), columns=COLUMNS).astype(counts)


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``label``: the variant's name, empty where a row belongs to none."""
    names = table[["method", "bp_steps", "locality"]]
    labels = [
        label_of(*values) if here else ""
        for values, here in zip(
            names.itertuples(index=False), names.notna().all(axis=1), strict=True
        )
    ]
    return table.assign(label=labels)


def label_of(method: str, bp_steps: int, locality: str) -> str:
    """A variant's name, as in the tables of scores: ``MALMEN + MBPS``."""
    usual = load_method(method)
    changes = {"bp_steps": int(bp_steps), "locality": locality}
    own = {"bp_steps": usual.bp_steps, "locality": usual.locality}
    return variant_name(method, {k: v for k, v in changes.items() if v != own[k]})
