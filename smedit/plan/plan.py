"""A configuration → the plan: every run, who asks for it, and what searches choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from smedit.errors import SettingError, nearest
from smedit.plan.catalogue import named
from smedit.plan.experiments import Asked, Values, asked, experiments, is_search, search_of
from smedit.plan.runs import Chosen, Run, Runs, make_run
from smedit.plan.settings import Measurement, Settings, declared
from smedit.plan.variants import variant_name
from smedit.store.results import checksum

OBJECTIVE = {"mean_of": ["efficacy", "generalization", "agreement"], "harm_at_most": 0.5}
"""What a search chooses by, where a configuration does not say: the best mean of these scores
among the points whose harm is at most so many nats per token."""


@dataclass(frozen=True)
class Point:
    """One candidate of a search: values, and the run that has them with what is asked of it."""

    values: Mapping[str, Any]
    run: str
    measurement: Measurement


@dataclass(frozen=True)
class Row:
    """One measurement that is asked for, and the run that makes it.

    Attributes
    ----------
    asked
        What is asked for.
    run
        Name of the run; empty where it is the one of the chosen point.
    chosen
        What a search chooses, if anything.
    points
        The candidates, where the search's own runs measure this.
    """

    asked: Asked
    run: str
    chosen: Chosen | None = None
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Search:
    """What a search chooses from, on one model.

    Attributes
    ----------
    name, model
        The experiment, and one of its models.
    objective
        See `OBJECTIVE`.
    points
        Variant → its candidates on ``tune`` rows, one per dataset, seed and size.
    """

    name: str
    model: str
    objective: Mapping[str, Any]
    points: Mapping[str, tuple[Point, ...]]

    @property
    def runs(self) -> list[str]:
        """Names of the runs that it chooses from."""
        return list(dict.fromkeys(p.run for points in self.points.values() for p in points))

    @cached_property
    def definition(self) -> str:
        """Checksum of all that decides the choice."""
        points = {
            variant: [[dict(p.values), p.run, asdict(p.measurement)] for p in points]
            for variant, points in self.points.items()
        }
        return checksum([self.objective, points])


@dataclass(frozen=True)
class Plan:
    """All of a configuration's work.

    Attributes
    ----------
    rows
        What is asked for, in the order of the configuration.
    runs
        Name → run.
    searches
        (name, model) → search.
    models, datasets
        Name → what it is.
    """

    rows: tuple[Row, ...]
    runs: Runs
    searches: Mapping[tuple[str, str], Search]
    models: Mapping[str, Any]
    datasets: Mapping[str, Any]

    def resolved(self, chosen: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict]:
        """`rows` as flat mappings: ``experiment``, ``variant``, every setting, ``run``, ``search``,
        and ``changes``, in which the variant differs from its method.

        Parameters
        ----------
        chosen
            ``SEARCH MODEL`` → variant → what was chosen. Without it, a row that takes its values
            from a search has none of them, and no run where it takes the search's own. A choice
            that is not in it is not made yet: such a row has no run.
        """  # noqa: D205
        rows = []
        for row in self.rows:
            item, run = row.asked, row.run
            values: Mapping[str, Any] = {}
            if row.chosen:
                of_search = (chosen or {}).get(f"{row.chosen.search} {item.settings.model}", {})
                won = of_search.get(row.chosen.variant)
                if won is not None:
                    run = next((p.run for p in row.points if p.values == won), run)
                elif chosen is not None:
                    run = ""
                values = won or dict.fromkeys(row.chosen.names)
            rows.append(
                {
                    "experiment": item.experiment,
                    "variant": item.variant,
                    **vars(item.settings),
                    **vars(item.measurement),
                    **values,
                    "run": run,
                    "search": row.chosen.search if row.chosen else "",
                    "changes": item.changes,
                }
            )
        return rows

    def rows_needed(self, model: str, dataset: str) -> dict[str, int]:
        """How many rows of each split the runs of a model and a dataset use."""
        needed = {"train": 0, "tune": 0, "eval": 0}
        for run in self.runs_on(model, dataset):
            for m in run.measurements:
                n_edits = run.settings.n_edits
                train = n_edits * m.train_batches
                scored = m.n_requests if m.protocol == "batch" else n_edits * m.n_batches
                needed["train"] = max(needed["train"], train)
                needed[m.rows] = max(needed[m.rows], scored)
        return needed

    def runs_on(self, model: str, dataset: str) -> list[Run]:
        """The runs of a model and a dataset."""
        runs = self.runs.values()
        return [r for r in runs if (r.settings.model, r.settings.dataset) == (model, dataset)]


def make_plan(config: Mapping[str, Any]) -> Plan:
    """Plan a checked configuration.

    Raises
    ------
    SettingError
        If an experiment takes values from a search that does not have them.
    """
    planner = _Planner(config)
    items = asked(config)
    by_experiment: dict[str, list[Asked]] = {name: [] for name in planner.experiments}
    for item in items:
        by_experiment[item.experiment].append(item)
    for name in planner.in_order():
        # Of what a search chooses, an experiment's own values count for nothing.
        planned = (planner.row(item) for item in by_experiment[name])
        planner.rows[name] = list({row.asked: row for row in planned}.values())
    for name, part in planner.experiments.items():
        if is_search(part):  # what it would choose is told, whether or not anything takes it
            tuned = [i for i in by_experiment[name] if i.measurement.rows == "tune"]
            for model in dict.fromkeys(item.settings.model for item in tuned):
                planner.search(name, model)
    rows = tuple(row for name in planner.experiments for row in planner.rows[name])
    return Plan(rows, planner.runs.in_order(), planner.searches, planner.models, planner.datasets)


class _Planner:
    """Rows, runs and searches as they come together."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.experiments = experiments(config)
        self.models, self.datasets = named(config, "models"), named(config, "datasets")
        self.rows: dict[str, list[Row]] = {}
        self.runs = Runs()
        self.searches: dict[tuple[str, str], Search] = {}

    def in_order(self) -> list[str]:
        """Names of the experiments, each after the search that it takes values from."""
        chain: list[str] = []

        def add(name: str, after: tuple[str, ...]) -> None:
            part = self.experiments[name]
            if "chosen_in" in part and name not in chain:
                search = search_of(part)[0]
                key = f"experiments.{name}.chosen_in"
                others = set(self.experiments) - {name}
                if search not in others:
                    raise SettingError(key, f"no experiment {search!r}{nearest(search, others)}")
                if search in after:
                    raise SettingError(key, f"{search} takes values from {name} itself")
                add(search, (*after, name))
            if name not in chain:
                chain.append(name)

        for name in self.experiments:
            add(name, ())
        return chain

    def row(self, item: Asked) -> Row:
        """The row of an item; its run is planned."""
        part = self.experiments[item.experiment]
        if "chosen_in" not in part:
            return Row(item, self.ask(item, item.settings, item.measurement))
        name, shared = search_of(part)
        search = self.search(name, item.settings.model)
        changes = {k: v for k, v in item.changes.items() if k not in shared}
        variant = variant_name(item.settings.method, changes)
        points = search.points.get(variant, ())
        if not points:
            raise SettingError(
                f"experiments.{item.experiment}.chosen_in",
                f"{name} has no {variant} on {item.settings.model}; add it there, or name the "
                "choices that share their values: {search: "
                f"{name}, shared: [bp_steps, …]}}",
            )
        return self.chosen_row(item, search, variant)

    def chosen_row(self, item: Asked, search: Search, variant: str) -> Row:
        """The row of an item that takes its values from a search."""
        points = search.points[variant]
        candidates = list({tuple(p.values.items()): p.values for p in points}.values())
        ready = [self.with_values(item, values) for values in candidates]
        settings, measurement = ready[0]
        own = Values({k: v for k, v in item.strengths.items() if k not in candidates[0]})
        item = replace(item, settings=settings, measurement=measurement, strengths=own)
        if len(ready) == 1:
            return Row(item, self.ask(item, settings, measurement))
        shared = variant != variant_name(item.settings.method, item.changes)
        chosen = Chosen(search.name, variant, tuple(candidates[0]), search.definition, shared)
        made = [self.run_of(item, *each).name for each in ready]
        has = all(
            name in self.runs and each[1] in self.runs[name].measurements
            for name, each in zip(made, ready, strict=True)
        )
        if has:
            points = tuple(
                Point(values, name, each[1])
                for values, name, each in zip(candidates, made, ready, strict=True)
            )
            return Row(item, "", chosen, points)
        return Row(item, self.ask(item, *ready[0], chosen), chosen)

    def with_values(self, item: Asked, values: Mapping[str, Any]) -> tuple[Settings, Measurement]:
        """An item's settings and measurement at a search's values."""
        of = declared(Settings)
        return (
            replace(item.settings, **{k: v for k, v in values.items() if k in of}),
            replace(item.measurement, **{k: v for k, v in values.items() if k not in of}),
        )

    def search(self, name: str, model: str) -> Search:
        """A search on one model; all its rows are planned before."""
        if (name, model) not in self.searches:
            points: dict[str, list[Point]] = {}
            places: dict[str, dict[Values, set[Any]]] = {}
            for row in self.rows[name]:
                item = row.asked
                if (item.settings.model, item.measurement.rows) == (model, "tune"):
                    values = dict(item.strengths)
                    own = variant_name(item.settings.method, item.changes)
                    points.setdefault(own, []).append(Point(values, row.run, item.measurement))
                    tried = places.setdefault(own, {}).setdefault(Values(values), set())
                    tried.add((item.settings.dataset, item.settings.seed))
            for own, by_values in places.items():
                most = max(by_values.values(), key=len)
                for values, tried in by_values.items():
                    if tried != most:
                        problem = f"{own} has not all values on all datasets and seeds ({values})"
                        key = f"experiments.{name}"
                        raise SettingError(key, f"{problem}; try each everywhere")
            objective = {**OBJECTIVE, **self.experiments[name].get("objective", {})}
            frozen = {variant: tuple(found) for variant, found in points.items()}
            self.searches[name, model] = Search(name, model, objective, frozen)
        return self.searches[name, model]

    def ask(
        self,
        item: Asked,
        settings: Settings,
        measurement: Measurement,
        chosen: Chosen | None = None,
    ) -> str:
        keep = self.experiments[item.experiment].get("keep_editor", False)
        run = self.run_of(item, settings, measurement, chosen)
        return self.runs.ask(run, [measurement], keep)

    def run_of(
        self,
        item: Asked,
        settings: Settings,
        measurement: Measurement,
        chosen: Chosen | None = None,
    ) -> Run:
        model, dataset = self.models[item.settings.model], self.datasets[item.settings.dataset]
        return make_run(settings, measurement, model, dataset, chosen)
