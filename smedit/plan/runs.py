"""What is asked → runs: each is trained once and measured in all that is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from smedit.data.dataset_sources import builtin_checksum
from smedit.methods import rule_checksum
from smedit.plan.settings import NONE, Measurement, Settings, declared, without_effect
from smedit.store.results import checksum


@dataclass(frozen=True)
class Chosen:
    """Values that a search chooses for a run.

    Attributes
    ----------
    search
        Name of the experiment that searches.
    variant
        The searched variant.
    names
        The settings that it chooses.
    definition
        Checksum of everything that decides the choice.
    shared
        Whether that variant is another one than the run's own.
    """

    search: str
    variant: str
    names: tuple[str, ...]
    definition: str
    shared: bool = False


@dataclass
class Run:
    """One training run.

    Attributes
    ----------
    name
        Of its files.
    identity
        Checksum of all that trains it.
    settings
        What trains it. Of what a search chooses, the first candidate stands here.
    measurements
        Everything that is measured of it.
    chosen
        What a search chooses, if anything.
    keep_editor
        Whether the trained editor stays beside the result.
    """

    name: str
    identity: str
    settings: Settings
    chosen: Chosen | None = None
    measurements: list[Measurement] = field(default_factory=list)
    keep_editor: bool = False


def make_run(
    settings: Settings,
    measurement: Measurement,
    model_spec: Mapping[str, Any],
    dataset_spec: Mapping[str, Any],
    chosen: Chosen | None = None,
) -> Run:
    """The run that a measurement needs; it has no measurements yet."""
    values = identity(settings, measurement, model_spec, dataset_spec, chosen)
    total = checksum(values)
    parts = [
        *(settings.model, settings.dataset, settings.shift_rule.rpartition(":")[2]),
        *(str(settings.bp_steps), settings.locality, settings.training),
        *(f"n{settings.n_edits}", f"seed{settings.seed}"),
        *([f"by-{chosen.search}"] if chosen else []),
    ]
    return Run(f"{'_'.join(parts)}-{total[:10]}", total, settings, chosen)


def identity(
    settings: Settings,
    measurement: Measurement,
    model_spec: Mapping[str, Any],
    dataset_spec: Mapping[str, Any],
    chosen: Chosen | None = None,
) -> dict[str, Any]:
    """All resolved values that train, and nothing else; their checksum names a run.

    A method counts by its choices, not by its name; a shift rule by what its function does.
    """
    given = vars(settings) | vars(measurement)
    idle = without_effect(given) | {"method"}
    names = set(chosen.names) if chosen else set()
    values = {
        name: getattr(settings, name)
        for name, said in declared(Settings).items()
        if name not in idle | names
        and (said.neutral is NONE or getattr(settings, name) != said.neutral)
    }
    if settings.passes > 1 and settings.training != "none":
        values["train_batches"] = measurement.train_batches  # then it is no point on the way
    values["shift_rule"] = [settings.shift_rule, rule_checksum(settings.shift_rule)]
    spec = {key: value for key, value in model_spec.items() if key != "edit_modules"}
    values |= {"model_spec": spec, "dataset_spec": with_facts(dataset_spec)}
    if chosen:
        values["chosen"] = {"names": sorted(names - idle), "definition": chosen.definition}
        if chosen.shared:
            values["chosen"]["variant"] = chosen.variant
    return values


def with_facts(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset, and what the built-in facts say if it is made of them."""
    more: dict[str, Any] = {}
    if spec.get("source") == "builtin":
        more["facts"] = builtin_checksum(spec["format"])
    if "train_on" in spec:
        more["train_on"] = with_facts(spec["train_on"])
    return {**spec, **more}


class Runs(dict[str, Run]):
    """Name → run. What several experiments ask of one run is united."""

    def ask(self, run: Run, measurements: Iterable[Measurement], keep_editor: bool = False) -> str:
        """Ask a run for measurements, too; return its name."""
        known = self.setdefault(run.name, run)
        known.measurements += [m for m in measurements if m not in known.measurements]
        known.keep_editor |= keep_editor
        return known.name

    def in_order(self) -> Runs:
        """The same, each with its measurements in the order in which they are made."""
        return Runs(
            (name, replace(run, measurements=sorted(run.measurements, key=_order)))
            for name, run in self.items()
        )


def _order(measurement: Measurement) -> tuple[Any, ...]:
    """By training batches, as training goes on; else anyhow, but always alike."""
    return measurement.train_batches, str(measurement)
