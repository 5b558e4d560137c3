"""The paper's published curves beside those that are measured here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from smedit.plan.settings import all_settings
from smedit.report.figures import Drawing, Drawn, Row, figure
from smedit.report.figures.captions import caption
from smedit.report.figures.draw import CannotDrawError
from smedit.report.figures.lines import lines
from smedit.report.figures.points import at_last_values, means, measured, method_of
from smedit.report.figures.scales import value_axis
from smedit.report.figures.vary import curves_of
from smedit.report.quoted import published

MEASURES = ("efficacy", "generalization", "specificity")


@dataclass(frozen=True)
class Sweep:
    """Where the paper varies a setting: tables of its numbers, and the column that varies."""

    tables: Sequence[str]
    column: str


SWEEPS = {
    "train_batches": Sweep(("train_step_sweep", "data_efficiency"), "train_steps"),
    "bp_steps": Sweep(("bp_step_sweep",), "bp_steps"),
    "n_edits": Sweep(("batch_size_sweep",), "n_edits"),
}


def swept(rows: Sequence[Row]) -> list[str]:
    """The settings that both the paper and an experiment with whole editors in batches vary."""
    alike = all(
        row["protocol"] == "batch" and row["edit_parts"] == row["train_parts"] == "all"
        for row in rows
    )
    return [name for name in curves_of(rows) if alike and name in SWEEPS]


@figure("Do {measures} go with {setting} as in the paper?", swept, {"": MEASURES})
def beside(drawing: Drawing) -> Drawn:
    """The methods that both have; published panels first. Percent on y, own values on x."""
    setting, by = drawing.setting, ["place", "line", "name", "x"]
    table, fixed = at_last_values(drawing, measured(drawing))
    theirs = _theirs(setting, {row["train_batches"] for row in drawing.rows})
    theirs = theirs[theirs.line.isin(table.line)]
    table = table.assign(x=pd.to_numeric(table[setting], errors="coerce")).dropna(subset="x")
    table = table[table.line.isin(theirs.line)]
    if table.dataset.isin(theirs.dataset).any():
        table = table[table.dataset.isin(theirs.dataset)]
    found = means(table[table["last"]], by)
    if found.empty or theirs.empty:
        raise CannotDrawError("nothing that the paper has is measured yet")
    before = means(table[table.stage == 0], ["place", "name", "x"])
    values = pd.concat([theirs, found]).groupby("place").x.agg(list)
    picture = lines(
        pd.concat([theirs, found]),
        before,
        method_of(table),
        drawing.measures,
        lambda panel, place: value_axis(panel, values[place]),
        all_settings()[setting].label,
    )
    what = "As published, of other models (arXiv 2508.04012), then as measured here, after the last"
    what += " step. Each panel has x values of its own."
    return Drawn(picture, caption(what, found, fixed))


def _theirs(setting: str, train_batches: Collection[int]) -> pd.DataFrame:
    """The published points, like those of `means`, with their dataset.

    One panel per published table: where two have the same quantity, their values differ.
    """
    sweep, rows = SWEEPS[setting], published()
    rows = rows[rows.table.isin(sweep.tables) & (rows.setting == "batch")]
    if setting != "train_batches":
        rows = rows[rows.train_steps.isna() | rows.train_steps.isin(train_batches)]
    rows = rows[rows.metric.isin(MEASURES)].dropna(subset=sweep.column)
    line = rows.method
    if setting != "bp_steps":
        line = line.where((rows.bp_steps == 1) | (line == "SMEdit"), line + " + MBPS")
    points = rows.assign(
        place=rows.model + "\n" + rows.dataset + ", paper: " + rows.table.str.replace("_", " "),
        line=line,
        name=rows.metric,
        x=pd.to_numeric(rows[sweep.column]),
    )
    points = points.groupby(["place", "line", "name", "x", "dataset"], as_index=False).value.mean()
    return points.assign(low=float("nan"), high=float("nan"))
