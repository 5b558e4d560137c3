"""A score against harm: what each variant can reach at which price."""

from __future__ import annotations

import pandas as pd

from smedit.plan.plan import OBJECTIVE
from smedit.plan.settings import all_settings
from smedit.report.figures import Drawing, Drawn, figure, scales
from smedit.report.figures.captions import CUT, caption
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.paths import TRAINED, Paths, paths
from smedit.report.figures.points import at_last_values, means, measured
from smedit.report.figures.vary import axes_of, line_of, traded
from smedit.report.metrics import METRICS

UNTRAINED = "untrained"


@figure(
    "Which {first} does a variant reach at which harm, over {setting}?",
    traded,
    {"": ("generalization", "harm"), "efficacy": ("efficacy", "harm")},
)
def trade_off(drawing: Drawing) -> Drawn:
    """Each variant is a line through its values of the setting, from the least to the largest."""
    setting, score = drawing.setting, drawing.measures[0]
    said, size = all_settings()[setting], _size(drawing)
    table = _lines(drawing, measured(drawing), size)
    table, fixed = at_last_values(drawing, table, [size])
    table = table.assign(
        x=pd.to_numeric(table[setting].replace("trained", TRAINED), errors="coerce"),
        column=table[size] if size else "",
    ).dropna(subset="x")
    by = ["place", "column", "line", "x"]
    found = means(table[table["last"]], [*by, "name"])
    if found.empty:
        raise CannotDrawError("no measurement was finished")
    before = means(table[(table.stage == 0) & (table.name == score)], ["place"])
    harm = found[found.name == "harm"][[*by, "value", "least", "most"]]
    wide = found[found.name == score].merge(harm, on=by, suffixes=("", "_harm"))
    drawn = table[table["last"]]
    grey = drawn.line.str.contains(UNTRAINED)
    colored = drawn[~grey]
    picture = paths(
        Paths(
            points=wide,
            methods=dict(zip(colored.line, colored.method, strict=True)),
            colors=dict(zip(colored.line, colored.base, strict=True)),
            references=dict(zip(drawn[grey].line, drawn[grey].method, strict=True)),
            unedited=dict(zip(before.place, before.value, strict=True)),
            column=all_settings()[size].label if size else "",
            published=said.default,
            score=score,
            scales=(
                scales.harm([*wide.value_harm, 1.5 * OBJECTIVE["harm_at_most"]]),
                scales.percent(score, [*wide.most, *before.value]),
            ),
        )
    )
    what = f"{METRICS[score].label.capitalize()} against harm: up and left is better. A line goes "
    what += f"through the values of {said.label}; marks grow with it, numbers name its ends. "
    what += "The cross is the unedited model."
    what += " Grey lines: untrained editors." if grey.any() else ""
    if said.default in set(wide.x):
        what += f" A ring: the published {said.default:g}."
    if TRAINED in set(wide.x):
        what += " A star: the step size as it was trained."
    return Drawn(picture, caption(what, wide, fixed, BARS))


BARS = f"Thin bars: from the least to the largest seed. {CUT}"


def _size(drawing: Drawing) -> str:
    """Another axis, a size if there is one: it gets a column of panels for each of its values."""
    others = [name for name in axes_of(drawing.rows) if name != drawing.setting]
    others = [name for name in others if not all_settings()[name].choice]
    return next(iter(sorted(others, key=lambda name: all_settings()[name].searched)), "")


def _lines(drawing: Drawing, table: pd.DataFrame, size: str) -> pd.DataFrame:
    """Where steps at edit time are asked for, each of them is a line; so is no training.

    Beside ``line`` stands ``base``, what its colour is for: the method, or the variant.
    """
    base = table.method
    untrained = (table.train_batches == 0) if size == "train_batches" else table.stage < 0
    name = table.line.mask(untrained, table.line + ", " + UNTRAINED)
    if any("edit_steps" in row["changes"] for row in drawing.rows):
        base = table.variant.map({r["variant"]: line_of(r, "edit_steps") for r in drawing.rows})
        steps = ", edited in " + table.stage.astype(str) + " step"
        name = base.mask(untrained, base + ", " + UNTRAINED)
        name += steps.where(table.stage == 1, steps + "s")
        table = table.assign(last=table.stage > 0)
    table = table.assign(line=name, base=base)
    every = sorted(set(table.train_batches) - {0}) if untrained.any() else []
    copies = [table[untrained].assign(train_batches=number) for number in every]
    return pd.concat([table[~untrained], *copies])
