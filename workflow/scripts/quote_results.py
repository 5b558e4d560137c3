"""Write what the suite takes from the reference run's tables; a test compares.

README.md and docs/results.md: what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
smedit/editing/studied.yaml: the values that its search chose for whole methods.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from smedit.editing.studied import FILE
from smedit.errors import with_status
from smedit.methods import known_methods
from smedit.plan.config import completed
from smedit.plan.config_files import read_file
from smedit.plan.plan import Plan, make_plan
from smedit.report.bound import best_within
from smedit.report.page.verdicts import verdicts
from smedit.report.sides import rules

SUITE = Path(__file__).resolve().parents[2]
RESULTS = SUITE / "results/reference"
PAGES = ("README.md", "docs/results.md")
CONFIG = SUITE / "config/reference.yaml"
STUDIED = SUITE / "smedit/editing" / FILE


def progress() -> str:
    """How much of the study is done."""
    runs, plan = pd.read_csv(RESULTS / "runs.csv"), _plan()
    planned, done = len(plan.runs), int(runs.whole.sum())
    if done == planned:
        return f"All {planned} runs are done."
    begun = "; ".join(_begun(model, runs[runs.model == model].whole) for model in plan.models)
    return f"{done} of {planned} runs are complete ({begun}). So far they show this."


def _begun(model: str, whole: pd.Series) -> str:
    if whole.empty:
        return f"{model}: none"
    rest = int((~whole).sum())
    return f"{model}: {int(whole.sum())}{f', and {rest} more in part' if rest else ''}"


def questions() -> str:
    """What each experiment asks, and how much of it is measured."""
    asked = pd.DataFrame(_plan().resolved())
    asked = asked[asked["rows"] == "eval"].groupby("experiment", sort=False).size()
    seeds = pd.read_csv(RESULTS / "summary.csv").groupby("experiment").seeds.sum()
    texts = read_file(CONFIG)["experiments"]
    lines = ["| experiment | what it asks | measured |", "| --- | --- | --- |"]
    for name, n in asked.items():
        done = int(seeds.get(name, 0))
        share = f"{done / n:.0%} of {n} measurements"
        lines.append(f"| `{name}` | {texts[name].get('question', '')} | {share} |")
    return "\n".join(lines)


def _plan() -> Plan:
    return make_plan(completed(read_file(CONFIG), CONFIG.stem))


def verdicts_in_short() -> str:
    """The claims with their verdicts and differences, what is settled first."""
    lines = []
    for each in verdicts(pd.read_csv(RESULTS / "claims.csv")):
        cells = [_difference(each, recipe) for recipe in RECIPES]
        place = ("not tested" in each["verdict"], "not settled" in each["verdict"], not any(cells))
        row = [each["claim"], _verdict(each), each["quoted"], *cells]
        lines.append((place, f"| {' | '.join(row)} |"))
    ordered = [line for _, line in sorted(lines, key=lambda pair: pair[0])]
    head = ["claim", "verdict", "the paper's own", *RECIPES.values()]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *ordered])


def _difference(claim: dict[str, Any], recipe: str) -> str:
    """What a recipe's sides differ by; empty if it is not measured."""
    found = claim["recipes"].get(recipe)
    if found is None:
        return ""
    less = f"{claim['less']} " if claim["kept"] else ""
    return f"{less}{found['difference']} {found['unit']}"


def _verdict(each: dict[str, Any]) -> str:
    alone = f" ({each['by_model']})" if each["by_model"] else ""
    return f"**{each['verdict']}**{alone}"


def claims() -> str:
    """The verdicts as a table."""
    rows = []
    for each in verdicts(pd.read_csv(RESULTS / "claims.csv")):
        row = {
            "claim": each["claim"],
            "verdict": _verdict(each),
            "the paper's own": each["quoted"],
        }
        for recipe, heading in RECIPES.items():
            row[heading] = _measured(each["recipes"].get(recipe), each["score"], each["less"])
        rows.append(row)
    used = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [used, ["---"] * len(used), *([row[name] for name in used] for row in rows)]
    return _table(lines)


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


def fair(experiment: str) -> str:
    """What each variant reaches with values of its own."""
    table = pd.read_csv(RESULTS / "summary.csv")
    table = table[table.experiment == experiment]
    if table.empty:
        return NOT_YET
    datasets = list(table.dataset.unique())
    scores = ("generalization", "specificity", "agreement", "harm")
    head = ["model", "variant", *(f"{d}: {score}" for d in datasets for score in scores), "seeds"]
    lines = [head, ["---"] * len(head)]
    for (model, variant), part in table.groupby(["model", "variant"], sort=False):
        of = part.set_index("dataset")
        if model not in (line[0] for line in lines):
            lines.append(
                [model, "unedited", *(_unedited(of, d, s) for d in datasets for s in scores), ""]
            )
        cells = [
            _of(of.loc[d], score) if d in of.index else "" for d in datasets for score in scores
        ]
        lines.append([model, variant, *cells, f"{int(part.seeds.min())}"])
    return _table(lines)


