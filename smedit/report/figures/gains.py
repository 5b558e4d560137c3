"""What a second step adds, and the norm in place of KL."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from smedit.report.figures import VIEWS, Drawing, Drawn, Row, figure, scales
from smedit.report.figures.captions import caption
from smedit.report.figures.dots import Dots, dots
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.points import at_last_values, means, once, places_of
from smedit.report.figures.style import styles
from smedit.report.figures.vary import several_variants
from smedit.report.metrics import is_headline


def with_pairs(rows: Sequence[Row]) -> list[str]:
    """For experiments where two variants differ in one choice."""
    steps = {(row["method"], row["locality"], row["bp_steps"]) for row in rows}
    second = any(s == 2 and (m, loc, 1) in steps for m, loc, s in steps)
    norm = any(loc == "norm" and (m, "kl", s) in steps for m, loc, s in steps)
    return several_variants(rows) if second or norm else []


@figure(
    "What do a second step, and the norm in place of KL, gain in {measures}?",
    with_pairs,
    {"": VIEWS[""][:1], "scores": VIEWS["scores"]},
)
def gains(drawing: Drawing) -> Drawn:
    """Differences in points, paired by request: one dot per pair of variants."""
    table = drawing.tables["gains"]
    pairs = list(zip(table.metric, table.score, strict=True))
    parts = [
        table[[is_headline(name, *pair) for pair in pairs]].assign(name=name)
        for name in drawing.measures
    ]
    found = pd.concat(parts)
    if found.empty:
        raise CannotDrawError("no two variants differ in one choice alone")
    found = once(found, "variant")
    found = found.assign(
        value=found.gain,
        place=places_of(found),
        line=found.variant + ": " + found.gain_of,
    )
    found, fixed = at_last_values(drawing, found)
    points = means(found, ["place", "line", "method", "name"]).assign(mark=0)
    if points.empty:
        raise CannotDrawError("no pair is measured at the last values of what varies")
    methods = dict(zip(points.line, points.method, strict=True))
    scale = {}
    for name in drawing.measures:
        mine = points[points.name == name]
        scale[name] = scales.difference(name, mine.value, [*mine.low, *mine.high])
    picture = dots(
        Dots(
            points=points,
            order=list(methods),
            looks={(line, 0): look for line, look in styles(methods).items()},
            scale=scale,
            label="{} (points)",
            references={(place, name): 0.0 for place in points.place for name in scale},
        )
    )
    what = "Percentage points gained: the same requests edited with and without it."
    return Drawn(picture, caption(what, points, fixed))
