"""Does the engine compute what the model computes? Tried on a few rows when a model is opened.

Savings that hold for most architectures break others without a word: a padded row gets other
positions, a recurrent state is not in the cache, a block takes its keys from a block below. So the
engine's numbers are compared with the plain ones: one row at a time, no padding, no cache, the
model's own forward pass and autograd. The model then runs in the fastest way that gives them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import transformers
from torch import nn

from smedit.engine.batches import TokenBatch, token_batch
from smedit.engine.execution import Execution
from smedit.engine.frozen_states import FrozenStates
from smedit.engine.tokenization import TokenizedPrompt
from smedit.engine.tracing import answer_loss, trace
from smedit.errors import UserError

if TYPE_CHECKING:
    from smedit.engine.language_model import LanguageModel

log = logging.getLogger("smedit")


class Way(NamedTuple):
    """A way to run a model, and what it costs beside the fast one."""

    execution: Execution
    cost: str


WAYS = {
    "fast": Way(Execution(), ""),
    "without prompt cache": Way(
        Execution(prompts_apart=False),
        "prompt tokens run through the edited blocks again in every pass",
    ),
    "whole model": Way(
        Execution(frozen_once=False, prompts_apart=False),
        "all {blocks} blocks run in every pass, the {frozen} below the first edited one, too",
    ),
    "equal lengths": Way(
        Execution(frozen_once=False, prompts_apart=False, answers_only=False, padded=False),
        "all {blocks} blocks run in every pass, and a pass takes sequences of one length only",
    ),
    "row by row": Way(
        Execution(
            frozen_once=False, prompts_apart=False, answers_only=False, padded=False, max_rows=1
        ),
        "all {blocks} blocks run in every pass, and a pass takes one sequence",
    ),
}
"""The fastest first."""

TOLERANCE = 1e-3
"""Largest difference, relative to the largest number, that rounding may make.

On an AMD EPYC the plain value gradients of SmolLM2 in float32 are 1.3e-4 from those in float64, the
fast way's 4e-5: a bound of 1e-4 refused the better ones. What a wrong way changes begins at 4 %.
"""

COARSE = (torch.bfloat16, torch.float16)
COARSE_TOLERANCE = 0.05
"""The same in these types, of the median token: rounding may send single tokens to other experts.