def strengths() -> str:
    """What each weight of the KL and of the norm reaches."""
    table = pd.read_csv(RESULTS / "summary.csv")
    table = table[table.experiment == "strengths"]
    scores = ("generalization", "agreement", "harm")
    lines = [["locality loss", "weight", "step size in training", *scores, "seeds"]]
    lines.append(["---"] * len(lines[0]))
    for _, row in table.iterrows():
        loss, weight = ("KL", row.loc_coef) if row.locality == "kl" else ("norm", row.reg_coef)
        values = [_of(row, score) for score in scores]
        lines.append([loss, f"{weight:g}", f"{row.lr:g}", *values, f"{row.seeds:g}"])
    return _table(lines)


def choices(search: str) -> str:
    """What a search chose, and what it would have within other bounds, on the rows it sees."""
    table = pd.read_csv(RESULTS / "chosen.csv", keep_default_na=False)
    table = table[table.search == search]
    if table.empty:
        return NOT_YET
    budgets = sorted([rules()["budgets"]["primary"], *rules()["budgets"]["others"]])
    head = ["model", "variant", "chosen", "at the edge", "unedited"]
    lines = [[*head, *(f"within {budget:g}" for budget in budgets)]]
    lines.append(["---"] * len(lines[0]))
    for (model, variant), part in table.groupby(["model", "variant"], sort=False):
        won = part[part.chosen].iloc[0]
        best = []
        for budget in budgets:
            place = best_within(part.objective.tolist(), part.harm.tolist(), budget)
            row = part.iloc[place]
            best.append(f"{row.objective:.0f} at {row.harm:z.2f}" if row.harm <= budget else "none")
        cells = [model, variant, won["values"], won.at_edge or "", f"{won.unedited:.0f}"]
        lines.append([*cells, *best])
    return _table(lines)


def beyond(search: str) -> str:
    """What lies between a search's values and beyond them, beside what it chose."""
    table = pd.read_csv(RESULTS / "chosen.csv")
    more = table[table.search == f"{search}_beyond"]
    chosen = table[(table.search == search) & table.chosen]
    lines = [["model", "variant", "values", "", "generalization", "harm"], ["---"] * 6]
    for (model, variant), part in more.groupby(["model", "variant"], sort=False):
        own = chosen[(chosen.model == model) & (chosen.variant == variant)].assign(of="chosen")
        for _, row in pd.concat([own, part.assign(of="beyond")]).iterrows():
            values = [row["values"], row.of, f"{row.objective:.0f}", f"{row.harm:.2f}"]
            lines.append([model, variant, *values])
    return _table(lines) if len(lines) > 2 else NOT_YET


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _of(row: pd.Series, score: str) -> str:
    digits = 2 if score == "harm" else 0
    value, low, high = (row[f"{score}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _unedited(rows: pd.DataFrame, dataset: str, score: str) -> str:
    """A score of the model as it was; it agrees with itself and harms nothing."""
    if score in ("agreement", "harm"):
        return {"agreement": "100", "harm": "0"}[score]
    return f"{rows.loc[dataset, f'unedited_{score}']:.0f}" if dataset in rows.index else ""


def studied() -> str:
    """Model → method → what the search chose within its bound, and from which runs."""
    table = pd.read_csv(RESULTS / "chosen.csv", keep_default_na=False)
    table = table[(table.search == SEARCH) & table.variant.isin(known_methods())]
    found: dict[str, dict[str, Any]] = {}
    for row in table[table.chosen & table.allowed].to_dict("records"):
        if row["objective"] > row["unedited"]:
            values = dict(pair.split() for pair in row["values"].split(", "))
            values.pop("edit_lr", None)  # it is chosen anew for a person's facts
            values = {name: float(value) for name, value in values.items()}
            of_model = found.setdefault(row["model"], {})
            of_model[row["variant"]] = {"values": values, "runs": row["runs"].split()}
    return HEAD + (yaml.safe_dump(found, sort_keys=False) if found else "")


def _measured(recipe: dict[str, Any] | None, score: str, less: str) -> str:
    if recipe is None:
        return ""
    if recipe["share"]:
        return f"{recipe['difference'].lstrip('+')} % {score}, {recipe['counts']}"
    sides = "; ".join(f"{of}: {number}" for number, of in recipe["numbers"])
    return f"{sides}. {less.capitalize()} {recipe['difference']}; {recipe['counts']}"


RECIPES = {
    "published": "measured, with the paper's step sizes",
    "chosen": "measured, with step sizes chosen",
}
"""Recipe → heading of its column."""

NOT_YET = "(not measured yet)"

SEARCH, ONE_BATCH = "search", "search_one_batch"
"""The study's searches in batches, after five training batches and after one."""

HEAD = "# Written by workflow/scripts/quote_results.py from results/reference/chosen.csv.\n"

BLOCKS: dict[str, Callable[[], str]] = {
    "progress": progress,
    "questions": questions,
    "verdicts": verdicts_in_short,
    "fair": lambda: fair("fair"),
    "fair, one batch": lambda: fair("fair_one_batch"),
    "strengths": strengths,
    "choices": lambda: choices(SEARCH),
    "choices, one batch": lambda: choices(ONE_BATCH),
    "beyond": lambda: beyond(SEARCH),
    "beyond, one batch": lambda: beyond(ONE_BATCH),
    "within the budget": at_budget,
    "claims": claims,
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
    STUDIED.write_text(studied(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
