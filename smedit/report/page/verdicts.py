"""The claims as the page shows them first: verdict, numbers, a small picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from smedit.report.claims import RECIPES, unit_of
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
    unit = unit_of(str(row["score"]))
    recipes = {r: _recipe(row, r, unit) for r in RECIPES if _known(row[f"{r}_difference"])}
    return {
        "claim": row["claim"],
        "verdict": row["verdict"],
        "by_model": row["by_model"] if _known(row["by_model"]) else "",
        "quoted": row["quoted"] if _known(row["quoted"]) else "",
        "score": _said(str(row["score"])),
        "recipes": recipes,
        "less": _less(row, unit),
        "kept": str(row["kept"]) == "True",
        "zero": _x(0.0, unit),
        "margin": _x(float(row["margin"]), unit),
    }


def _recipe(row: Mapping[str, Any], recipe: str, unit: str) -> dict[str, Any]:
    value, low, high = (row[f"{recipe}_{key}"] for key in ("difference", "low", "high"))
    digits = 2 if unit == "nats" else 0
    interval = f" ({low:+.{digits}f} to {high:+.{digits}f})" if _known(low) else ""
    numbers = [(f"{value:.0f} %", "")]
    if unit != "share":
        numbers = [(f"{row[f'{recipe}_{k}']:.{digits}f}", row[f"{recipe}_{k}_is"]) for k in "ab"]
    if unit == "points" and _known(row[f"{recipe}_before"]):
        numbers.append((f"{row[f'{recipe}_before']:.0f}", "unedited"))
    return {
        "numbers": numbers,
        "share": unit == "share",
        "unit": "%" if unit == "share" else unit,
        "difference": f"{value:+.{digits}f}{interval}",
        "counts": _counts(row, recipe),
        "x": _x(value, unit),
        "from": _x(low if _known(low) else value, unit),
        "to": _x(high if _known(high) else value, unit),
        "beyond": not RANGES[unit][0] <= value <= RANGES[unit][1],
    }


def _less(row: Mapping[str, Any], unit: str) -> str:
    """What the first side less the second one is called."""
    if str(row["kept"]) != "True":
        return "difference"
    return "more harm" if unit == "nats" else "loss"


def _counts(row: Mapping[str, Any], recipe: str) -> str:
    """What a recipe's numbers are over, and the harm beside them."""
    n_settings = int(row[f"{recipe}_settings"])
    said = f"{n_settings} setting{'s' * (n_settings != 1)}"
    if _known(row[f"{recipe}_seeds"]):
        n_seeds = int(row[f"{recipe}_seeds"])
        said = f"{n_seeds} seed{'s' * (n_seeds != 1)}, {said}"
    if _known(row[f"{recipe}_models"]):
        said += f" ({row[f'{recipe}_models']})"
    if _known(row[f"{recipe}_a_harm"]) and row["score"] != "harm":
        harms = " and ".join(f"{row[f'{recipe}_{k}_harm']:z.2f}" for k in "ab")
        said += f"; harm {harms} nats"
    return said


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
