"""The best that each variant reaches within a budget of harm, chosen on ``tune`` rows.

Choosing sees the ``tune`` requests and the even paragraphs; what is reported are the ``eval``
requests and the odd ones. The intervals are of a bootstrap over requests and paragraphs that
repeats the choice in each resample, so they hold what choosing adds to the uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smedit.plan.settings import without_effect
from smedit.report import statistics
from smedit.report.bound import UNEDITED, at_edge, best_within, in_words
from smedit.report.metrics import is_headline
from smedit.report.sides import SAME, STRENGTHS, rules

GROUP = ("experiment", "model", "variant", "protocol", "n_edits", "train_batches", "edit_steps")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Sample:
    """Requests of one dataset and seed: their scores, and the harm of each paragraph.

    Attributes
    ----------
    top, bottom
        Score → (requests,): the sum over a request's prompts, and how many they are.
    harm, tokens
        (paragraphs,): the loss above the unedited model's, and the tokens.
    """

    top: Mapping[str, Array]
    bottom: Mapping[str, Array]
    harm: Array
    tokens: Array

    def score(self, name: str, weights: Array) -> Array:
        """Mean in percent per row of weights (resamples, requests)."""
        return 100 * (weights @ self.top[name]) / (weights @ self.bottom[name])

    def harmed(self, weights: Array) -> Array:
        """Nats per token, per row of weights (resamples, paragraphs)."""
        return (weights @ self.harm) / (weights @ self.tokens)


def at_budgets(found: Any) -> Iterator[dict[str, Any]]:
    """One row per variant that was measured on ``tune`` rows at several values, budget, objective.

    Parameters
    ----------
    found
        A `smedit.report.tables.Found`.
    """
    budgets = [rules()["budgets"]["primary"], *rules()["budgets"]["others"]]
    objectives = _objectives()
    for group, candidates, tried in _groups(found):
        places = sorted({place for each in candidates.values() for place in each})
        if len(candidates) < 2 or any(set(each) != set(places) for each in candidates.values()):
            continue
        search = _Resampled(candidates, places, objectives)
        for budget in sorted(budgets):
            for objective in objectives:
                for dataset in dict.fromkeys(dataset for dataset, _ in places):
                    reached = search.reached(budget, objective, dataset)
                    edge = at_edge(tried.get(reached["chosen"], {}), tried.values())
                    yield {
                        **dict(zip(GROUP, group, strict=True)),
                        **{"dataset": dataset, "budget": budget, "objective": objective},
                        **reached,
                        "at_edge": edge,
                        "seeds": len({seed for name, seed in places if name == dataset}),
                    }


def _objectives() -> list[str]:
    return [rules()["objective"]["primary"], *rules()["objective"]["others"]]


def _groups(found: Any) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]]:
    """Of each variant at one size: values in words → (dataset, seed) → the samples of ``tune`` and
    ``eval``; and values in words → setting → value.
    """  # noqa: D205
    reported = {}
    for row in found.rows:
        if row["rows"] == "eval":
            for stage in range(1, row["edit_steps"] + 1):
                reported[(row["run"], *(row[name] for name in SAME), stage)] = row
    planned: dict[tuple[Any, ...], set[str]] = {}
    for row in filter(_searched, found.asked):
        planned.setdefault(tuple(row[name] for name in GROUP), set()).add(in_words(_tried(row)))
    groups: dict[tuple[Any, ...], dict[str, dict[Any, Any]]] = {}
    tried: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in found.rows:
        if not _searched(row):
            continue
        key = tuple(row[name] for name in GROUP)
        group = groups.setdefault(key, {})
        other = reported.get((row["run"], *(row[name] for name in SAME), row["edit_steps"]))
        if other is None:  # what would be chosen from is not reported on: nothing can be said
            group[""] = {}
            continue
        pair = [_samples(found.of(each)[1], row["edit_steps"]) for each in (row, other)]
        values = _tried(row)
        group.setdefault(in_words(values), {})[row["dataset"], row["seed"]] = pair
        tried.setdefault(key, {})[in_words(values)] = values
    for key, group in groups.items():
        if planned.get(key, set()) <= set(group):  # else the best may be among the others
            yield key, group, tried.get(key, {})


def _tried(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are tried: the strengths that have an effect, and the step size."""
    idle = without_effect(row)
    values = {name: row[name] for name in STRENGTHS if name not in idle and row[name] != ""}
    return {**values, "edit_lr": row["edit_lr"]}


