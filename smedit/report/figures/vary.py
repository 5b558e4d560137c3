"""What varies in an experiment, which decides its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smedit.plan.settings import all_settings
from smedit.plan.variants import variant_name
from smedit.report.figures import Row

NOT_AXES = {"seed", "rows", "generate", "points", "n_requests", "threads"}
"""Settings that are no axis of a figure."""

LINE = 3
"""So many values make a line; two are two points."""


def axes_of(rows: Sequence[Row]) -> list[str]:
    """The numeric settings that vary: strengths and sizes within a variant, from two values on;
    choices, such as the number of steps, between variants from three on.
    """  # noqa: D205
    least = {name: LINE if said.choice else 2 for name, said in all_settings().items()}
    return [name for name, number in _numbers(rows).items() if number >= least[name]]


def traded(rows: Sequence[Row]) -> list[str]:
    """The axes that a search may choose along, where a line goes through their values.

    Beside such a line, a comparison at one of the values would be an arbitrary one.
    """
    long = [name for name, number in _numbers(rows).items() if number >= LINE]
    return [name for name in axes_of(rows) if name in long and all_settings()[name].searched]


def curves_of(rows: Sequence[Row]) -> list[str]:
    """The other axes that have enough values for a line, at one strength."""
    numbers = _numbers(rows)
    return [] if traded(rows) else [name for name in axes_of(rows) if numbers[name] >= LINE]


def pairs_of(rows: Sequence[Row]) -> list[str]:
    """The axes that have two values, at one strength."""
    numbers = _numbers(rows)
    return [] if traded(rows) else [name for name in axes_of(rows) if numbers[name] < LINE]


def several_variants(rows: Sequence[Row]) -> list[str]:
    """For experiments that have something to compare, each variant at one strength."""
    return [""] if len({row["variant"] for row in rows}) > 1 and not traded(rows) else []


def line_of(row: Row, setting: str) -> str:
    """The variant of a row, apart from a setting; empty if it is about none."""
    if not setting or (setting not in row["changes"] and not all_settings()[setting].choice):
        return row["variant"]
    own = variant_name(row["method"], row["changes"])
    if row["variant"] != own:  # it has a name of its own
        return row["variant"]
    rest = {key: value for key, value in row["changes"].items() if key != setting}
    return variant_name(row["method"], rest)


def _numbers(rows: Sequence[Row]) -> dict[str, int]:
    """Numeric setting → the most values that one line has of it."""
    found = {}
    for name, said in all_settings().items():
        if said.kind not in (int, float) or name in NOT_AXES:
            continue
        values: dict[str, set[Any]] = {}
        for row in rows:
            values.setdefault(line_of(row, name), set()).add(row[name])
        found[name] = max((len(each - {None}) for each in values.values()), default=0)
    return found
