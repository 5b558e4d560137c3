"""The figures of an experiment. What varies in it decides which ones it gets.

Each kind is one decorated function in a file of this folder. Matplotlib is imported only when
something is drawn: the workflow asks for the names of all figures before any job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.plan.variants import variant_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""One thing that was asked for; see `smedit.plan.plan.Plan.resolved`."""

NOT_AXES = {"seed", "rows", "generate", "points", "n_requests", "threads"}
"""Settings that are no axis of a figure."""


SUFFIXES = ("png", "svg")
"""Every figure is written as a picture to look at, and as one to print."""


@dataclass(frozen=True)
class Drawing:
    """What a figure is drawn from.

    Attributes
    ----------
    experiment
        Its name.
    rows
        What it asks for, of the rows that are reported.
    tables
        Name → table, the experiment's part of it.
    setting
        The setting that the figure is about; empty if it is about none.
    """

    experiment: str
    rows: Sequence[Row]
    tables: Mapping[str, pd.DataFrame]
    setting: str


@dataclass(frozen=True)
class Kind:
    """A kind of figure: the question that it answers, for which settings, and how it is drawn."""

    name: str
    question: str
    settings: Callable[[Sequence[Row]], list[str]]
    draw: Callable[[Drawing], Figure]


KINDS: dict[str, Kind] = {}
"""Name → kind."""


def figure(question: str, settings: Callable[[Sequence[Row]], list[str]]) -> Callable:
    """Declare a kind of figure by the function that draws it.

    Parameters
    ----------
    question
        What the figure answers; ``{}`` stands for the setting's label.
    settings
        Takes what an experiment asks for; gives the settings that it gets such a figure for: none,
        or ``[""]`` for one that is about no setting.
    """

    def register(draw: Callable[[Drawing], Figure]) -> Callable:
        KINDS[draw.__name__] = Kind(draw.__name__, question, settings, draw)
        return draw

    return register


def figures_of(rows: Sequence[Row]) -> list[str]:
    """Names of all figures of a plan, without suffix."""
    return [name for name, _, _ in figures(rows)]


def figures(rows: Sequence[Row]) -> Iterator[tuple[str, Kind, Drawing]]:
    """Every figure of a plan: its name, its kind, and what it shows, without tables."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    reported = [row for row in rows if row["rows"] == "eval"]
    for experiment in dict.fromkeys(row["experiment"] for row in reported):
        mine = [row for row in reported if row["experiment"] == experiment]
        for kind in KINDS.values():
            for setting in kind.settings(mine):
                name = "-".join([experiment, kind.name, *([setting] if setting else [])])
                yield name, kind, Drawing(experiment, mine, {}, setting)


def axes_of(rows: Sequence[Row]) -> list[str]:
    """The numeric settings that vary: strengths and sizes within a variant, from two values on;
    choices, such as the number of steps, between variants from three on.
    """  # noqa: D205
    found = []
    for name, said in all_settings().items():
        if said.kind not in (int, float) or name in NOT_AXES:
            continue
        values: dict[str, set[Any]] = {}
        for row in rows:
            values.setdefault(line_of(row, name), set()).add(row[name])
        numbers = (len(each - {None}) for each in values.values())
        if max(numbers, default=0) >= (3 if said.choice else 2):
            found.append(name)
    return found


def line_of(row: Row, setting: str) -> str:
    """The variant of a row, apart from a setting."""
    if setting not in row["changes"] and not all_settings()[setting].choice:
        return row["variant"]
    own = variant_name(row["method"], row["changes"])
    if row["variant"] != own:  # it has a name of its own
        return row["variant"]
    rest = {key: value for key, value in row["changes"].items() if key != setting}
    return variant_name(row["method"], rest)