def _searched(row: Mapping[str, Any]) -> bool:
    return bool(row["rows"] == "tune" and row["protocol"] == "batch")


def _samples(evaluation: Mapping[str, Any], stage: int) -> tuple[_Sample, _Sample | None]:
    """Before editing, and after this step; None if it diverged."""
    points = evaluation["points"]
    before = points[0]["text"][0]
    first = _sample(points[0], before)
    after = next((p for p in points if p["stage"] == stage), None)
    return first, None if after is None else _sample(after, before)


def _sample(point: Mapping[str, Any], before: Sequence[Sequence[float]]) -> _Sample:
    top, bottom = {}, {}
    for name in _objectives():
        for each in point["scores"]:
            if is_headline(name, each["metric"], each["score"]):
                top[name] = np.array([sum(r) for r in each["rows"]], dtype=float)
                bottom[name] = np.array([len(r) for r in each["rows"]], dtype=float)
    text = np.array([[p[0] for p in batch] for batch in point["text"]]).mean(0)
    tokens = np.array([b[2] for b in before], dtype=float)
    return _Sample(top, bottom, text - np.array([b[0] for b in before]), tokens)


class _Resampled:
    """Objectives and harm of all candidates, as measured (row 0) and in every resample."""

    def __init__(
        self, candidates: Mapping[str, Any], places: Sequence[Any], objectives: Sequence[str]
    ) -> None:
        self.names = [UNEDITED, *candidates]
        self.places = places
        some = next(iter(candidates.values()))
        shape = (len(self.names), len(places), statistics.RESAMPLES + 1)
        self.tuned = {name: np.zeros(shape) for name in objectives}
        self.reported = {name: np.zeros(shape) for name in objectives}
        self.harm = {split: np.zeros(shape) for split in ("tune", "eval")}
        for at, place in enumerate(places):
            for split, scores in enumerate((self.tuned, self.reported)):
                first = some[place][split][0]
                counts = first.bottom[objectives[0]]
                requests = _weights(len(counts), 2 + 2 * at + split)
                paragraphs = _weights(len(first.tokens), split)  # the same text everywhere
                for c, name in enumerate(self.names):
                    sample = first if name == UNEDITED else candidates[name][place][split][1]
                    harm = self.harm["eval" if split else "tune"]
                    harm[c, at] = np.inf if sample is None else sample.harmed(paragraphs)
                    for objective in objectives:
                        if sample is not None:  # one that diverged scores 0
                            scores[objective][c, at] = sample.score(objective, requests)

    def reached(self, budget: float, objective: str, dataset: str) -> dict[str, Any]:
        """The choice over all datasets and seeds, and what it reaches on one dataset."""
        harm = self.harm["tune"].mean(1)
        best = best_within(self.tuned[objective].mean(1), harm, budget)
        here = [i for i, (name, _) in enumerate(self.places) if name == dataset]
        draws = np.arange(statistics.RESAMPLES + 1)
        values = self.reported[objective][:, here].mean(1)[best, draws]
        harms = self.harm["eval"][:, here].mean(1)[best, draws]
        low, high = _ends(values[1:])
        harm_low, harm_high = _ends(harms[1:])
        return {
            "chosen": self.names[best[0]],
            "same_choice": float(np.mean(best[1:] == best[0])),
            **{"value": values[0], "ci_low": low, "ci_high": high},
            **{"harm": harms[0], "harm_low": harm_low, "harm_high": harm_high},
            "above_budget": bool(harms[0] > budget),
            "unedited": float(self.reported[objective][0, here, 0].mean()),
        }


def _weights(n: int, seed: int) -> Array:
    """How often each of n entries is drawn: once each, then in every resample."""
    return np.vstack([np.ones((1, n)), statistics.resamples(n, seed)])


def _ends(drawn: Array) -> Array:
    """The 95 % interval; one of the values drawn, as a harm may be infinite."""
    return np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
