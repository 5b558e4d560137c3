"""A prepared model is tried before anything is measured on it: its tokenizer, then its numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smedit.engine.language_model import LanguageModel
from smedit.engine.memory import available_mb
from smedit.engine.self_test import VERSIONS
from smedit.engine.tokenization import cut
from smedit.errors import UserError

log = logging.getLogger("smedit")

TEXTS = (("The capital of France is", " Paris"), ("Who wrote Hamlet in 1601?", " Shakespeare"))
"""Prompts, and answers as they follow them."""

NEEDED = 1.5
"""Memory that the self-test needs, in units of the weights in float32."""


def try_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer tells answers from prompts; log if it does so in the joint text only.

    Raises
    ------
    UserError
        If it does not.
    """
    for prompt, answer in TEXTS:
        try:
            ids = cut(tokenizer, prompt, answer)
        except UserError as error:
            raise UserError(f"model {name!r}: {error}") from error
        if not ids.prompt or not ids.answer:
            raise UserError(
                f"model {name!r}: its tokenizer finds no tokens in {(prompt + answer)!r}; restore "
                "its files"
            )
        alone = [tokenizer(prompt).input_ids, tokenizer(answer, add_special_tokens=False).input_ids]
        if alone != [ids.prompt, ids.answer]:
            log.info(
                "model %s: its tokenizer gives a text other tokens on its own than in its place; "
                "the tokens of answers are cut from the joint texts",
                name,
            )
            return


def try_model(
    name: str, n_parameters: int, load: Callable[[], PreTrainedModel], edit_modules: Sequence[str]
) -> dict[str, Any] | None:
    """Run `smedit.engine.self_test` on float32 weights.

    Returns
    -------
    dict or None
        JSON-ready: ``edit_modules``, ``versions`` and what `smedit.engine.self_test.SelfTest`
        holds. None if the memory at hand is not enough; `smedit.run.freeze` then tries the
        model, in the type it has there.

    Raises
    ------
    UserError
        If the model cannot be run so that its numbers are right.
    """
    needed = NEEDED * n_parameters * 4 / 1e6
    if needed > available_mb():
        log.warning(
            "model %s: trying it in float32 needs about %.0f MB, %.0f are free; freeze tries it",
            *(name, needed, available_mb()),
        )
        return None
    tested = LanguageModel(load(), None, edit_modules, name).tested
    log.info(
        "model %s: its own numbers to %.0e, %s, found in %.1f s",
        *(name, tested.difference, tested.way, tested.seconds),
    )
    return {"edit_modules": list(edit_modules), "versions": VERSIONS, **asdict(tested)}
