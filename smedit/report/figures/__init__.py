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
from smedit.report.metrics import SCORES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""One thing that was asked for; see `smedit.plan.plan.Plan.resolved`."""

SUFFIXES = ("png", "svg")
"""Every figure is written as a picture to look at, and as one to print."""

CAPTIONS = "figures.csv"
"""The table of all figures, beside the other tables: pictures have no words below them."""

VIEWS = {"": ("generalization", "harm"), "scores": ("efficacy", "specificity", "agreement")}
"""View → what its panels show. The first is the study's primary score and its price."""


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
    measures
        What its panels show: names of `smedit.report.metrics`.
    """

    experiment: str
    rows: Sequence[Row]
    tables: Mapping[str, pd.DataFrame]
    setting: str
    measures: Sequence[str]


@dataclass(frozen=True)
class Drawn:
    """A picture, and what is said of it as text."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Kind:
    """A kind of figure: the question that it answers, for which settings, and how it is drawn."""

    name: str
    question: str
    settings: Callable[[Sequence[Row]], list[str]]
    views: Mapping[str, Sequence[str]]
    draw: Callable[[Drawing], Drawn]

    def asks(self, drawing: Drawing) -> str:
        """The question of one figure."""
        label = all_settings()[drawing.setting].label if drawing.setting else ""
        *others, last = map(_called, drawing.measures)
        measures = f"{', '.join(others)} and {last}" if others else last
        first = _called(drawing.measures[0])
        return self.question.format(setting=label, measures=measures, first=first)


def _called(measure: str) -> str:
    """What a measure is called within a sentence."""
    return SCORES[measure].label if measure in SCORES else measure


KINDS: dict[str, Kind] = {}
"""Name → kind."""


def figure(
    question: str,
    settings: Callable[[Sequence[Row]], list[str]],
    views: Mapping[str, Sequence[str]] = VIEWS,
) -> Callable:
    """Declare a kind of figure by the function that draws it.

    Parameters
    ----------
    question
        What the figure answers; ``{setting}`` stands for the setting's label, ``{measures}`` for
        what is shown, ``{first}`` for the first of it.
    settings
        Takes what an experiment asks for; gives the settings that it gets such a figure for: none,
        or ``[""]`` for one that is about no setting.
    views
        End of the name → what a figure shows; one figure for each.
    """

    def register(draw: Callable[[Drawing], Drawn]) -> Callable:
        KINDS[draw.__name__] = Kind(draw.__name__, question, settings, views, draw)
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
                for view, measures in kind.views.items():
                    name = "-".join(filter(None, [experiment, kind.name, setting, view]))
                    yield name, kind, Drawing(experiment, mine, {}, setting, measures)
