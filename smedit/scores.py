"""Edited model + requests → efficacy, generalization and specificity, row by row.

A row is one prompt of one request. Scores (arXiv 2508.04012, section 5.1):

- ``accuracy`` (ZsRE): fraction of the answer's tokens that are the argmax, teacher-forced.
- ``token_success`` (CounterFact): over the first min(|own|, |other|) answer positions,
  teacher-forced on the own answer, the fraction where the own token is likelier than the other
  answer's token. The released code's score, freed of its dependence on how rows are batched.
- ``sequence_success`` (CounterFact; ROME, MEMIT): whether the mean negative log-likelihood per
  token of the own answer is below the other's, each teacher-forced on itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from smedit.batches import token_batch
from smedit.errors import DivergedError
from smedit.facts import EditRequest, Prompt
from smedit.language_model import LanguageModel, Shifts
from smedit.tokenization import TokenizedPrompt, Tokenizer, tokenize


@dataclass(frozen=True)
class RowScore:
    """One score of one row; ``request`` is the index of its edit request, value in [0, 1]."""

    metric: str
    score: str
    request: int
    value: float


@dataclass(frozen=True)
class _Query:
    """Tokens whose likelihood is asked for at the answer positions of one forward pass."""

    inputs: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Row:
    metric: str
    request: int
    own: _Query
    rival: _Query | None  # the other answer's tokens at the own answer's positions
    other: _Query | None  # the other answer, teacher-forced on itself


@dataclass(frozen=True)
class _Answer:
    """Per token of a query: its log-likelihood, and whether it is the argmax.

    Lists, as many small tensors between the large ones that come and go would scatter memory.
    """

    log_likelihood: list[float]
    correct: list[bool]


class Scorer:
    """Scores a fixed list of requests, before and after editing.

    Answers of one token share their forward pass with the other answer's: the inputs are equal.

    Parameters
    ----------
    requests
        Every paraphrase and locality prompt of each is scored.
    tokenizer
        The model's.
    """

    def __init__(self, requests: Sequence[EditRequest], tokenizer: Tokenizer) -> None:
        inputs: dict[tuple[tuple[int, ...], int], int] = {}
        sequences: list[TokenizedPrompt] = []

        def query(prompt: Prompt, answer: str) -> _Query:
            sequence = tokenize(tokenizer, prompt.text, answer, prompt.between)
            key = sequence.forward_key
            if key not in inputs:
                inputs[key] = len(sequences)
                sequences.append(sequence)
            return _Query(inputs[key], sequence.answer_ids)

        self._rows: list[_Row] = []
        for number, request in enumerate(requests):
            prompts = {
                "efficacy": (request.edit,),
                "generalization": request.paraphrases,
                "specificity": request.locality,
            }
            for metric, group in prompts.items():
                for prompt in group:
                    own, rival, other = query(prompt, prompt.answer), None, None
                    if prompt.other_answer is not None:
                        other = query(prompt, prompt.other_answer)
                        rival = _Query(own.inputs, other.token_ids[: len(own.token_ids)])
                    self._rows.append(_Row(metric, number, own, rival, other))
        self._batch = token_batch(sequences, minibatch=len(sequences))
        self._queries: dict[int, set[_Query]] = {}
        for row in self._rows:
            for asked in filter(None, (row.own, row.rival, row.other)):
                self._queries.setdefault(asked.inputs, set()).add(asked)

    @property
    def sequences(self) -> tuple[TokenizedPrompt, ...]:
        """One sequence for every forward pass that scoring runs."""
        return self._batch.sequences

    def score(self, model: LanguageModel, shifts: Shifts) -> list[RowScore]:
        """Score every row on W₀ + shifts; empty shifts score the unedited model."""
        answers = self._answer(model, shifts)
        scores: list[RowScore] = []
        for row in self._rows:
            own = answers[row.own]
            if row.rival is None or row.other is None:
                values = {"accuracy": fmean(own.correct)}
            else:
                rival, other = answers[row.rival].log_likelihood, answers[row.other]
                wins = [a > b for a, b in zip(own.log_likelihood, rival, strict=False)]
                values = {
                    "token_success": fmean(wins),
                    "sequence_success": float(
                        fmean(own.log_likelihood) > fmean(other.log_likelihood)
                    ),
                }
            scores += [RowScore(row.metric, name, row.request, v) for name, v in values.items()]
        return scores

    @torch.no_grad()
    def _answer(self, model: LanguageModel, shifts: Shifts) -> dict[_Query, _Answer]:
        answers: dict[_Query, _Answer] = {}
        order = iter(self._batch.order)
        for chunk in model.chunks(self._batch):
            logits = model.logits(chunk, shifts) if shifts else model.unedited_logits(chunk)
            log_p = logits.float().log_softmax(-1)
            best = log_p.argmax(-1).cpu()
            start = 0
            for sequence in chunk.sequences:
                for query in self._queries[next(order)]:
                    tokens = torch.tensor(query.token_ids)
                    at = torch.arange(start, start + len(tokens))
                    likelihood = log_p[at.to(log_p.device), tokens.to(log_p.device)]
                    # One logit that is NaN or +∞ makes all log-likelihoods of its token non-finite.
                    if not likelihood.isfinite().all():
                        raise DivergedError("non-finite logits after editing; try a smaller lr")
                    correct = best[at] == tokens
                    answers[query] = _Answer(likelihood.tolist(), correct.tolist())
                start += len(sequence.answer_ids)
        return answers


def by_request(rows: Sequence[RowScore]) -> list[dict[str, Any]]:
    """Per metric and score: the values of each request's rows, in the order of the requests.

    A request without a locality prompt has no values of specificity, but keeps its place.
    """
    n_requests = 1 + max((row.request for row in rows), default=-1)
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        values = groups.setdefault((row.metric, row.score), [[] for _ in range(n_requests)])
        values[row.request].append(row.value)
    return [
        {"metric": metric, "score": score, "rows": values}
        for (metric, score), values in groups.items()
    ]
