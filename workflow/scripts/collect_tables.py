"""Result files of a configuration → the tidy tables in ``results/``. Never imports torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from smedit.errors import UserError, with_status
from smedit.methods import load_method, variant_name
from smedit.plan.grid import (
    CELL_COLUMNS,
    TUNED,
    cell_path,
    experiment_cells,
    grid_cells,
    tuning_cells,
)
from smedit.plan.job_settings import cell_job, tuning_job
from smedit.plan.tuning import chosen_values, tuning_table
from smedit.store.files import refuse, replacing
from smedit.store.results import joined, read_result
from smedit.store.sums import write_sums

CONFIDENCE = 0.95
RESAMPLES = 2000

Result = Mapping[str, Any]

INTERVAL = ["standard_error", "ci_low", "ci_high", "n_rows", "n_requests"]
MACHINE = ["rank", "n_blocks", "device", "precision", "threads"]
SETTINGS = [
    *("variant", *sorted(CELL_COLUMNS)),
    *("loc_coef", "lr", "max_grad_norm", "meta_lr", "minibatch", "reg_coef"),
    *("split", "eval_edits", *MACHINE),
]
"""Every setting of a cell; see `settings_of`."""

COLUMNS = {
    "scores": [*SETTINGS, "diverged", "stage", "metric", "score", "value", *INTERVAL],
    "gains": [*CELL_COLUMNS, "metric", "score", "gain", *INTERVAL],
    "timings": [*SETTINGS, "phase", "per", "seconds", "n"],
    "memory": [*SETTINGS, "until", "peak_mb"],
    "training": [
        *(*CELL_COLUMNS, "batch", "bp_step"),
        *("edit_loss", "locality_loss", "gradient_norm", "shift_norm"),
    ],
}
"""Table → its columns. Those of experiments and search are declared where they are made."""


def table_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A table that has its columns also without rows; a row without one of them is empty there.

    Raises
    ------
    ValueError
        If a row has another column, which would be lost.
    """
    rows = list(rows)
    unknown = sorted({name for row in rows for name in row} - set(columns))
    if unknown:
        raise ValueError(f"the column {unknown[0]!r} is not declared")
    return pd.DataFrame(rows, columns=list(columns))


