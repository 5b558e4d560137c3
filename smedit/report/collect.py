"""What the commands ``choose``, ``tables`` and ``figures`` do with a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from smedit.plan.plan import make_plan
from smedit.report.choose import choose, chosen_values
from smedit.report.results import check_chosen, read_chosen, read_runs
from smedit.report.tables import TABLES, Found, make
from smedit.store.files import replacing
from smedit.store.sums import check_sums, write_sums


def choose_values(config: Mapping[str, Any], search: str, model: str) -> dict[str, Any]:
    """What a search chose on one model, JSON-ready: ``search``, ``model``, ``chosen``."""
    plan, folder = make_plan(config), Path(config["results_dir"])
    searched = plan.searches[search, model]
    table = choose(searched, read_runs(plan, folder, searched.runs))
    return {"search": search, "model": model, "chosen": chosen_values(table)}


def write_tables(config: Mapping[str, Any]) -> None:
    """Read all results of a configuration, and write every table.

    Raises
    ------
    UserError
        If a result is missing or damaged, or a table cannot be written.
    """
    plan, folder = make_plan(config), Path(config["results_dir"])
    results = read_runs(plan, folder, plan.runs)
    rows = plan.resolved(read_chosen(plan, folder))
    check_chosen(plan, folder, rows, results)
    found = Found(
        rows,
        results,
        [choose(search, results) for search in plan.searches.values()],
    )
    files = []
    for name in TABLES:
        files.append(folder / f"{name}.csv")
        with replacing(files[-1]) as part:
            table = make(name, found)
            table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")
    write_sums(folder / "tables.sha256", files)


def draw_figures(config: Mapping[str, Any]) -> None:
    """Draw every figure of a configuration from its tables.

    Raises
    ------
    UserError
        If a table is missing or damaged.
    """
    from smedit.report.figures.draw import draw

    plan, folder = make_plan(config), Path(config["results_dir"])
    check_sums(folder / "tables.sha256", TABLES)
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    draw(plan.resolved(), tables, Path(config["figures_dir"]))
