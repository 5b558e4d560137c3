"""Edit batch → shifts, over S backpropagation steps (MBPS; arXiv 2508.04012, section 4.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from types import MappingProxyType

import torch
from torch import nn

from smedit.engine.batches import TokenBatch
from smedit.engine.hypernetwork import Hypernetwork
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.shift_rules import shift_rule_of
from smedit.engine.tracing import Trace, trace
from smedit.errors import DivergedError
from smedit.methods import Method


class Editor(nn.Module):
    """Hypernetworks and the rule that turns their output into shifts. Always float32.

    Parameters
    ----------
    method
        The choices that make the method.
    shapes
        Edit module name → (d_in, d_out).
    lr
        Initial step size η; 1e-6 in the paper.
    seed
        Seeds the hypernetworks' initial values.
    n_networks
        1: all backpropagation steps share one hypernetwork, as in batch editing. S: each of S
        steps has its own, as in sequential editing; that of step s has rank ⌊rank / s⌋.
    """

    def __init__(
        self,
        method: Method,
        shapes: Mapping[str, tuple[int, int]],
        lr: float,
        seed: int,
        n_networks: int = 1,
    ) -> None:
        super().__init__()
        self.method = method
        self.shift_rule = shift_rule_of(method.shift_rule)
        self.hypernetworks = nn.ModuleList(
            Hypernetwork(shapes, method.rank // step, method.n_blocks, lr, seed + step - 1)
            for step in range(1, n_networks + 1)
        )

    def predict(self, traced: Trace, step: int) -> dict[str, torch.Tensor]:
        """Update the normalizers with a trace, then predict every module's shift, with its graph.

        Parameters
        ----------
        traced
            Keys and value gradients on the weights as they stand.
        step
            The backpropagation step, from 1; it decides which hypernetwork predicts.

        Returns
        -------
        dict
            Edit module name → Δ (d_in, d_out).

        Raises
        ------
        DivergedError
            If the least-squares system is not positive definite in float32 or a shift is not
            finite.
        """
        shifts: dict[str, torch.Tensor] = {}
        hypernetwork = self.hypernetworks[step - 1 if len(self.hypernetworks) > 1 else 0]
        for network in hypernetwork.networks.values():
            keys = torch.stack([traced.keys[name] for name in network.names])
            gradients = torch.stack([traced.gradients[name] for name in network.names])
            rows = torch.cat([keys, gradients], dim=-1)
            network.normalizer.update(rows.flatten(0, 1))
            pseudo_keys, pseudo_gradients = network(keys, gradients)
            for m, name in enumerate(network.names):
                try:
                    shifts[name] = self.shift_rule(
                        keys[m],
                        pseudo_keys[m],
                        pseudo_gradients[m],
                        network.step_size[m],
                        network.log_lambda[m],
                    )
                except torch.linalg.LinAlgError as error:
                    raise DivergedError(
                        f"the least-squares system of {name} cannot be solved; try a smaller lr"
                    ) from error
                if not shifts[name].detach().norm().isfinite():  # nor may its norm overflow
                    raise DivergedError(f"non-finite shift of {name}; try a smaller lr")
        return shifts

    def train_only(self, parts: Collection[str]) -> None:
        """Let only some parts (see `part_of`) be trained."""
        for name, weight in self.named_parameters():
            weight.requires_grad_(part_of(name) in parts)

    def with_parts_of(self, other: Editor, parts: Collection[str]) -> Editor:
        """A copy of this editor with some parts (see `part_of`) of another one of its shape."""
        copied, theirs = deepcopy(self), other.state_dict()
        for name, value in copied.state_dict().items():
            if part_of(name) in parts:
                value.copy_(theirs[name])
        return copied

    def with_step_size(self, value: float) -> Editor:
        """The same editor with another step size η in every module; other weights are shared."""
        weights = dict(self.named_parameters())
        shared = {id(w): w for name, w in weights.items() if not name.endswith("step_size")}
        copied = deepcopy(self, shared)
        for hypernetwork in copied.hypernetworks:
            for network in hypernetwork.networks.values():
                network.step_size.data.fill_(value)
        return copied

    @torch.no_grad()
    def edit(
        self,
        model: LanguageModel,
        batch: TokenBatch,
        bp_steps: int,
        start: Shifts = MappingProxyType({}),
        first: Trace | None = None,
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Edit a batch; yield the accumulated shifts after each backpropagation step.

        Each step traces on the weights as they then stand. The normalizers go on learning.

        Parameters
        ----------
        model, batch
            The edit requests, and the model that they change.
        bp_steps
            Backpropagation steps S.
        start
            Shifts of the edits so far; by default the batch is edited from W₀.
        first
            The trace on those weights, where it is known: it does not depend on the editor.
        """
        total = dict(start)
        for step in range(1, bp_steps + 1):
            try:
                traced = first
                if step > 1 or traced is None:
                    with torch.enable_grad():
                        traced = trace(model, batch, total)
                total = add_shifts(total, self.predict(traced, step))
            except DivergedError as error:
                raise DivergedError(f"{self.method.name}, editing, step {step}: {error}") from error
            yield total


def part_of(name: str) -> str:
    """The part of a hypernetwork that a tensor of its state belongs to.

    Returns
    -------
    str
        ``step_size``, ``ridge``, ``normalizer`` or ``blocks``.
    """
    parts = {"step_size": "step_size", "log_lambda": "ridge", "normalizer": "normalizer"}
    return next((part for key, part in parts.items() if key in name.split(".")), "blocks")


def add_shifts(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Sum two shifts module by module; a module that one of them lacks counts as zero there."""
    total = dict(first)
    for name, shift in second.items():
        total[name] = total[name] + shift if name in total else shift
    return total
