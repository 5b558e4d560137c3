"""Write what README.md and docs/results.md quote of the reference run, from its tables.

What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is replaced; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from smedit.errors import with_status
from smedit.plan.config import completed
from smedit.plan.config_files import read_file
from smedit.plan.plan import make_plan
from smedit.report.page.verdicts import verdicts
from smedit.report.sides import rules

SUITE = Path(__file__).resolve().parents[2]
RESULTS = SUITE / "results/reference"
PAGES = ("README.md", "docs/results.md")
CONFIG = SUITE / "config/reference.yaml"


def progress() -> str:
    """How much of the study is done."""
    done = len(pd.read_csv(RESULTS / "runs.csv"))
    planned = len(make_plan(completed(read_file(CONFIG), CONFIG.stem)).runs)
    if done == planned:
        return f"All {planned} runs are done."
    return f"{done} of {planned} runs are done; what follows is what they show so far."


def claims(tested_only: bool) -> str:
    """The verdicts as a table."""
    lines = ["| claim | verdict | as published | step sizes chosen |", "| --- | --- | --- | --- |"]
    for each in verdicts(pd.read_csv(RESULTS / "claims.csv")):
        if tested_only and not each["recipes"]:
            continue
        cells = [_measured(each["recipes"].get(recipe)) for recipe in ("published", "chosen")]
        alone = f" ({each['by_model']})" if each["by_model"] else ""
        lines.append(f"| {each['claim']} | **{each['verdict']}**{alone} | {' | '.join(cells)} |")
    return "\n".join(lines)


def at_budget() -> str:
    """The best within the primary budget of harm, by the primary objective."""
    budget, objective = rules()["budgets"]["primary"], rules()["objective"]["primary"]
    table = pd.read_csv(RESULTS / "at_budgets.csv")
    table = table[(table.budget == budget) & (table.objective == objective)]
    table = table[table.experiment == "trade_off_choice"]
    lines = [
        f"| model, dataset | variant | training batches | step size | {objective} | harm | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table.sort_values(["model", "dataset", "train_batches"]).to_dict("records"):
        size = re.search(r"edit_lr (\S+?)(?:,|$)", row["chosen"])
        cells = [
            f"{row['model']}, {row['dataset']}",
            row["variant"],
            f"{row['train_batches']}",
            size[1] if size else row["chosen"],
            f"{row['value']:.0f} ({row['ci_low']:.0f} to {row['ci_high']:.0f})",
            f"{row['harm']:.2f} ({row['harm_low']:.2f} to {row['harm_high']:.2f})",
            f"{row['seeds']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured(recipe: dict[str, Any] | None) -> str:
    if recipe is None:
        return ""
    sides = "; ".join(f"{number} {of}".strip() for number, of in recipe["numbers"])
    return f"{sides}: {recipe['difference']}"


BLOCKS: dict[str, Callable[[], str]] = {
    "progress": progress,
    "tested claims": lambda: claims(tested_only=True),
    "within the budget": at_budget,
    "claims": lambda: claims(tested_only=False),
}
"""Name → what stands there."""


def quoted(page: str) -> str:
    """A page with its blocks as the tables have them now."""
    for name, block in BLOCKS.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
        if start in page:
            text = f"{start}\n{block()}\n{end}"
            page = pattern.sub(lambda _, text=text: text, page)
    return page


@with_status
def main() -> None:
    """Rewrite the pages."""
    for name in PAGES:
        path = SUITE / name
        path.write_text(quoted(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
