"""Variants side by side."""

from __future__ import annotations

from smedit.report.figures import VIEWS, Drawing, Drawn, figure, scales
from smedit.report.figures.captions import caption
from smedit.report.figures.dots import Dots, dots
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.lines import with_lost
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.style import styles
from smedit.report.figures.vary import several_variants

BEYOND = (
    "×: no value that was tried keeps the bound on harm and is better than the unedited model; "
    "shown is the least harmful, and the claims count the variant as left unedited."
)


ANSWERS = {"answers": ("exact_match", "agreement", "generated")}
"""Whether the order stays under other scores. What no run was asked for gets no panel."""


@figure("Which variant is best in {measures}?", several_variants, {**VIEWS, **ANSWERS})
def comparison(drawing: Drawing) -> Drawn:
    """One dot per variant."""
    by = ["place", "line", "name", "mark"]
    table, fixed = at_last_values(drawing, measured(drawing))
    table = table.assign(mark=table.within_bound.eq(False).astype(int))
    found = means(table[table["last"]], by)
    if found.empty:
        raise CannotDrawError("no measurement was finished")
    before = means(table[table.stage == 0], ["place", "name"])
    scale = {}
    for name in (name for name in drawing.measures if (found.name == name).any()):
        mine, reference = found[found.name == name], before[before.name == name]
        ends = [*mine.low, *mine.high]
        scale[name] = scales.of(name, [*mine.value, *reference.value], ends)
    methods = method_of(table)
    looks = {(line, 0): look for line, look in styles(methods).items()}
    looks |= {(line, 1): look | {"marker": "x"} for (line, _), look in looks.items()}
    picture = dots(
        Dots(
            points=with_lost(found, table, by),
            order=list(methods),
            looks=looks,
            scale=scale,
            references={(b.place, b.name): b.value for b in before.itertuples(index=False)},
        )
    )
    what = "After the last step. Grey: the unedited model."
    what += f" {BEYOND}" if found.mark.any() else ""
    return Drawn(picture, caption(what, found, fixed))
