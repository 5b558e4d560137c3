"""Results → the tidy tables in ``results/``. Each table is one decorated function."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from statistics import fmean, median
from typing import Any

import pandas as pd

from smedit.models.module_names import compact
from smedit.plan.settings import (
    Measurement,
    Settings,
    all_settings,
    complete,
    declared,
    without_effect,
)
from smedit.report import at_budget, choose, statistics
from smedit.report import claims as claims_module
from smedit.report.bound import in_words
from smedit.report.metrics import HEADLINE, is_headline
from smedit.report.results import Result, evaluation_of
from smedit.report.statistics import INTERVAL
from smedit.store.records import Evaluated, Point

log = logging.getLogger("smedit")

PLACE = ["experiment", "variant", *all_settings(), "run", "search", "within_bound"]
"""What every row of a table says of where it belongs."""


@dataclass
class Found:
    """What tables are made of.

    Attributes
    ----------
    rows
        What was asked for; see `smedit.plan.plan.Plan.resolved`.
    results
        Name of a run → its result.
    searches
        The table of every search.
    benchmark
        What ``make bench`` measured, if anything.
    asked
        All that is asked for, done or not; as ``rows``.
    """

    rows: Sequence[Mapping[str, Any]]
    results: Mapping[str, Result]
    searches: Sequence[pd.DataFrame] = ()
    benchmark: pd.DataFrame | None = None
    asked: Sequence[Mapping[str, Any]] = ()
    _scores: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    @cached_property
    def scores_table(self) -> pd.DataFrame:
        """The table of that name, for those that are made from it."""
        return make("scores", self)

    @cached_property
    def asked_table(self) -> pd.DataFrame:
        """All that is asked for, with the columns that say where a row belongs."""
        return pd.DataFrame([place({"within_bound": None, **row}) for row in self.asked])

    def of(self, row: Mapping[str, Any]) -> tuple[Result, Evaluated]:
        """The result and the evaluation of a row."""
        result = self.results[row["run"]]
        return result, evaluation_of(result, row)

    def scores(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of the scores table of a row that was asked for; computed once per evaluation.

        Several experiments may ask for one.
        """
        result, evaluation = self.of(row)
        key = row["run"], str(evaluation["measurement"])
        if key not in self._scores:
            n_edits, first = result["settings"]["n_edits"], evaluation["points"][0]
            ended = evaluation["diverged"] or {}
            batch = evaluation["measurement"]["protocol"] == "batch"
            self._scores[key] = [
                {
                    "diverged": None if batch and point["stage"] else ended.get("why"),
                    **{"stage": point["stage"], "batches": point["batches"]},
                    **each,
                }
                for point in evaluation["points"]
                for each in (
                    *_scores_at(point, first, n_edits, evaluation["measurement"]),
                    *(_generated(evaluation) if point is evaluation["points"][-1] else ()),
                )
            ]
        return self._scores[key]


TABLES: dict[str, tuple[list[str], Callable[[Found], Iterable[Mapping[str, Any]]]]] = {}
"""Table → its columns, and what gives its rows."""


def table(*columns: str) -> Callable:
    """Declare a table by the function that gives its rows; its name is the function's."""

    def register(rows: Callable[[Found], Iterable[Mapping[str, Any]]]) -> Callable:
        TABLES[rows.__name__] = (list(columns), rows)
        return rows

    return register


def make(name: str, found: Found) -> pd.DataFrame:
    """Make a table. It has its columns also without rows.

    Raises
    ------
    ValueError
        If a row has a column that is not declared, which would be lost.
    """
    columns, function = TABLES[name]
    rows = list(function(found))
    unknown = sorted({key for row in rows for key in row} - set(columns))
    if unknown:
        raise ValueError(f"{name}: the column {unknown[0]!r} is not declared")
    return pd.DataFrame(rows, columns=columns)


def place(row: Mapping[str, Any]) -> dict[str, Any]:
    """Where a row belongs; settings that have no effect are empty."""
    values = {name: row[name] for name in PLACE}
    if values["edit_lr"] is None:
        values["edit_lr"] = "trained"
    values["edit_modules"] = compact(row["edit_modules"])
    return values | dict.fromkeys(without_effect(row))


