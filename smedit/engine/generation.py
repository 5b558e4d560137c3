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
            start = torch.tensor([ids.prompt], device=model.device)
            settings = GenerationConfig(
                max_new_tokens=len(ids.answer) + MORE_TOKENS,
                do_sample=False,
                eos_token_id=sorted(end) or None,
                pad_token_id=min(end, default=0),
            )
            mask = torch.ones_like(start)
            given = {"attention_mask": mask} if model.takes("attention_mask") else {}
            output = model.model.generate(start, generation_config=settings, **given)
            tokens = output[0, start.shape[1] :].tolist()
            found.append({"request": number, **judged(tokenizer, tokens, prompt.answer, end)})
    return found


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