A way that is wrong for an architecture mostly changes numbers by a fifth and more, but by 4 % in
one case (RoFormer). So in these types the test is weaker, and what float32 found is kept.
"""

ROWS = ((3, 1), (4, 2), (5, 1), (11, 3))
"""(prompt tokens, answer tokens) of the rows; two have the same length in all."""

SHIFT = 0.5
"""Norm of the shift that is tried, relative to that of the weight: large enough to be seen."""

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "self_test": 2}
"""What an outcome holds for; the last counts changes of `WAYS` and of what is compared."""

Numbers = dict[str, torch.Tensor]
"""What is compared, by name, over all answer tokens."""


@dataclass(frozen=True)
class SelfTest:
    """What was found.

    Attributes
    ----------
    way
        The key of `WAYS` by which the model runs.
    difference
        The largest relative difference from the plain numbers in this way.
    refused
        Faster way → what was wrong with it.
    seconds
        How long the test took.
    """

    way: str
    difference: float
    refused: dict[str, str]
    seconds: float


def way_of(model: LanguageModel) -> str:
    """The key of `WAYS` by which a model runs."""
    return next(name for name, way in WAYS.items() if way.execution == model.execution)


def choose(model: LanguageModel, fastest: str = "fast") -> SelfTest:
    """Find the fastest way that gives the model's own numbers, and set it.

    Parameters
    ----------
    model
        The model to try.
    fastest
        The first way that is tried.

    Raises
    ------
    UserError
        If there is none, or the model looks ahead of the token that it predicts.
    """
    start = time.perf_counter()
    try:
        batch = token_batch(_rows(model), minibatch=2)
        shifts = _shifts(model)
        expected = _plain_numbers(model, batch, shifts)
        _check_causal(model, batch.sequences[0], expected["logits"])
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"{model.name}: a plain forward and backward pass of a few tokens fails "
            f"({_one_line(error)}); this architecture is not supported"
        ) from error
    refused: dict[str, str] = {}
    for way in list(WAYS)[list(WAYS).index(fastest) :]:
        execution, cost = WAYS[way]
        model.execution, model.states = execution, FrozenStates(model.owner)
        problem, difference = _compare(model, batch, shifts, expected)
        model.states = FrozenStates(model.owner)
        if not problem:
            if refused:
                log.warning(
                    "%s: this architecture does not allow the fast path (%s); it runs another way "
                    "(%s): %s",
                    *(model.name, refused[fastest], way),
                    cost.format(blocks=len(model.blocks), frozen=model.first_block),
                )
            return SelfTest(way, difference, refused, time.perf_counter() - start)
        refused[way] = problem
    raise UserError(
        f"{model.name}: no way to run it gives its own numbers ({refused[way]}), so its scores "
        "would be wrong; use another model or other edit modules"
    )


def _rows(model: LanguageModel) -> list[TokenizedPrompt]:
    """Rows of ordinary tokens: special ones stand at the ends of a vocabulary."""
    known = model.model.config.get_text_config(decoder=True).to_dict().get("vocab_size")
    size = min(model.vocabulary, known or model.vocabulary)
    low, high = size // 8, max(size // 2, size // 8 + 1)
    sizes = [(p, a) for p, a in ROWS if not model.context or p + a - 1 <= model.context]
    if len(sizes) < 2:
        raise UserError(f"{model.name}: its context of {model.context} tokens is too short to edit")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for n_prompt, n_answer in sizes:
        ids = torch.randint(low, high, (n_prompt + n_answer,), generator=generator).tolist()
        rows.append(TokenizedPrompt(tuple(ids[:-1]), tuple(ids[n_prompt:])))
    return rows


def _shifts(model: LanguageModel) -> Numbers:
    generator = torch.Generator().manual_seed(1)
    shifts = {}
    for name, module in model.edit_modules.items():
        shift = torch.randn(model.shape(name), generator=generator).to(model.device)
        shifts[name] = shift * (SHIFT * module.weight.float().norm() / shift.norm())
    return shifts


# --- the plain numbers ----------------------------------------------------------------------------


def _plain_numbers(model: LanguageModel, batch: TokenBatch, shifts: Mapping[str, Any]) -> Numbers:
    """The model's own numbers: row by row, by its own forward pass and autograd."""
    parts: dict[str, list[torch.Tensor]] = {}
    done = 0
    for sequence in batch.sequences:
        n = len(sequence.answer_ids)
        labels = torch.tensor(sequence.answer_ids, device=model.device)
        weights = batch.weights[done : done + n].to(model.device)
        done += n
        with _watched(model) as (keys, probes), torch.enable_grad():
            logits = _plain_logits(model, sequence.input_ids)[-n:]
            loss = answer_loss(logits, labels, weights)
            gradients = torch.autograd.grad(loss, list(probes.values()))
        with _shifted(model, shifts), torch.no_grad():
            shifted = _plain_logits(model, sequence.input_ids)[-n:]
        found = {"logits": logits.detach(), "logits after a shift": shifted}
        found |= {f"keys of {name}": key.flatten(0, -2)[-n:] for name, key in keys.items()}
        for name, gradient in zip(probes, gradients, strict=True):
            found[f"value gradients of {name}"] = gradient.flatten(0, -2)[-n:]
        for name in model.edit_modules:
            if name not in keys:
                raise UserError(
                    f"{model.name}: edit module {name!r} takes no part in some passes (an expert "
                    "of a mixture?); choose a module that sees all tokens"
                )
        for name, numbers in found.items():
            parts.setdefault(name, []).append(numbers.float())
    numbers = {name: torch.cat(part) for name, part in parts.items()}
    for name, values in numbers.items():
        # A logit of −∞ rules a token out.
        if values.isnan().any() or values.isposinf().any():
            raise UserError(f"{model.name}: its {name} are not finite on a few ordinary tokens")
    return numbers


def _plain_logits(model: LanguageModel, input_ids: tuple[int, ...]) -> torch.Tensor:
    """(tokens, vocabulary) of one sequence."""
    no_cache = {"use_cache": False} if model.takes("use_cache") else {}
    return model.model(torch.tensor([input_ids], device=model.device), **no_cache).logits[0]