@table(*PLACE, "diverged", "stage", "batches", "scope", "metric", "score", "value", *INTERVAL)
def scores(found: Found) -> Iterator[Mapping[str, Any]]:
    """One row per measurement, point, scope, metric and score.

    ``stage``: 0 before editing, s after backpropagation step s. ``batches``: how many were edited
    by then. Scopes: ``all`` requests edited so far (before editing: all there are); in sequence
    also the ``first quarter`` and the ``latest batch``; ``sample``, those that were generated for;
    ``text`` for harm, drift and perplexity, ``batch 1`` and so on for the harm of each batch edited
    alone; ``weights`` for their change. ``diverged`` says why a measurement ended early; in batches
    it is empty at the steps before the one that diverged, which are whole.
    """
    for row in found.rows:
        for each in found.scores(row):
            yield place(row) | each


def _scores_at(
    point: Point,
    first: Point,
    n_edits: int,
    measurement: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    done = point["batches"]
    scopes = {"all": slice(None)}
    if measurement["protocol"] == "sequential":
        scopes["first quarter"] = slice(n_edits * -(-measurement["n_batches"] // 4))
        if done:
            scopes["latest batch"] = slice((done - 1) * n_edits, done * n_edits)
    for entry in point["scores"]:
        named = {"metric": entry["metric"], "score": entry["score"]}
        for scope, part in scopes.items():
            yield {"scope": scope, **named} | statistics.mean_with_interval(entry["rows"][part])
    nats = {
        "harm": statistics.harm(point["text"], first["text"][0]),
        "drift": statistics.drift(point["text"]),
    }
    for metric, values in nats.items():
        yield {"scope": "text", "metric": metric, "score": "nats"} | values
    for number, text in enumerate(point["text"], start=1) if len(point["text"]) > 1 else ():
        named = {"scope": f"batch {number}", "metric": "harm", "score": "nats"}
        yield named | statistics.harm([text], first["text"][0])
    if point["perplexity"]:
        named = {"scope": "text", "metric": "perplexity", "score": "perplexity"}
        yield named | statistics.perplexity(point["perplexity"])
    named = {"scope": "weights", "metric": "change", "score": "frobenius_norm"}
    yield named | {"value": point["change_norm"]}


def _generated(evaluation: Evaluated) -> Iterator[dict[str, Any]]:
    """Of the requests that were answered by greedy decoding, at the last point."""
    answers = evaluation["generated"]
    for score, key in (("generated", "answered"), ("stopped", "stopped")) if answers else ():
        rows = [[float(each[key])] for each in answers]
        named = {"scope": "sample", "metric": "efficacy", "score": score}
        yield named | statistics.mean_with_interval(rows)


@table(*PLACE, "gain_of", "metric", "score", "gain", *INTERVAL)
def gains(found: Found) -> Iterator[Mapping[str, Any]]:
    """What a second step adds, and the norm in place of KL: the last points, paired by request.

    Within an experiment, two variants are paired that differ in this one choice; in settings that
    were searched for each, and between losses in their strengths, they may differ, too. Where there
    are several such partners (an axis of strengths), there is no gain. One that diverged has no
    last point.
    """
    known: dict[Any, dict[Any, Mapping[str, Any]]] = {}
    for row in found.rows:
        measured = (row["run"], *(str(row[name]) for name in declared(Measurement)))
        for gain_of in LOOSE:
            known.setdefault((gain_of, _pair_key(row, gain_of)), {})[measured] = row
    for row in found.rows:
        for gain_of, change in _without(row):
            partners = known.get((gain_of, _pair_key({**row, **change}, gain_of)), {})
            if len(partners) != 1 or row["rows"] != "eval":
                continue
            (other,) = partners.values()
            (_, ours), (_, theirs) = found.of(row), found.of(other)
            if ours["diverged"] or theirs["diverged"]:
                continue
            before = {(e["metric"], e["score"]): e for e in theirs["points"][-1]["scores"]}
            for entry in ours["points"][-1]["scores"]:
                named = {name: entry[name] for name in ("metric", "score")}
                beside = before.get((entry["metric"], entry["score"]))
                if beside is None:  # made before there was such a score
                    continue
                gain = statistics.paired_gain(entry["rows"], beside["rows"])
                gain["gain"] = gain.pop("value")
                yield place(row) | {"gain_of": gain_of, **named, **gain}


SECOND_STEP, NORM_FOR_KL = "second step", "norm in place of KL"

LOOSE = {
    SECOND_STEP: {"method"},
    NORM_FOR_KL: {"method", "reg_coef", "loc_coef", "reg_power"},
}
"""Gain → in what else its sides may differ: a method is a name for its choices, and each locality
loss has strengths of its own."""


def _pair_key(row: Mapping[str, Any], gain_of: str) -> tuple[Any, ...]:
    idle, loose = without_effect(row), LOOSE[gain_of]
    if row["search"]:
        loose = loose | {name for name, said in all_settings().items() if said.searched}
    names = [name for name in all_settings() if name not in idle | loose]
    return row["experiment"], *((name, row[name]) for name in names)


def _without(row: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a variant may gain from, and what differs in the one that has all but this."""
    if row["bp_steps"] == row["edit_steps"] == 2:
        single = {"bp_steps": 1, "edit_steps": 1}
        if row["training"] == "in_batches" and row["adam_repeats"] == 2:
            single["adam_repeats"] = 1
        yield SECOND_STEP, single
    if row["locality"] == "norm" and row["training"] != "none":
        yield NORM_FOR_KL, {"locality": "kl"}


@table(*PLACE, "phase", "per", "seconds", "n")
def timings(found: Found) -> Iterator[Mapping[str, Any]]:
    """Seconds by phase; ``per`` says of what, ``n`` how many they are over.

    ``training step``: each phase of one, the median over batches, so that a pause counts for
    little; ``edited batch``: the mean of editing, scoring, the text and generation; ``run``:
    loading, and all of training.
    """
    for row in found.rows:
        result, evaluation = found.of(row)
        where, steps = place(row), result["training"]
        batches = [[s["seconds"] for s in same] for _, same in groupby(steps, itemgetter("batch"))]
        for phase in sorted({phase for step in steps for phase in step["seconds"]}):
            each = [fmean(s.get(phase, 0.0) for s in batch) for batch in batches]
            per = {"phase": phase, "per": "training step"}
            yield where | per | {"seconds": median(each), "n": len(steps)}
        done = evaluation["points"][-1]["batches"]
        for phase, spent in evaluation["seconds"].items() if done else ():
            per = {"phase": phase, "per": "edited batch"}
            yield where | per | {"seconds": spent / done, "n": done}
        for phase, spent in result["seconds"].items():
            yield where | {"phase": phase, "per": "run", "seconds": spent, "n": 1}


@table(*PLACE, "until", "batches", "memory_mb")
def memory(found: Found) -> Iterator[Mapping[str, Any]]:
    """Memory in MB: the peak until the end of loading, training and evaluation; in sequence, what
    the process holds at each point.
    """  # noqa: D205
    for row in found.rows:
        result, evaluation = found.of(row)
        for until, peak in result["memory_mb"].items():
            yield place(row) | {"until": until, "memory_mb": peak}
        for point in evaluation["points"]:
            if point["memory_mb"] is not None:
                here = {"until": "point", "batches": point["batches"]}
                yield place(row) | here | {"memory_mb": point["memory_mb"]}


@table(
    *("run", "step", "batch", "bp_step", "edit_loss", "locality_loss"),
    *("gradient_norm", "shift_norm"),
)
def training(found: Found) -> Iterator[Mapping[str, Any]]:
    """The training curve of every run: losses, and norms of gradient and shift, of every step.

    In sequence a step is a batch, and its gradient norm is that of all gradients so far in the
    pass, before the last clip.
    """
    for name in _runs(found):
        for number, step in enumerate(found.results[name]["training"], start=1):
            named = {key: value for key, value in step.items() if key != "seconds"}
            yield {"run": name, "step": number, **named}


@table(*choose.COLUMNS)
def chosen(found: Found) -> Iterator[Mapping[Any, Any]]:
    """Every point of every search, with its objective (percent), its harm, and whether it won."""
    for searched in found.searches:
        rows = searched.to_dict("records")
        # A variant without a network has no step size at edit time.
        tried = {(row["variant"], k) for row in rows for k, v in row["values"].items() if v}
        for row in rows:
            values = {k: v for k, v in row["values"].items() if (row["variant"], k) in tried}
            yield {**row, "values": in_words(values)}


RUN_SETTINGS = list(declared(Settings))


@table("run", *RUN_SETTINGS, "measurements", "whole", "seconds", "diverged", "identity", "engine")
def runs(found: Found) -> Iterator[Mapping[str, Any]]:
    """The index of all runs: what each was, how long it took, and by which engine's sources.

    ``whole``: whether it was measured as often as is asked.
    """
    asked, measured = (Counter(row["run"] for row in rows) for rows in (found.asked, found.rows))
    engines = {found.results[name]["engine"] for name in _runs(found)}
    if len(engines) > 1:
        log.warning(
            "these results were made by %d versions of the engine (column engine of runs.csv)",
            len(engines),
        )
    for name in _runs(found):
        result = found.results[name]
        settings = {
            **complete(result["settings"], Settings),
            "edit_modules": compact(result["settings"]["edit_modules"]),
        }
        yield {
            "run": name,
            **{key: settings[key] for key in RUN_SETTINGS},
            "measurements": len(result["evaluations"]),
            "whole": measured[name] >= asked[name],
            "seconds": run_seconds(result),
            "diverged": result["diverged"],
            "identity": result["identity"],
            "engine": result["engine"],
        }


def run_seconds(result: Result) -> float:
    """Seconds of a run, but for those before it read its job."""
    measured = (sum(each["seconds"].values()) for each in result["evaluations"])
    return sum(result["seconds"].values()) + sum(measured)


def _runs(found: Found) -> list[str]:
    return list(dict.fromkeys(row["run"] for row in found.rows))


SUMMARY = [f"{name}{end}" for name in (*HEADLINE, "harm") for end in ("", "_low", "_high")]


@table(
    *PLACE[:2],
    *(name for name in all_settings() if name not in ("seed", "generate")),
    *("within_bound", "seeds", "requests", *SUMMARY, "harm_most", "drift"),
    *(f"unedited_{name}" for name in HEADLINE[:3]),
    *("seconds", "memory_mb", "diverged"),
)
def summary(found: Found) -> Iterator[Mapping[str, Any]]:
    """One row per protocol, model, dataset, variant and size, reported rows at the last point.

    Means over seeds, with t intervals over seeds from three on, both values of two, else intervals
    over requests (harm: paragraphs). ``harm_most`` is that of the batch, of any seed, that does the
    most. ``seconds`` are those of the whole run, ``memory_mb`` its
    peak; ``diverged`` counts the seeds that did, which have no last point and no part in the means.
    """
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in found.rows:
        if row["rows"] == "eval":
            key = {k: v for k, v in place(row).items() if k not in ("seed", "run", "generate")}
            groups.setdefault(str(key), {})[row["seed"]] = row  # once, however much it generates
    for rows in (list(group.values()) for group in groups.values()):
        of_seed = [found.scores(row) for row in rows]
        ended = [found.of(row)[1]["diverged"] is not None for row in rows]
        kept = [scores for scores, end in zip(of_seed, ended, strict=True) if not end]
        where = place(rows[0])
        values: dict[str, Any] = {key: where[key] for key in TABLES["summary"][0] if key in where}
        values |= {"seeds": len(rows), "diverged": sum(ended)}
        for name in (*HEADLINE, "harm"):
            values |= _over_seeds(name, [_last(name, scores) for scores in kept])
        values["harm_most"] = max((_most_harm(s) for s in kept), default=float("nan"))
        values["drift"] = statistics.over_seeds([_last("drift", s)["value"] for s in kept])[0]
        for name in HEADLINE[:3]:
            first = [_headline(name, scores, batches=0)["value"] for scores in of_seed]
            values[f"unedited_{name}"] = statistics.over_seeds(first)[0]
        values["requests"] = sum(
            _headline("efficacy", scores, batches=0)["n_resampled"] for scores in of_seed
        )
        made = [found.results[row["run"]] for row in rows]
        values["seconds"] = statistics.over_seeds([run_seconds(r) for r in made])[0]
        values["memory_mb"] = max(max(r["memory_mb"].values()) for r in made)
        yield values


def _over_seeds(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    mean, low, high = statistics.over_seeds([row["value"] for row in rows])
    if len(rows) == 1:
        low, high = rows[0]["ci_low"], rows[0]["ci_high"]
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _last(name: str, scores: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    last = scores[-1]
    return _headline(name, scores, last["batches"], last["stage"])


def _most_harm(scores: Sequence[Mapping[str, Any]]) -> float:
    """Of the batch that does the most harm, at the last point."""
    last = scores[-1]["batches"], scores[-1]["stage"]
    return max(
        row["value"]
        for row in scores
        if row["metric"] == "harm" and (row["batches"], row["stage"]) == last
    )


def _headline(
    name: str, scores: Sequence[Mapping[str, Any]], batches: int, stage: int = 0
) -> Mapping[str, Any]:
    """The row of a point that stands for a name, over all its requests."""
    for row in scores:
        at = (row["batches"], row["stage"]) == (batches, stage)
        if (
            at
            and row["scope"] in ("all", "text")
            and is_headline(name, row["metric"], row["score"])
        ):
            return row
    return {
        "value": float("nan"),
        "ci_low": float("nan"),
        "ci_high": float("nan"),
        "n_resampled": 0,
    }


CLAIMS = [
    f"{recipe}_{key}"
    for recipe in claims_module.RECIPES
    for key in (
        *("a_is", "a", "b_is", "b", "before", "difference", "low", "high", "seeds", "settings"),
        *("smallest_effect", "a_harm", "b_harm", "a_unedited", "b_unedited", "models", "finding"),
    )
]


@table(
    *("id", "claim", "where", "score", "margin", "kept", "verdict", "by_model", *CLAIMS, "quoted"),
)
def claims(found: Found) -> Iterator[Mapping[str, Any]]:
    """The paper's claims with their verdicts; see `workflow/claims.yaml`.

    ``by_model``: see `smedit.report.claims.by_model`; ``quoted``: what the paper has, see
    `smedit.report.quoted.quoted`.
    """
    return claims_module.judged(found.scores_table, found.asked_table, found.benchmark)


@table(
    *(
        "experiment",
        "variant",
        "than",
        "a",
        "b",
        "before",
        "difference",
        "low",
        "high",
        "seeds",
        "settings",
    ),
    *("smallest_effect", "a_harm", "b_harm", "a_unedited", "b_unedited", "complete"),
    *("p", "p_holm"),
)
def primary(found: Found) -> Iterator[Mapping[str, Any]]:
    """The study's primary comparisons, tested; see `workflow/claims.yaml`."""
    return claims_module.primary(found.scores_table, found.asked_table)


@table(
    *(*at_budget.GROUP, "dataset", "budget", "objective", "chosen", "same_choice", "value"),
    *("ci_low", "ci_high", "harm", "harm_low", "harm_high", "above_budget", "unedited", "at_edge"),
    "seeds",
)
def at_budgets(found: Found) -> Iterator[Mapping[str, Any]]:
    """The best within each budget of harm, by each objective: chosen on ``tune``, reported here.

    ``same_choice``: the share of the resamples that choose the same values; ``above_budget``:
    whether the harm beside the reported requests breaks the budget; ``at_edge``: which of the
    chosen numbers are the least or the largest tried, so that a better one may lie beyond. By
    agreement nothing beats the unedited model, which has 100 % of it.
    """
    return at_budget.at_budgets(found)
