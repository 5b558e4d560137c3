"""How forward passes are carried out. Never what they compute: numbers are equal up to rounding.

The defaults leave out whatever the method does not ask for; ``docs/performance.md`` says why that
is exact. `plain` is the straightforward way, to compare with. Not every architecture allows every
saving: `smedit.engine.self_test` finds out what a model allows.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_TOKENS = {"cpu": 512, "cuda": 8192}
"""Padded tokens of one pass, by kind of device. On a CPU more costs memory and saves no time."""


@dataclass(frozen=True)
class Execution:
    """Settings of a language model's forward passes.

    Attributes
    ----------
    frozen_once
        Run the blocks below the first edited one once per sequence, and keep what they compute.
        Without it each pass runs the whole model.
    prompts_apart
        Run prompt tokens first, and only as far as answer tokens need them: no gradients in a
        trace, and nothing of the last block but its keys and values.
    answers_only
        Compute logits at answer tokens only.
    padded
        Sequences of different lengths share a pass, the shorter ones padded on the left. Without
        it a pass takes sequences of one length, and the model gets their tokens and nothing else.
    share_trace
        Trace a training batch once if all its steps start from W₀.
    max_tokens
        Padded tokens of one pass; None is `MAX_TOKENS` of the device.
    max_rows
        Sequences of one pass; None is no limit.
    """

    frozen_once: bool = True
    prompts_apart: bool = True
    answers_only: bool = True
    padded: bool = True
    share_trace: bool = True
    max_tokens: int | None = None
    max_rows: int | None = None


def plain(minibatch: int) -> Execution:
    """The whole model, all logits, and physical batches of one minibatch."""
    return Execution(
        frozen_once=False,
        prompts_apart=False,
        answers_only=False,
        share_trace=False,
        max_rows=minibatch,
    )
