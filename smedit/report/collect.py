"""What the commands ``choose``, ``tables`` and ``figures`` do with a configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from smedit.plan.plan import Plan, make_plan
from smedit.report.choose import choose, chosen_values, settled, within_bound
from smedit.report.results import measured_rows, read_runs
from smedit.report.tables import TABLES, Found, make
from smedit.store.files import replacing, suite_path
from smedit.store.sums import check_sums, write_sums

BENCHMARK = "results/benchmark.csv"


def choose_values(config: Mapping[str, Any], search: str, model: str) -> dict[str, Any]:
    """What a search chose on one model, JSON-ready: ``search``, ``model``, ``chosen``."""
    plan, folder = make_plan(config), Path(config["results_dir"])
    searched = plan.searches[search, model]
    table = choose(searched, read_runs(plan, folder, searched.runs))
    return {"search": search, "model": model, "chosen": chosen_values(table)}


def write_tables(
    config: Mapping[str, Any], all_done: bool = True, without: Collection[str] = ()
) -> None:
    """Read all results of a configuration, and write every table.

    Parameters
    ----------
    config
        The configuration, completed.
    all_done
        Whether every run must be done. Else the tables have what is there: a search has chosen for
        a variant once all its points are measured, and what waits for a choice is left out.
    without
        Runs whose results are left out.

    Raises
    ------
    UserError
        If a result is missing or damaged, or a table cannot be written.
    """
    plan, folder = make_plan(config), Path(config["results_dir"])
    names = [name for name in plan.runs if name not in without]
    found = _found(plan, folder, names, all_done)
    files = []
    for name in TABLES:
        files.append(folder / f"{name}.csv")
        with replacing(files[-1]) as part:
            table = found.scores_table if name == "scores" else make(name, found)
            table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")
    write_sums(folder / "tables.sha256", files)


def _found(plan: Plan, folder: Path, names: Sequence[str], all_done: bool) -> Found:
    results = read_runs(plan, folder, names, all_done)
    searches, chosen, within = [], {}, {}
    for search in plan.searches.values():
        searches.append(choose(search if all_done else settled(search, results), results))
        at = f"{search.name} {search.model}"
        chosen[at], within[at] = chosen_values(searches[-1]), within_bound(searches[-1])
    rows = measured_rows(plan, folder, chosen, within, results, all_done)
    return Found(rows, results, searches, benchmark(), plan.resolved(chosen))


def benchmark() -> pd.DataFrame | None:
    """What ``make bench`` measured, as it was committed or measured last; None without it."""
    path = suite_path(BENCHMARK)
    return pd.read_csv(path) if path.is_file() else None


def draw_figures(config: Mapping[str, Any]) -> None:
    """Draw every figure of a configuration from its tables, and write the table of their captions.

    Raises
    ------
    UserError
        If a table is missing or damaged.
    """
    from smedit.report.figures import CAPTIONS
    from smedit.report.figures.draw import draw

    plan, folder = make_plan(config), Path(config["results_dir"])
    check_sums(folder / "tables.sha256", TABLES)
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    drawn = draw(plan.resolved(), tables, Path(config["figures_dir"]))
    with replacing(folder / CAPTIONS) as part:
        drawn.to_csv(part, index=False, lineterminator="\n")


def write_report(config: Mapping[str, Any]) -> Path:
    """Write the report of a configuration from its tables and figures; return its file.

    Raises
    ------
    UserError
        If a table is missing or damaged.
    """
    from smedit.report.page import write_page

    folder = Path(config["results_dir"])
    check_sums(folder / "tables.sha256", TABLES)
    out = folder / "report.html"
    write_page(config, out)
    return out
