"""Tables and figures → one HTML page that holds all it needs: verdicts first."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from smedit.plan.plan import Row, make_plan
from smedit.report.figures import CAPTIONS
from smedit.report.metrics import METRICS, SCORES
from smedit.report.page.grids import BESTS, Grid, grid
from smedit.report.page.verdicts import HEIGHT, RANGES, WIDTH, verdicts
from smedit.report.sides import rules
from smedit.store.files import replacing

FIRST_KINDS = ("trade_off", "beside", "curve", "retention", "comparison")
"""Which of an experiment's figures says most; others follow."""

FIRST_FIGURES = 4
"""How many figures stand on top: one of each of the first experiments that ask a question."""

SHOWN = {
    "claims": "The claims, with both recipes",
    "primary": "Primary comparisons: sign flips over setting × seed, Holm's adjustment",
    "at_budgets": "The best within a budget of harm, by variant",
    "chosen": "What the searches tried, and chose",
}
"""Table → its heading; those of an experiment stand with it."""


def write_page(config: Mapping[str, Any], out: Path) -> None:
    """Write the report on a configuration, from its tables and figures.

    Parameters
    ----------
    config
        The configuration, completed.
    out
        The file to write.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    results, figures = Path(config["results_dir"]), Path(config["figures_dir"])
    plan = make_plan(config)
    tables = {name: pd.read_csv(results / f"{name}.csv") for name in ("summary", *SHOWN)}
    pictures = pd.read_csv(results / CAPTIONS, keep_default_na=False)
    provenance = results / "provenance.json"
    experiments = [
        {
            "name": name,
            "question": config["experiments"][name].get("question", ""),
            "figures": _figures(pictures[pictures.experiment == name], figures),
            "table": grid("summary", _of(tables["summary"], name), BESTS),
        }
        for name in dict.fromkeys(r.asked.experiment for r in plan.rows if _is_reported(r))
    ]
    asking = [each for each in experiments if each["question"] and each["figures"]]
    environment = Environment(
        loader=PackageLoader("smedit.report.page", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = environment.get_template("page.html.j2").render(
        name=results.name,
        models=list(plan.models),
        datasets=list(plan.datasets),
        measured=_places(tables["summary"]),
        done=int(pd.read_csv(results / "runs.csv").whole.sum()),
        runs=len(plan.runs),
        verdicts=verdicts(tables["claims"]),
        counts=tables["claims"].verdict.value_counts().to_dict(),
        width=WIDTH,
        height=HEIGHT,
        ranges=RANGES,
        least_seeds=rules()["least_seeds"],
        first=[each["figures"][0] | {"of": each} for each in asking[:FIRST_FIGURES]],
        experiments=experiments,
        tables=[_table(name, heading, tables[name]) for name, heading in SHOWN.items()],
        words={**METRICS, **SCORES},
        provenance=json.loads(provenance.read_text("utf-8")) if provenance.is_file() else None,
        style=_own("page.css"),
        script=_own("page.js"),
    )
    with replacing(out) as part:
        part.write_text(text, encoding="utf-8")


def _is_reported(row: Row) -> bool:
    return row.asked.measurement.rows == "eval"


def _places(summary: pd.DataFrame) -> str:
    """Which models are measured on which datasets, in words."""
    of_model = summary.groupby("model", sort=False).dataset.unique()
    return "; ".join(f"{model} on {' and '.join(names)}" for model, names in of_model.items())


def _own(name: str) -> str:
    return files("smedit.report.page").joinpath(name).read_text(encoding="utf-8")


def _of(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    return table[table.experiment == experiment]


def _table(name: str, heading: str, table: pd.DataFrame) -> dict[str, Any]:
    shown: Grid = grid(name, table, {})
    return {"name": name, "heading": heading, "grid": shown}


def _figures(rows: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """The figures of an experiment that could be drawn, those that say most first."""
    order = {kind: at for at, kind in enumerate(FIRST_KINDS)}
    found = [row for row in rows.to_dict("records") if str(row["drawn"]).lower() == "true"]
    found.sort(key=lambda row: order.get(row["kind"], len(order)))
    return [{**row, "data": _inlined(folder / f"{row['figure']}.svg")} for row in found]


def _inlined(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
