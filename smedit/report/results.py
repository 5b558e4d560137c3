"""The result files of a plan, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smedit.errors import UserError
from smedit.plan.plan import Plan
from smedit.plan.settings import Measurement, complete, declared
from smedit.store.files import refuse
from smedit.store.results import read_result, result_with

Result = Mapping[str, Any]


def read_runs(plan: Plan, folder: Path, names: Iterable[str]) -> dict[str, Result]:
    """Name of a run → its result.

    Raises
    ------
    UserError
        If results are missing, damaged or of other settings; names all of them.
    """
    results: dict[str, Result] = {}
    problems = []
    for name in names:
        path = folder / "runs" / f"{name}.json"
        try:
            result = read_result(path)
            if result.get("identity") != plan.runs[name].identity:
                refuse(path, "the result of other settings than its name stands for")
            results[name] = result
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return results


def read_chosen(plan: Plan, folder: Path) -> dict[str, dict[str, Any]]:
    """``SEARCH MODEL`` → variant → chosen values; see `Plan.resolved`."""
    return {
        f"{name} {model}": result_with("chosen", folder / f"chosen/{name}_{model}.json")["chosen"]
        for name, model in plan.searches
    }


def check_chosen(
    plan: Plan,
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    results: Mapping[str, Result],
) -> None:
    """Refuse a result that was made with other values than a search has chosen by now."""
    for row in rows:
        chosen = plan.runs[row["run"]].chosen
        used = results[row["run"]]["settings"]
        for name in chosen.names if chosen else ():
            if name in used and used[name] != row[name]:
                path = folder / "runs" / f"{row['run']}.json"
                refuse(path, f"made with {name} {used[name]}, not {row[name]}")


def evaluation_of(result: Result, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The evaluation of a result that a row of the plan asks for.

    Parameters
    ----------
    result
        A run's.
    values
        The fields of `Measurement`, among others.

    Raises
    ------
    UserError
        If it has none.
    """
    wanted = {name: values[name] for name in declared(Measurement)}
    for evaluation in result["evaluations"]:
        if complete(evaluation["measurement"], Measurement) == wanted:
            return evaluation
    raise UserError(f"a run was not measured as {wanted}; run the same command again")
