"""What editing does to the rest of the model: its loss on a text that no edit touches.

The text is the suite's own (``data/prose.txt``): 40 paragraphs of six lines on everyday matters,
without names, numbers or facts of the kind that are edited. The last line of each paragraph is
scored, given its first five.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.resources import files

import torch
from torch.nn.functional import cross_entropy

from smedit.engine.batches import token_batch
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.tokenization import TokenizedPrompt, tokenize
from smedit.errors import DivergedError, UserError

log = logging.getLogger("smedit")

CONTEXT_LINES = 5


def paragraphs() -> list[tuple[str, str]]:
    """(context, continuation) of every paragraph of the text."""
    text = files("smedit.data").joinpath("prose.txt").read_text(encoding="utf-8")
    cut = [paragraph.splitlines() for paragraph in text.strip().split("\n\n")]
    return [(" ".join(p[:CONTEXT_LINES]), " ".join(p[CONTEXT_LINES:])) for p in cut]


class HeldOutText:
    """Measures a model's loss on the text. Perplexity is exp(Σ loss / Σ tokens).

    Parameters
    ----------
    model
        The language model.

    Raises
    ------
    UserError
        If a paragraph is longer than the model's context; see `text_that_fits`.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        sequences = [tokenize(model.tokenizer, *paragraph) for paragraph in paragraphs()]
        self._batch = token_batch(sequences, minibatch=len(sequences))
        longest = len(self._batch.sequences[0].input_ids)
        if model.context is not None and longest > model.context:
            raise UserError(
                f"{model.name}: the held-out text, which streams need, takes {longest} tokens, "
                f"the model's context {model.context}"
            )

    @property
    def sequences(self) -> Sequence[TokenizedPrompt]:
        """One sequence per paragraph."""
        return self._batch.sequences

    @torch.no_grad()
    def losses(self, shifts: Shifts) -> list[tuple[float, int]]:
        """Per paragraph: the sum of −log p over its scored tokens on W₀ + shifts, and their count.

        Raises
        ------
        DivergedError
            If a sum is not finite.
        """
        measured: list[tuple[float, int]] = []
        model = self._model
        for chunk in model.chunks(self._batch):
            logits = model.logits(chunk, shifts) if shifts else model.unedited_logits(chunk)
            losses = cross_entropy(logits.float(), chunk.labels, reduction="none").double().cpu()
            if not losses.isfinite().all():
                raise DivergedError("non-finite loss on the held-out text; try a smaller lr")
            counts = [len(s.answer_ids) for s in chunk.sequences]
            parts = losses.split(counts)
            measured += [(part.sum().item(), n) for part, n in zip(parts, counts, strict=True)]
        return measured


def text_that_fits(model: LanguageModel, needed: bool) -> HeldOutText | None:
    """Return the held-out text, or None and a line in the log if it is too long for the model.

    Raises
    ------
    UserError
        If it is too long and needed.
    """
    try:
        return HeldOutText(model)
    except UserError as error:
        if needed:
            remedy = "leave its streams out, or use a model with a longer one"
            raise UserError(f"{error}; {remedy}") from error
        log.warning("%s; no perplexity is measured", error)
        return None
