"""Edited model + edit prompts → its own answers, by greedy decoding.

A teacher-forced score sees one token at a time, each behind the right ones. What a user sees is
this: whether the answer comes, and whether it stops (arXiv 2502.11177, 2507.05937).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from smedit.data.facts import EditRequest
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.tokenization import cut
from smedit.errors import UserError, shown

MORE_TOKENS = 8
"""Tokens that are generated beyond those of the answer: enough to see whether it stops."""

ENDS = (".", "!", "?", ";", ",", ")", "\n", "。", "！", "？", "，")  # noqa: RUF001
"""What may stand behind an answer that has stopped."""


@torch.no_grad()
def generate(
    model: LanguageModel,
    shifts: Shifts,
    requests: Sequence[EditRequest],
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, Any]]:
    """Continue the edit prompts of some requests on W₀ + shifts, one by one.

    Returns
    -------
    list of dict
        Per request: ``request`` (its index here), ``tokens`` (those generated), ``answered``
        (whether they begin with the answer) and ``stopped`` (whether the answer is followed by an
        end of the text, a line, a sentence or a clause).
    """
    end = end_tokens(model, tokenizer)
    found = []
    with model.edited(shifts):
        for number, request in enumerate(requests):
            prompt = request.edit
            ids = cut(tokenizer, prompt.text, prompt.between + prompt.answer)
            start = torch.tensor([ids.prompt])
            tokens = _greedy(model, start, len(ids.answer) + MORE_TOKENS, end)
            found.append({"request": number, **judged(tokenizer, tokens, prompt.answer, end)})
    return found


def _greedy(
    model: LanguageModel, start: torch.Tensor, max_new_tokens: int, end: set[int]
) -> list[int]:
    """The tokens that a model adds to some (1, T)."""
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(end) or None,
        pad_token_id=min(end, default=0),
    )
    mask = torch.ones_like(start)
    given = {"attention_mask": mask.to(model.device)} if model.takes("attention_mask") else {}
    own = model.model.generation_config  # what is not set here would come from there
    model.model.generation_config = settings
    try:
        output = model.model.generate(start.to(model.device), generation_config=settings, **given)
    finally:
        model.model.generation_config = own
    return output[0, start.shape[1] :].tolist()


def judged(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], answer: str, end: set[int]
) -> dict[str, Any]:
    """What `generate` says of the tokens generated for one request."""
    ended = bool(tokens) and tokens[-1] in end
    text = tokenizer.decode(tokens[:-1] if ended else tokens).lstrip()
    answered = text.startswith(answer)
    rest = text[len(answer) :] if answered else text
    stopped = answered and ((rest.strip() == "" and ended) or rest.lstrip(" ").startswith(ENDS))
    return {"tokens": list(tokens), "answered": answered, "stopped": bool(stopped)}


def end_tokens(model: LanguageModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a text, as the model and its tokenizer have them."""
    said = (model.model.generation_config.eos_token_id, tokenizer.eos_token_id)
    listed = [ids if isinstance(ids, list) else [ids] for ids in said]
    return {token for ids in listed for token in ids if token is not None}


@torch.no_grad()
def continued(model: LanguageModel, shifts: Shifts, text: str, max_new_tokens: int) -> str:
    """Continue a text on W₀ + shifts by greedy decoding; what is new of it.

    Raises
    ------
    UserError
        If the text has no tokens, or does not fit the model's context.
    """
    tokenizer = model.tokenizer
    end = end_tokens(model, tokenizer)
    start = tokenizer(text, return_tensors="pt").input_ids
    if start.shape[1] and start[0, -1].item() in end:
        start = start[:, :-1]
    if not start.shape[1]:
        raise UserError(f"the prompt {shown(text)} has no tokens; write some words")
    if model.context is not None and start.shape[1] + max_new_tokens > model.context:
        raise UserError(
            f"{model.name}: the prompt {shown(text)} has {start.shape[1]} tokens, its context is "
            f"{model.context} with the {max_new_tokens} to come; shorten it"
        )
    with model.edited(shifts):
        output = _greedy(model, start, max_new_tokens, end)
    return tokenizer.decode([token for token in output if token not in end])