def read_results(
    folder: Path,
    cells: pd.DataFrame,
    job_of: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    chosen: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[Result]:
    """Read the result of every cell; each must be that of the job which its place stands for.

    Parameters
    ----------
    folder, cells
        Where the results lie, and the cells that are wanted.
    job_of
        A cell's job, before a search's choice is put in.
    chosen
        Model → method → values that a search chose; see `values_by_model`.

    Raises
    ------
    UserError
        If results are missing, damaged, of other settings or of other values than were chosen; it
        names all of them.
    """
    results, problems = [], []
    for cell in cells.to_dict("records"):
        path, job = folder / f"{cell_path(cell)}.json", job_of(cell)
        try:
            result = read_result(path, job)
            values = chosen.get(cell["model"], {}).get(cell["method"], {})
            _check_values(path, result, {**job["hyperparameters"], **values})
            results.append(result)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return results


def _check_values(path: Path, result: Result, values: Mapping[str, Any]) -> None:
    """Refuse a result that was made with other hyperparameters than these."""
    used = result["settings"]
    other = [
        f"{name} {used.get(name)}, not {v}" for name, v in values.items() if used.get(name) != v
    ]
    if other:
        refuse(path, f"made with {', '.join(other)}")


def values_by_model(
    searched: pd.DataFrame, tuned: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Model → method → chosen values, from the table of a search."""
    return {model: chosen_values(part, tuned) for model, part in searched.groupby("model")}


def settings_of(result: Result) -> dict[str, Any]:
    """Every setting of a result as columns, the cell's own first; empty if unused."""
    settings = result["settings"]
    method = load_method(settings["method"])
    size = {"rank": method.rank, "n_blocks": method.n_blocks}
    variant = variant_name(settings["method"], settings["bp_steps"], settings["locality"])
    size = {name: value for name, value in size.items() if name not in settings}
    columns = joined({"variant": variant}, settings, size, result["environment"])
    unused = method.without_effect(settings["locality"])
    return {name: None if name in unused else value for name, value in columns.items()}


def mean_with_interval(rows: list[list[float]]) -> dict[str, float]:
    """Mean over rows in percent, with its uncertainty over requests.

    Parameters
    ----------
    rows
        The row values of each request, in [0, 1]. A request without any counts for nothing.

    Returns
    -------
    dict
        ``value``, ``standard_error``, ``ci_low`` and ``ci_high`` (95 %, percentile bootstrap over
        requests), all in percent, ``n_rows`` and ``n_requests``.
    """
    rows = [values for values in rows if values]
    sums = np.array([sum(r) for r in rows])
    counts = np.array([len(r) for r in rows])
    return {
        "value": 100 * sums.sum() / counts.sum() if rows else float("nan"),
        **interval((sums, counts), _percent),
        "n_rows": int(counts.sum()),
        "n_requests": len(rows),
    }


def _percent(sums: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    return 100 * sums.sum(axis) / counts.sum(axis)


def interval(sample: tuple[np.ndarray, ...], statistic: Callable) -> dict[str, float]:
    """Standard error and percentile interval of a statistic of paired samples, by bootstrap."""
    if len(sample[0]) < 2:  # one request has no spread
        return dict.fromkeys(("standard_error", "ci_low", "ci_high"), float("nan"))
    drawn = bootstrap(
        sample,
        statistic,
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return {
        "standard_error": drawn.standard_error,
        "ci_low": drawn.confidence_interval.low,
        "ci_high": drawn.confidence_interval.high,
    }


def perplexity(losses: list[tuple[float, int]]) -> dict[str, float]:
    """exp(mean loss per token), with its uncertainty over paragraphs."""
    sums, counts = np.array(losses, dtype=float).T

    def statistic(s: np.ndarray, c: np.ndarray, axis: int) -> np.ndarray:
        return np.exp(s.sum(axis) / c.sum(axis))

    with np.errstate(over="ignore"):  # a broken model's may be beyond any number
        value, bounds = float(statistic(sums, counts, 0)), interval((sums, counts), statistic)
    return {
        "value": value,
        **bounds,
        "n_rows": int(counts.sum()),
        "n_requests": len(losses),
    }


def scores_table(results: Iterable[Result]) -> pd.DataFrame:
    """One row per cell, stage (0 before editing, s after step s), metric and score.

    The perplexity is that of the held-out text: of the unedited model, and after the last step on
    the first batch; its rows are tokens, its requests paragraphs.

    A cell that diverged has the rows before editing alone, and ``diverged`` says why; else that is
    empty.
    """
    rows = (
        {**settings_of(result), "diverged": result.get("diverged"), **row}
        for result in results
        for row in _score_rows(result)
    )
    return table_of(rows, COLUMNS["scores"])


def _score_rows(result: Result) -> Iterator[dict[str, Any]]:
    for entry in result["scores"]:
        named = {name: entry[name] for name in ("stage", "metric", "score")}
        yield named | mean_with_interval(entry["rows"])
    for stage, losses in result.get("held_out", {}).items():
        named = {"stage": int(stage), "metric": "perplexity", "score": "perplexity"}
        yield named | perplexity(losses)


def gains_table(results: Iterable[Result]) -> pd.DataFrame:
    """What MBPS adds: after the last step, the 2-step cell minus the 1-step cell, same requests.

    Cells are paired when they differ in ``bp_steps`` and in the ``adam_repeats`` that follow it; a
    cell that diverged has no last step.
    """
    finished = (r for r in results if not r.get("diverged"))
    index = {tuple(r["settings"][name] for name in CELL_COLUMNS): r for r in finished}
    gains = []
    for result in index.values():
        settings = result["settings"]
        if settings["bp_steps"] != 2 or settings["adam_repeats"] not in (1, 2):
            continue
        single = {**settings, "bp_steps": 1, "adam_repeats": 1}
        other = index.get(tuple(single[name] for name in CELL_COLUMNS))
        if other is not None:
            gains += _paired_gains(result, other)
    return table_of(gains, COLUMNS["gains"])


def _paired_gains(double: Result, single: Result) -> list[dict[str, Any]]:
    rows = []
    after_one = {(e["metric"], e["score"]): e for e in single["scores"] if e["stage"] == 1}
    for entry in double["scores"]:
        if entry["stage"] != 2:
            continue
        other = after_one[entry["metric"], entry["score"]]
        rows.append(
            {
                **{name: double["settings"][name] for name in CELL_COLUMNS},
                **{name: entry[name] for name in ("metric", "score")},
                **paired_gain(entry["rows"], other["rows"]),
            }
        )
    return rows


def paired_gain(ours: list[list[float]], theirs: list[list[float]]) -> dict[str, float]:
    """How much higher the first scores are, in percentage points, paired by request.

    Parameters
    ----------
    ours, theirs
        The row values, in [0, 1], of the same requests. One without any counts for nothing.

    Returns
    -------
    dict
        ``gain`` with its uncertainty over requests, as in `mean_with_interval`.
    """
    pairs = [pair for pair in zip(ours, theirs, strict=True) if pair[0]]
    counts = np.array([len(r) for r, _ in pairs])
    difference = np.array([sum(r) for r, _ in pairs]) - [sum(r) for _, r in pairs]
    return {
        "gain": float(_percent(difference, counts, 0)),
        **interval((difference, counts), _percent),
        "n_rows": int(counts.sum()),
        "n_requests": len(counts),
    }


def timings_table(results: Iterable[Result]) -> pd.DataFrame:
    """Seconds per phase of a training step (mean over steps), and per edit batch and job.

    ``per`` says what the seconds are for: ``training step``, ``edit batch`` (editing and scoring
    n_edits requests, all steps) or ``job`` (loading; all of meta-training).
    """
    rows = []
    for result in results:
        settings = settings_of(result)
        phases = {phase for step in result["training"] for phase in step["seconds"]}
        for phase in sorted(phases):
            values = [step["seconds"].get(phase, 0.0) for step in result["training"]]
            timing = {"phase": phase, "per": "training step", "seconds": float(np.mean(values))}
            rows.append({**settings, **timing, "n": len(values)})
        for phase, seconds in result["seconds"].items():
            per = "edit batch" if phase in ("edit", "score") else "job"
            n = settings["eval_edits"] // settings["n_edits"] if per == "edit batch" else 1
            rows.append({**settings, "phase": phase, "per": per, "seconds": seconds, "n": n})
    return table_of(rows, COLUMNS["timings"])


def training_table(results: Iterable[Result]) -> pd.DataFrame:
    """The training curve: losses, gradient norm and shift norm of every training step."""
    names = ("batch", "bp_step", "edit_loss", "locality_loss", "gradient_norm")
    rows = (
        {
            **{name: result["settings"][name] for name in CELL_COLUMNS},
            **{name: step[name] for name in names},
            "shift_norm": float(np.linalg.norm(list(step["shift_norms"].values()))),
        }
        for result in results
        for step in result["training"]
    )
    return table_of(rows, COLUMNS["training"])


def memory_table(results: Iterable[Result]) -> pd.DataFrame:
    """Peak memory in MB up to the end of loading, training and evaluation."""
    rows = (
        {**settings_of(result), "until": until, "peak_mb": peak}
        for result in results
        for until, peak in result["memory_mb"].items()
    )
    return table_of(rows, COLUMNS["memory"])


def write_tables(tables: Mapping[str, pd.DataFrame], sums: Path) -> None:
    """Write tables as CSV beside a file of their checksums; each is complete or not there."""
    files = [sums.with_name(f"{name}.csv") for name in tables]
    for file, table in zip(files, tables.values(), strict=True):
        with replacing(file) as part:
            table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")
    write_sums(sums, files)


def collect(config: Mapping[str, Any], out: Path) -> None:
    """Read all results below a folder and write the tables into it.

    Raises
    ------
    UserError
        If a result is missing or damaged, or a table cannot be written.
    """
    points = read_results(out / "tuning", tuning_cells(config), partial(tuning_job, config), {})
    searched = tuning_table(points)
    chosen = values_by_model(searched, TUNED)
    results = read_results(out / "cells", grid_cells(config), partial(cell_job, config), chosen)
    tables = {
        "scores": scores_table(results),
        "gains": gains_table(results),
        "timings": timings_table(results),
        "memory": memory_table(results),
        "training": training_table(results),
        "experiments": experiment_cells(config),
        "tuning": searched,
    }
    write_tables(tables, out / "tables.sha256")


@with_status
def main(collect: Callable[[Mapping[str, Any], Path], None]) -> None:
    """Collect what the command line names."""
    parser = argparse.ArgumentParser(description="Result files → tables.")
    parser.add_argument("--config", type=json.loads, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    collect(options.config, options.out)


if __name__ == "__main__":
    sys.exit(main(collect))
