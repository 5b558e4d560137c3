"""Edit batch → the change of one layer's weight by constrained fine-tuning (FT-L).

Sources: Zhu et al., arXiv 2012.00363 (the constraint); ROME, arXiv 2202.05262, appendix (one layer,
25 steps of Adam, no weight decay, an early end).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import nn

from smedit.engine.batches import TokenBatch
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.losses import accumulate_edit_loss
from smedit.errors import DivergedError
from smedit.methods import Method

ENOUGH = 0.01
"""Editing a batch ends once its mean loss is below this."""


class FineTuner(nn.Module):
    """Adam on the edit loss with respect to one weight. Every entry stays near W₀'s.

    It has no parameters and no memory of earlier batches but the weights themselves.

    Parameters
    ----------
    method
        Its name goes into messages.
    lr
        Adam's learning rate.
    bound
        L∞: no entry of the weight moves further than this from W₀.
    """

    def __init__(self, method: Method, lr: float, bound: float) -> None:
        super().__init__()
        self.method = method
        self.lr = lr
        self.bound = bound

    def edit(
        self,
        model: LanguageModel,
        batch: TokenBatch,
        bp_steps: int,
        start: Shifts = MappingProxyType({}),
        first: None = None,
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Edit a batch; yield the change of the first edit module's weight, once.

        Parameters
        ----------
        model, batch
            The edit requests, and the model that they change.
        bp_steps
            The most gradient steps.
        start
            The change by the edits so far; by default the batch is edited from W₀.
        first
            Not used: every step has gradients of its own.

        Raises
        ------
        DivergedError
            If the loss or the change is not finite.
        """
        (name, shift), *_ = self._start(model, start).items()
        shift = shift.clone().requires_grad_()
        optimizer = torch.optim.Adam([shift], lr=self.lr)
        n_minibatches = batch.weights.sum().item()  # the weights of each sum to 1
        for step in range(1, bp_steps + 1):
            optimizer.zero_grad()
            loss = accumulate_edit_loss(model, batch, {name: shift})
            if not math.isfinite(loss):
                raise self._diverged(step, "loss")
            if loss < ENOUGH * n_minibatches:
                break
            optimizer.step()
            with torch.no_grad():
                shift.clamp_(-self.bound, self.bound)
        if not shift.isfinite().all():  # of a gradient that was not: the clamp lets nan through
            raise self._diverged(step, "change")
        yield {name: shift.detach()}

    def _diverged(self, step: int, what: str) -> DivergedError:
        return DivergedError(
            f"{self.method.name}, by step {step}: non-finite {what}; try a smaller lr"
        )

    def _start(self, model: LanguageModel, start: Shifts) -> Mapping[str, torch.Tensor]:
        if start:
            return start
        first = next(iter(model.edit_modules))
        return {first: torch.zeros(model.shape(first), device=model.device)}
