"""The result files of a plan, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smedit.errors import UserError
from smedit.plan.plan import Plan
from smedit.plan.settings import Measurement, complete, declared
from smedit.store.files import refuse
from smedit.store.records import Evaluated
from smedit.store.results import checksum, read_result

Result = Mapping[str, Any]


def read_runs(
    plan: Plan, folder: Path, names: Iterable[str], all_done: bool = True
) -> dict[str, Result]:
    """Name of a run → its result.

    Parameters
    ----------
    plan, folder, names
        The runs that are wanted, and the folder of the results.
    all_done
        Whether each must be there; else those that are not are left out.

    Raises
    ------
    UserError
        If results are missing, damaged or of other settings; names all of them.
    """
    results: dict[str, Result] = {}
    problems = []
    for name in names:
        path = folder / "runs" / f"{name}.json"
        if not (all_done or path.exists()):
            continue
        try:
            result = read_result(path)
            if result.get("identity") != plan.runs[name].identity:
                refuse(path, "the result of other settings than its name stands for")
            results[name] = result
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    _check_rows(folder, results)
    return results


def _check_rows(folder: Path, results: Mapping[str, Result]) -> None:
    """Results of one dataset and seed that were measured on other rows do not go together."""
    known: dict[tuple[Any, ...], tuple[str, str]] = {}
    for name, result in results.items():
        seed = result["settings"]["seed"]
        for split, rows in result.get("splits", {}).items():  # older results do not say
            key = (checksum(result["dataset_spec"]), seed, split)
            sha256, other = known.setdefault(key, (rows["sha256"], name))
            if rows["sha256"] != sha256:
                dataset = result["settings"]["dataset"]
                raise UserError(
                    f"{folder / 'runs'}: {other} and {name} were measured on different {split} "
                    f"rows of {dataset}; delete the older one and those like it, and run again"
                )


def measured_rows(
    plan: Plan,
    folder: Path,
    chosen: Mapping[str, Mapping[str, Any]],
    within: Mapping[str, Mapping[str, bool]],
    results: Mapping[str, Result],
    all_done: bool = True,
) -> list[dict[str, Any]]:
    """What was asked for (see `Plan.resolved`), and is there.

    Each row has ``within_bound``, too: whether the values that a search chose for it keep its
    bound and are better than the unedited model; None where none did.

    Parameters
    ----------
    plan, folder, results
        The plan, the folder of its results, and these by name.
    chosen, within
        ``SEARCH MODEL`` → variant → what was chosen, and whether it keeps the bound.
    all_done
        Whether all must be there.

    Raises
    ------
    UserError
        If a result was made with other values than a search has chosen by now; or where all must
        be done, if one lacks what is asked of it.
    """
    rows = []
    for row, planned in zip(plan.resolved(chosen), plan.rows, strict=True):
        result = results.get(row["run"])
        if not all_done and not has_evaluation(result, row):
            continue
        choice = planned.chosen
        of_search = within.get(f"{choice.search} {row['model']}", {}) if choice else {}
        rows.append(row | {"within_bound": of_search.get(choice.variant) if choice else None})
        used = results[row["run"]]["settings"]
        for name in choice.names if choice else ():
            if name in used and used[name] != row[name]:
                path = folder / "runs" / f"{row['run']}.json"
                refuse(path, f"made with {name} {used[name]}, not {row[name]}")
    return rows


def evaluation_of(result: Result, values: Mapping[str, Any]) -> Evaluated:
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
    found = _evaluation(result, values)
    if found is None:
        wanted = {name: values[name] for name in declared(Measurement)}
        raise UserError(f"a run was not measured as {wanted}; run the same command again")
    return found


def has_evaluation(result: Result | None, values: Mapping[str, Any]) -> bool:
    """Whether there is such a result, with such an evaluation."""
    return result is not None and _evaluation(result, values) is not None


def _evaluation(result: Result, values: Mapping[str, Any]) -> Evaluated | None:
    wanted = {name: values[name] for name in declared(Measurement)}
    for evaluation in result["evaluations"]:
        if complete(evaluation["measurement"], Measurement) == wanted:
            return evaluation
    return None
