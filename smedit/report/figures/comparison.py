"""Variants side by side."""

from __future__ import annotations

from smedit.report.figures import Drawing, Drawn, figure, scales
from smedit.report.figures.captions import caption
from smedit.report.figures.dots import Dots, dots
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.lines import with_lost
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.style import styles
from smedit.report.figures.vary import several_variants


@figure("Which variant is best in {measures}?", several_variants)
def comparison(drawing: Drawing) -> Drawn:
    """One dot per variant."""
    by = ["place", "line", "name"]
    table, fixed = at_last_values(drawing, measured(drawing))
    found = means(table[table["last"]], by)
    if found.empty:
        raise CannotDrawError("no measurement was finished")
    before = means(table[table.stage == 0], ["place", "name"])
    scale = {}
    for name in drawing.measures:
        mine, reference = found[found.name == name], before[before.name == name]
        ends = [*mine.low, *mine.high]
        scale[name] = scales.of(name, [*mine.value, *reference.value], ends)
    methods = method_of(table)
    looks = styles(methods)
    picture = dots(
        Dots(
            points=with_lost(found, table, by).assign(mark=0),
            order=list(methods),
            looks={(line, 0): look for line, look in looks.items()},
            scale=scale,
            references={(b.place, b.name): b.value for b in before.itertuples(index=False)},
        )
    )
    return Drawn(picture, caption("After the last step. Grey: the unedited model.", found, fixed))