@contextmanager
def _watched(model: LanguageModel) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield what will hold the edit modules' inputs, and zeros added to their outputs.

    The gradient of a loss with respect to such zeros is that with respect to the output.
    """
    keys: Numbers = {}
    probes: Numbers = {}

    def hook(name: str, module_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        keys[name] = module_input.detach().clone()
        probes[name] = torch.zeros_like(output, requires_grad=True)
        return output + probes[name]

    with _hooked(model, hook):
        yield keys, probes


@contextmanager
def _shifted(model: LanguageModel, shifts: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Add to each edit module's output what a shift of its weight adds."""

    def hook(name: str, module_input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output + (module_input.float() @ shifts[name]).to(output.dtype)

    with _hooked(model, hook):
        yield


@contextmanager
def _hooked(model: LanguageModel, hook: Any) -> Iterator[None]:
    handles = []
    for name, module in model.edit_modules.items():

        def forward(
            _: nn.Module, args: tuple, output: torch.Tensor, name: str = name
        ) -> torch.Tensor:
            return hook(name, args[0], output)

        handles.append(module.register_forward_hook(forward))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_causal(model: LanguageModel, sequence: TokenizedPrompt, logits: torch.Tensor) -> None:
    """A model that sees the answer predicts it without knowing it."""
    n = len(sequence.answer_ids)
    with torch.no_grad():
        prompt_only = _plain_logits(model, sequence.input_ids[: len(sequence.input_ids) - n + 1])
    difference = relative_difference(prompt_only[-1:].float(), logits[:1])
    if difference > _tolerance(model):
        raise UserError(
            f"{model.name}: what it predicts depends on later tokens (by {100 * difference:.2g} "
            "%), so it is no causal language model; an encoder needs is_decoder: true in its "
            "config.json"
        )


# --- the engine's numbers -------------------------------------------------------------------------


def _compare(
    model: LanguageModel, batch: TokenBatch, shifts: Numbers, expected: Numbers
) -> tuple[str, float]:
    """What is wrong with the way that is set (empty if nothing is), and the largest difference."""
    try:
        found = _engine_numbers(model, batch, shifts)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever an architecture's code does with what it does not expect
        what = "its prompts cannot run apart" if model.execution.prompts_apart else "the pass fails"
        return f"{what}: {_one_line(error)}", math.nan
    coarse = model.dtype in COARSE
    differences = {
        name: relative_difference(found[name], numbers, coarse)
        for name, numbers in expected.items()
    }
    worst = max(differences, key=differences.__getitem__)
    if differences[worst] <= _tolerance(model):
        return "", differences[worst]
    return f"{worst} differ by {100 * differences[worst]:.2g} % of the largest", differences[worst]


def _engine_numbers(model: LanguageModel, batch: TokenBatch, shifts: Numbers) -> Numbers:
    traced = trace(model, batch, {})
    with torch.no_grad():
        chunks = list(model.chunks(batch))
        numbers = {
            "logits": torch.cat([model.logits(chunk, {}) for chunk in chunks]),
            "logits after a shift": torch.cat([model.logits(chunk, shifts) for chunk in chunks]),
        }
        unedited = torch.cat([model.unedited_logits(chunk) for chunk in chunks])
    coarse = model.dtype in COARSE
    if relative_difference(unedited.float(), numbers["logits"].float(), coarse) > _tolerance(model):
        raise ValueError("the unedited logits are not those of the edited part without a shift")
    for name in model.edit_modules:
        numbers[f"keys of {name}"] = traced.keys[name]
        numbers[f"value gradients of {name}"] = traced.gradients[name]
    return {name: values.float() for name, values in numbers.items()}


def relative_difference(
    found: torch.Tensor, expected: torch.Tensor, of_median_token: bool = False
) -> float:
    """Difference of (tokens, width), relative to the largest expected number.

    Numbers that are equal in both are left out: masked logits are huge. The largest difference of
    any token, or that of the median token. Infinite if the shapes differ or a number is not finite.
    """
    if found.shape != expected.shape:
        return math.inf
    other = found != expected
    if not other.any():
        return 0.0
    difference = torch.where(other, (found - expected).abs(), 0.0).amax(-1)
    worst = difference.median() if of_median_token else difference.max()
    relative = (worst / expected[other].abs().max()).item()
    return relative if math.isfinite(relative) else math.inf


def _tolerance(model: LanguageModel) -> float:
    return COARSE_TOLERANCE if model.dtype in COARSE else TOLERANCE


def _one_line(error: Exception) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= 150 else f"{text[:150]}…"
