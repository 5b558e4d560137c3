"""Every setting of a run, declared once: its type, default, label, unit, bounds and effect.

From these declarations come the configuration's schema, the columns of the tables, the labels of
the figures and ``config/README.md``. `Settings` are what trains an editor: they make a run.
`Measurement` is what is asked of a run. `Machine` says where and how it is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, get_type_hints

from smedit.methods import IN_CONTEXT, WITHOUT_NETWORK

PAPER = "arXiv 2508.04012, appendix"
RELEASED = "as in the released code"

NONE = object()
"""Stands for no neutral value."""


class Declared(NamedTuple):
    """What is said of a setting beside its type and default.

    Attributes
    ----------
    name
        The key in a configuration, and the column of the tables.
    kind
        ``int``, ``float``, ``str``, ``bool`` or ``tuple`` (of texts).
    default
        None where the method, the model or another setting decides; ``source`` says which.
    label
        What a figure's axis says.
    meaning
        One line for ``config/README.md``.
    unit
        Of the value; empty for a plain number.
    source
        Where the default comes from.
    choices
        The values there are, if they are few.
    least, above, most
        Bounds.
    choice
        Whether it tells one variant of a method from another. Else it is a size or a strength.
    searched
        Whether ``chosen_in`` may choose it.
    effect
        Takes all settings; whether this one changes anything among them.
    neutral
        The value at which the setting is no part of a run's identity, and that a result has which
        was made before the setting was there. A setting that is added later has one, so that no
        earlier result is lost. It must never change.
    """

    name: str
    kind: type
    default: Any
    label: str
    meaning: str
    unit: str
    source: str
    choices: tuple[str, ...]
    least: float | None
    above: float | None
    most: float | None
    choice: bool
    searched: bool
    effect: Callable[[Mapping[str, Any]], bool]
    neutral: Any


def setting(
    label: str,
    meaning: str,
    *,
    default: Any = dataclasses.MISSING,
    unit: str = "",
    source: str = "",
    choices: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choice: bool = False,
    searched: bool = False,
    effect: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    neutral: Any = NONE,
) -> Any:
    """Declare a field; see `Declared`."""
    said = {key: value for key, value in locals().items() if key != "default"}
    return field(default=default, metadata=said)


PARTS = ("step_size", "ridge", "blocks", "normalizer")
"""What a hypernetwork learns: the step size η, the ridge λ, the network's blocks, and the
normalizer's statistics, which have no gradient."""


def _choices(parts: Sequence[str]) -> tuple[str, ...]:
    """All parts, one of them alone, or all but one."""
    return "all", *(f"only_{part}" for part in parts), *(f"without_{part}" for part in parts)


def _trained(s: Mapping[str, Any]) -> bool:
    return s["training"] != "none"


def _in_batches(s: Mapping[str, Any]) -> bool:
    return s["training"] == "in_batches"


def _norm(s: Mapping[str, Any]) -> bool:
    return _trained(s) and s["locality"] == "norm"


def _fine_tunes(s: Mapping[str, Any]) -> bool:
    return s["shift_rule"] == "fine_tuning"


