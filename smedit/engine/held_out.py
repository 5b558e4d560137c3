"""What editing does to the rest of the model, measured on a text that no edit touches.

The text is the suite's own (``data/prose.txt``): 40 paragraphs of six lines on everyday matters,
without names, numbers or facts of the kind that are edited. The last line of each paragraph is
scored: for the perplexity given its first five; for `harm` and `drift`, which are measured far more
often, given the two before it, and on every second paragraph.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.resources import files

import torch
from torch.nn.functional import cross_entropy

from smedit.engine.batches import Chunk, token_batch
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.tokenization import TokenizedPrompt, tokenize
from smedit.errors import DivergedError, UserError

log = logging.getLogger("smedit")

CONTEXT_LINES = 5
"""Lines of a paragraph before the one that is scored."""

SHORT_CONTEXT = 2
"""How many of them go before the line where harm and drift are measured."""

KEPT_VALUES = 2**27
"""Log-probabilities of the unedited model that are kept between two measurements: 512 MB."""

PARTS = {"tune": 0, "eval": 1}
"""Rows → which paragraphs stand beside them: what chooses sees the even ones, what is reported the
odd ones."""


def paragraphs(context: int = CONTEXT_LINES) -> list[tuple[str, str]]:
    """(context, continuation) of every paragraph, with so many lines of context."""
    text = files("smedit.data").joinpath("prose.txt").read_text(encoding="utf-8")
    cut = [paragraph.splitlines() for paragraph in text.strip().split("\n\n")]
    return [
        (" ".join(p[CONTEXT_LINES - context : CONTEXT_LINES]), " ".join(p[CONTEXT_LINES:]))
        for p in cut
    ]


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


class HarmText:
    """Measures harm and drift: how an edit changes the model on the text.

    Harm is the loss above the unedited model's, drift KL(unedited ‖ edited); both in nats per
    token, over all scored tokens.

    Parameters
    ----------
    model
        The language model.
    part
        ``tune`` or ``eval``; see `PARTS`.

    Raises
    ------
    UserError
        If a paragraph is longer than the model's context.
    """

    def __init__(self, model: LanguageModel, part: str) -> None:
        self._model = model
        texts = paragraphs(SHORT_CONTEXT)[PARTS[part] :: 2]
        sequences = [tokenize(model.tokenizer, *text) for text in texts]
        self._batch = token_batch(sequences, minibatch=len(sequences))
        n_values = sum(len(s.answer_ids) for s in sequences) * model.vocabulary
        self._before: list[torch.Tensor] | None = [] if n_values <= KEPT_VALUES else None
        longest = len(self._batch.sequences[0].input_ids)
        if model.context is not None and longest > model.context:
            raise UserError(
                f"{model.name}: the text where harm is measured has {longest} tokens, its context "
                f"{model.context}; use a model with a longer one"
            )

    @property
    def sequences(self) -> Sequence[TokenizedPrompt]:
        """One sequence per paragraph."""
        return self._batch.sequences

    @torch.no_grad()
    def measure(self, shifts: Shifts) -> list[tuple[float, float, int]]:
        """Measure W₀ + shifts.

        Returns
        -------
        list of tuple
            Per paragraph, in the order of the text: the sum of −log p over its scored tokens, the
            sum of KL(unedited ‖ edited) over them, and their count.

        Raises
        ------
        DivergedError
            If a sum is not finite.
        """
        measured: list[tuple[float, float, int]] = []
        model = self._model
        for number, chunk in enumerate(model.chunks(self._batch)):
            before = self._unedited(number, chunk)
            after = model.logits(chunk, shifts).float().log_softmax(-1) if shifts else before
            losses = -after.gather(1, chunk.labels[:, None])[:, 0].double().cpu()
            drift = (before.exp() * (before - after)).sum(-1).double().cpu()
            if not (losses.isfinite().all() and drift.isfinite().all()):
                raise DivergedError("non-finite loss on the held-out text; try a smaller lr")
            counts = [len(s.answer_ids) for s in chunk.sequences]
            parts = zip(losses.split(counts), drift.split(counts), counts, strict=True)
            measured += [(loss.sum().item(), kl.sum().item(), n) for loss, kl, n in parts]
        places = sorted(range(len(measured)), key=self._batch.order.__getitem__)
        return [measured[place] for place in places]

    def _unedited(self, number: int, chunk: Chunk) -> torch.Tensor:
        """Log-probabilities (n, vocabulary) of the unedited model; kept, if they are not many."""
        if self._before is not None and number < len(self._before):
            return self._before[number]
        log_p = self._model.unedited_logits(chunk).float().log_softmax(-1)
        if self._before is not None:
            self._before.append(log_p)
        return log_p


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
