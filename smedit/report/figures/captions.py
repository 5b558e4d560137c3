"""What stands below a figure: what is shown, of how many seeds and requests, and what bars are."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

BARS = {
    1: "with one seed the 95 % interval over requests (of harm: over paragraphs)",
    2: "with two seeds both values",
    3: "the 95 % t interval over seeds",
}
"""Seeds → what a bar is; the last also stands for more."""

CUT = "An arrow at an edge marks one that goes on beyond it."


def caption(what: str, points: pd.DataFrame, fixed: Sequence[str], bars: str = "") -> str:
    """Words for a figure.

    Parameters
    ----------
    what
        What is shown.
    points
        See `smedit.report.figures.points.means`.
    fixed
        In words, what else was kept at one value.
    bars
        What bars are, if they are no intervals of `BARS`.
    """
    seeds = sorted({int(n) for n in points.seeds})
    kinds = [BARS[n] for n in sorted({min(n, 3) for n in seeds})]
    percent = points[points.name != "harm"] if "name" in points else points
    requests = sorted({int(n) for n in percent.requests if n})
    said = [
        what,
        f"Means over {_span(seeds)} seed{'s' if seeds[-1] > 1 else ''}"
        + (f", {_span(requests)} requests in each." if requests else "."),
        bars or f"Bars: {'; '.join(kinds)}. {CUT}",
    ]
    if len(seeds) > 1:
        said.append("Runs that diverged have no part in a mean.")
    if fixed:
        said.append(f"With {', '.join(fixed)}.")
    return " ".join(said)


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
