"""What a method is: a few choices on top of one engine. SMEdit's own are at the end.

Imports nothing heavy, so the workflow can read the methods before any job starts.

The paper's first version calls the method SMEdit and its inner loop MBPS; later versions call them
EMSEdit and MSBP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Literal

from smedit.errors import UserError, nearest, shown

ShiftRule = Literal["outer_product", "least_squares", "standardized_least_squares", "fine_tuning"]
Locality = Literal["kl", "norm", "none"]
StreamTraining = Literal["in_sequence", "in_batches", "none"]

LOCALITY_NAMES: dict[Locality, str] = {"kl": "KL", "norm": "norm", "none": "no locality loss"}
"""Locality loss → what a variant's name says of it."""


@dataclass(frozen=True)
class Method:
    """The choices that make an editing method.

    Attributes
    ----------
    name
        As in the paper's tables.
    shift_rule
        How a hypernetwork's output becomes a shift: a function of `smedit.shift_rules`; or
        ``fine_tuning``, which needs no hypernetwork (`smedit.fine_tuning`).
    bp_steps
        Backpropagation steps per edit. More than one is MBPS, but in fine-tuning, where they are
        the most gradient steps of a batch.
    locality
        What protects other knowledge in meta-training: ``kl``, ``norm``, or ``none``: the edit
        loss alone.
    rank, n_blocks
        Size of the hypernetwork as published (arXiv 2508.04012, appendix); with no blocks there is
        nothing to train, and keys and gradients are standardized only.
    stream_training
        How it is prepared for editing batch after batch without undoing any. ``in_sequence``: on
        such a stream, with one hypernetwork per backpropagation step. ``in_batches``: as for batch
        editing. ``none``: it needs no training.
    looks_back
        Whether training in sequence keeps the latest ``back_depth`` batches in its loss, each
        weighted by ``time_decay`` to the power of its age.
    for_batches
        Whether it also stands in the comparison of batch editing.
    """

    name: str
    shift_rule: ShiftRule
    bp_steps: int
    locality: Locality
    rank: int
    n_blocks: int
    stream_training: StreamTraining = "in_batches"
    looks_back: bool = False
    for_batches: bool = True

    @property
    def fine_tunes(self) -> bool:
        """Whether it changes a weight itself, without a hypernetwork."""
        return self.shift_rule == "fine_tuning"

    def without_effect(self, locality: str) -> set[str]:
        """The hyperparameters that change nothing if it is used with this locality loss."""
        trained = self.stream_training != "none"
        in_sequence = self.stream_training == "in_sequence"
        effect = {
            "meta_lr": trained,
            "max_grad_norm": trained,
            "loc_coef": locality == "kl",
            "reg_coef": locality == "norm",
            "reg_power": locality == "norm" and in_sequence,
            "back_depth": self.looks_back,
            "time_decay": self.looks_back,
            "bound": self.fine_tunes,
            "rank": self.n_blocks > 0,
            "n_blocks": self.n_blocks > 0,
        }
        return {name for name, has_effect in effect.items() if not has_effect}


@cache
def load_method(name: str) -> Method:
    """Find an installed method by name (entry points of the group ``smedit.methods``).

    Raises
    ------
    UserError
        If no installed package offers the name; the message names the nearest and lists all.
    """
    known = {point.name: point for point in entry_points(group="smedit.methods")}
    if name not in known:
        raise UserError(f"unknown method {shown(name)}{nearest(name, known)}")
    return known[name].load()


def variant_name(method: str, bp_steps: int, locality: str) -> str:
    """Name a method with its changes, as the paper's tables do: ``MEND + MBPS``, ``SMEdit, KL``."""
    default = load_method(method)
    name = method
    if default.fine_tunes:
        name += f", {bp_steps} steps" if bp_steps != default.bp_steps else ""
    elif default.bp_steps == 1 < bp_steps:
        name += " + MBPS"
    elif bp_steps == 1 < default.bp_steps:
        name += " w/o MBPS"
    if locality != default.locality:
        name += f", {LOCALITY_NAMES[locality]}"
    return name


SMEDIT = Method(
    name="SMEdit",
    shift_rule="least_squares",
    bp_steps=2,
    locality="norm",
    rank=1024,
    n_blocks=4,
    stream_training="in_sequence",
)