def _has_network(s: Mapping[str, Any]) -> bool:
    return s["shift_rule"] not in WITHOUT_NETWORK


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What trains an editor. Two runs with equal values are one run."""

    model: str = setting("language model", "the language model's name")
    dataset: str = setting("dataset", "the dataset's name")
    seed: int = setting(
        "seed",
        "draws the order of rows, the batches and the hypernetwork's initial values; who is in "
        "which split never changes. Five seeds in a row report on different requests, if each "
        "takes at most a fifth of them",
        default=0,
        least=0,
    )
    method: str = setting("method", "names the choices below; see `methods`")
    edit_modules: tuple[str, ...] = setting(
        "edit modules",
        "names of the layers whose weights may change; `{24..29}` stands for one name per index",
        default=None,
        source="the model's",
        choice=True,
    )
    precision: str = setting(
        "precision",
        "type of the language model's weights; hypernetwork, solves and shifts are always float32",
        default="float32",
        choices=("float32", "bfloat16"),
    )
    threads: int = setting(
        "threads",
        "CPU threads of one job; fixed, so that numbers do not depend on how many cores a run has",
        default=1,
        least=1,
        most=1024,
    )
    n_edits: int = setting(
        "edits per batch", "edit requests that are edited together", default=16, least=1
    )
    minibatch: int = setting(
        "minibatch", "rows that share one loss average", default=4, source=PAPER, least=1
    )
    shift_rule: str = setting(
        "shift rule",
        "how a hypernetwork's output becomes a change of the weights",
        default=None,
        source="the method's",
        choice=True,
    )
    bp_steps: int = setting(
        "backpropagation steps",
        "steps per edit; more than one is MBPS. In fine-tuning, the most gradient steps",
        default=None,
        source="the method's",
        least=1,
        choice=True,
    )
    locality: str = setting(
        "locality loss",
        "what protects other knowledge in training: `kl`, `norm`, or `none`: the edit loss alone",
        default=None,
        source="the method's",
        choices=("kl", "norm", "none"),
        choice=True,
        effect=_trained,
    )
    training: str = setting(
        "training",
        "`in_batches`: each batch from the unedited weights, one hypernetwork for all steps; "
        "`in_sequence`: batch after batch, one hypernetwork per step; `none`",
        default=None,
        source="by protocol: `in_batches` for `batch`, the method's for `sequential`",
        choices=("in_batches", "in_sequence", "none"),
        choice=True,
    )
    rank: int = setting(
        "rank",
        "width of the hypernetwork's bottleneck",
        default=None,
        source="the method's",
        least=1,
        most=65536,
        searched=True,
        effect=_trained,
    )
    n_blocks: int = setting(
        "blocks",
        "blocks of the hypernetwork",
        default=None,
        source="the method's",
        least=1,
        most=64,
        searched=True,
        effect=_trained,
    )
    lr: float = setting(
        "initial step size η",
        "step size of a shift before training; in fine-tuning, Adam's learning rate",
        default=1e-6,
        source=f"{PAPER}; the method's where it has its own",
        above=0,
        searched=True,
        effect=lambda s: s["shift_rule"] != IN_CONTEXT,
    )
    bound: float = setting(
        "bound on every entry",
        "in fine-tuning, no entry of the weight moves further than this from the unedited one",
        default=5e-4,
        source="ROME (arXiv 2202.05262), GPT-2 XL",
        above=0,
        searched=True,
        effect=_fine_tunes,
    )
    meta_lr: float = setting(
        "Adam's learning rate",
        "learning rate of the hypernetwork's training",
        default=1e-5,
        source=PAPER,
        above=0,
        searched=True,
        effect=_trained,
    )
    loc_coef: float = setting(
        "weight of KL",
        "weight of the KL locality loss",
        default=0.6,
        source=PAPER,
        least=0,
        searched=True,
        effect=lambda s: _trained(s) and s["locality"] == "kl",
    )
    reg_coef: float = setting(
        "weight of the norm",
        "weight of the norm locality loss",
        default=0.5,
        source=PAPER,
        least=0,
        searched=True,
        effect=_norm,
    )
    reg_power: int = setting(
        "power of the norm's weight",
        "in sequence the norm is weighted by `reg_coef` to this power",
        default=2,
        source=RELEASED,
        least=1,
        most=2,
        choice=True,
        effect=lambda s: _norm(s) and not _in_batches(s),
    )
    max_grad_norm: float = setting(
        "largest gradient norm",
        "the hypernetwork's gradient is clipped to this",
        default=1.0,
        source=PAPER,
        above=0,
        searched=True,
        effect=_trained,
    )
    adam_repeats: int = setting(
        "updates per gradient",
        "how often each gradient is applied",
        default=None,
        source=f"`bp_steps` in batches, {RELEASED}; 1 in sequence",
        least=1,
        choice=True,
        effect=_in_batches,
    )
    train_from: str = setting(
        "where training steps start",
        "where step 2 and later start in training: the `original` weights, or the `current` ones",
        default="original",
        source=RELEASED,
        choices=("original", "current"),
        choice=True,
        effect=lambda s: _in_batches(s) and s["bp_steps"] > 1,
    )
    back_depth: int = setting(
        "batches looked back on",
        "in sequence, the loss keeps so many of the latest batches",
        default=None,
        source="the method's: 10 for RLEdit (arXiv 2502.05759), else 1",
        least=1,
        choice=True,
        effect=lambda s: s["training"] == "in_sequence",
    )
    time_decay: float = setting(
        "decay per batch",
        "a batch that is looked back on weighs this to the power of its age",
        default=0.95,
        source="RLEdit (arXiv 2502.05759)",
        above=0,
        most=1,
        searched=True,
        effect=lambda s: s["training"] == "in_sequence" and s["back_depth"] > 1,
    )
    passes: int = setting(
        "passes over the training data",
        "how often the training batches are gone through; in sequence, each pass is one update",
        default=1,
        least=1,
        choice=True,
        effect=_trained,
        neutral=1,
    )
    train_parts: str = setting(
        "trained parts",
        "what of the hypernetwork is trained; the rest stays as it starts. The normalizer always "
        "learns",
        default="all",
        choices=_choices(PARTS[:3]),
        choice=True,
        effect=_trained,
        neutral="all",
    )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is asked of a run: when it is measured, on which rows, and how these are edited."""

    train_batches: int = setting(
        "training batches",
        "after how many batches of `n_edits` an editor is measured; 0: untrained. A list is one "
        "training run, measured on the way",
        default=1,
        source=PAPER,
        least=0,
        effect=_trained,
    )
    protocol: str = setting(
        "protocol",
        "`batch`: an edited batch is undone before the next; `sequential`: none is",
        default="batch",
        choices=("batch", "sequential"),
    )
    rows: str = setting(
        "rows",
        "`eval`: reported on; `tune`: chosen by. Neither is trained on",
        default="eval",
        choices=("eval", "tune"),
    )
    n_requests: int = setting(
        "requests",
        "in batches, edit requests that are scored; a multiple of `n_edits`",
        default=None,
        source="the least multiple of `n_edits` from 32 on",
        least=1,
        effect=lambda s: s["protocol"] == "batch",
    )
    n_batches: int = setting(
        "batches",
        "in sequence, batches that are edited one after another",
        default=10,
        least=1,
        effect=lambda s: s["protocol"] == "sequential",
    )
    points: int = setting(
        "points",
        "in sequence, how often a stream is measured, evenly spread, the end included",
        default=4,
        least=1,
        effect=lambda s: s["protocol"] == "sequential",
    )
    edit_steps: int = setting(
        "steps at edit time",
        "backpropagation steps of an edit; in batches, each of them is scored",
        default=None,
        source="`bp_steps`",
        least=1,
        choice=True,
    )
    edit_lr: float = setting(
        "step size at edit time",
        "the step size that edits: `trained`, or one value in place of it",
        default=None,
        source="`trained`",
        above=0,
        searched=True,
        effect=_has_network,
    )
    edit_parts: str = setting(
        "trained parts at edit time",
        "what of the trained hypernetwork edits; the rest is as it was before training",
        default="all",
        choices=_choices(PARTS),
        choice=True,
        effect=lambda s: _trained(s) and s["train_batches"] > 0,
        neutral="all",
    )
    generate: int = setting(
        "generated answers",
        "after the last step, so many requests are answered by greedy decoding, too",
        default=8,
        least=0,
        effect=lambda s: s["rows"] == "eval",
    )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run writes and computes; no part of what it is."""

    results_dir: str = setting(
        "results",
        "where tables and results go: a path of letters, digits, `.`, `_` and `-`",
        default=None,
        source="`results` for `config.yaml`, `results/NAME` for `NAME.yaml`",
    )
    figures_dir: str = setting(
        "figures",
        "where figures go; the same",
        default=None,
        source="`figures` for `config.yaml`, `figures/NAME` for `NAME.yaml`",
    )
    device: str = setting(
        "device",
        "`auto` (a GPU if there is one), `cpu` or `cuda`",
        default="auto",
        choices=("auto", "cpu", "cuda"),
    )
    gpus_per_job: int = setting(
        "GPUs",
        "GPUs that a job asks a cluster for; on one machine with `--resources gpu=N`, each job has "
        "so many of its own",
        default=0,
        least=0,
    )
    memory_mb: int = setting(
        "memory",
        "what a job that opens a model asks for; side by side run as many as the machine's memory "
        "has room for",
        default=4000,
        unit="MB",
        least=1,
    )
    minutes: int = setting(
        "time", "what a job that opens a model asks a cluster for", default=60, least=1
    )


@cache
def declared(record: type) -> dict[str, Declared]:
    """Name → declaration, of `Settings`, `Measurement` or `Machine`, in order."""
    kinds = get_type_hints(record)
    return {
        f.name: Declared(
            name=f.name,
            kind=getattr(kinds[f.name], "__origin__", kinds[f.name]),
            default=None if f.default is dataclasses.MISSING else f.default,
            **f.metadata,
        )
        for f in dataclasses.fields(record)
    }


@cache
def all_settings() -> dict[str, Declared]:
    """Name → declaration of every setting and every key of a measurement: the tables' columns."""
    return declared(Settings) | declared(Measurement)


def complete(values: Mapping[str, Any], record: type) -> dict[str, Any]:
    """The values of `Settings` or a `Measurement`, with those that were declared after them."""
    later = {n: said.neutral for n, said in declared(record).items() if said.neutral is not NONE}
    return later | dict(values)


def without_effect(values: Mapping[str, Any]) -> set[str]:
    """Names of the settings that change nothing among these values."""
    known = all_settings()
    return {name for name in values if name in known and not known[name].effect(values)}
