"""The claims as the page shows them first: verdict, numbers, a small picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from smedit.report.claims import RECIPES
from smedit.report.metrics import METRICS, SCORES
from smedit.report.timed import TIMED

RANGES = {"nats": (-0.5, 1.5), "points": (-40.0, 60.0), "share": (-10.0, 60.0)}
"""Unit → what the small pictures span: one scale per unit, so that rows compare."""

WIDTH, HEIGHT = 180, 26
"""Of a small picture, in pixels."""


def verdicts(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per claim.

    Parameters
    ----------
    claims
        The table of that name.
    """
    return [_entry(row) for row in claims.to_dict("records")]


def _entry(row: Mapping[str, Any]) -> dict[str, Any]:
    unit = _unit(str(row["score"]))
    recipes = {r: _recipe(row, r, unit) for r in RECIPES if _known(row[f"{r}_difference"])}
    said = recipes.get("chosen") or recipes.get("published")
    return {
        "id": row["id"],
        "claim": row["claim"],
        "where": row["where"],
        "verdict": row["verdict"],
        "quoted": row["quoted"] if _known(row["quoted"]) else "",
        "score": _said(str(row["score"])),
        "recipes": recipes,
        "numbers": said["numbers"] if said else [],
        "low": RANGES[unit][0],
        "high": RANGES[unit][1],
        "zero": _x(0.0, unit),
        "margin": _x(float(row["margin"]), unit),
    }


def _recipe(row: Mapping[str, Any], recipe: str, unit: str) -> dict[str, Any]:
    value, low, high = (row[f"{recipe}_{key}"] for key in ("difference", "low", "high"))
    digits = 2 if unit == "nats" else 0
    interval = f" ({low:+.{digits}f} to {high:+.{digits}f})" if _known(low) else ""
    sides = [(f"{row[f'{recipe}_{k}']:.{digits}f}", row[f"{recipe}_{k}_is"]) for k in "ab"]
    return {
        "numbers": sides if unit != "share" else [(f"{value:.0f} %", "")],
        "difference": f"{value:+.{digits}f}{interval}",
        "seeds": int(row[f"{recipe}_seeds"]),
        "settings": int(row[f"{recipe}_settings"]),
        "x": _x(value, unit),
        "from": _x(low if _known(low) else value, unit),
        "to": _x(high if _known(high) else value, unit),
        "beyond": not RANGES[unit][0] <= value <= RANGES[unit][1],
    }


def _unit(score: str) -> str:
    return "nats" if score in ("harm", "drift") else "share" if score in TIMED else "points"


def _said(score: str) -> str:
    if score in TIMED:
        return TIMED[score]
    measure = METRICS.get(score) or SCORES.get(score)
    return f"{measure.label}, {measure.unit}" if measure else ""


def _known(value: Any) -> bool:
    return not (isinstance(value, float) and math.isnan(value))


def _x(value: float, unit: str) -> float:
    """Where a value stands in the small picture; what is beyond it stands at its edge."""
    low, high = RANGES[unit]
    share = (min(max(value, low), high) - low) / (high - low)
    return round(6 + share * (WIDTH - 12), 1)
