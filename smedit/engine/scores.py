"""Edited model + requests → efficacy, generalization and specificity, row by row.

A row is one prompt of one request. Scores (arXiv 2508.04012, section 5.1):

- ``accuracy`` (ZsRE): fraction of the answer's tokens that are the argmax, teacher-forced.
- ``token_success`` (CounterFact): over the first min(|own|, |other|) answer positions,
  teacher-forced on the own answer, the fraction where the own token is likelier than the other
  answer's token. The released code's score, freed of its dependence on how rows are batched.
- ``sequence_success`` (CounterFact; ROME, MEMIT): whether the mean negative log-likelihood per
  token of the own answer is below the other's, each teacher-forced on itself.
- ``exact_match`` (both, of edit and paraphrase prompts): whether every answer token is the argmax,
  teacher-forced. Greedy decoding then gives this answer (arXiv 2502.11177, 2507.05937).
- ``agreement`` (both, of locality prompts): fraction of the answer positions where the argmax is
  the unedited model's; 1 before any edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from smedit.data.facts import EditRequest, Prompt
from smedit.engine.batches import token_batch
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.tokenization import TokenizedPrompt, Tokenizer, tokenize
from smedit.errors import DivergedError


@dataclass(frozen=True)
class RowScore:
    """One score of one row; ``request`` is the index of its edit request, value in [0, 1]."""

    metric: str
    score: str
    request: int
    value: float


UneditedAnswers = list[list[list[int]]]
"""Per request and locality prompt: the token that the unedited model finds likeliest at each answer
position."""


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
    """Per token of a query: its log-likelihood, and the likeliest token in its place.

    Lists, as many small tensors between the large ones that come and go would scatter memory.
    """

    log_likelihood: list[float]
    likeliest: list[int]


class Scorer:
    """Scores a fixed list of requests, before and after editing.

    Answers of one token share their forward pass with the other answer's: the inputs are equal.

    Parameters
    ----------
    requests
        Every paraphrase and locality prompt of each is scored.
    tokenizer
        The model's.
    unedited
        What `score_unedited` gave for these requests. Without it there is no ``agreement``.
    """

    def __init__(
        self,
        requests: Sequence[EditRequest],
        tokenizer: Tokenizer,
        unedited: UneditedAnswers | None = None,
    ) -> None:
        self._unedited = unedited
        self._said: dict[_Query, _Answer] = {}
        inputs: dict[tuple[tuple[int, ...], int], int] = {}
        sequences: list[TokenizedPrompt] = []

        def query(prompt: Prompt, answer: str) -> _Query:
            sequence = tokenize(tokenizer, prompt.text, answer, prompt.between)
            key = sequence.forward_key
            if key not in inputs:
                inputs[key] = len(sequences)
                sequences.append(sequence)
            return _Query(inputs[key], sequence.answer_ids)

        self._n_requests = len(requests)
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

    def score_unedited(self, model: LanguageModel) -> tuple[list[RowScore], UneditedAnswers]:
        """Score every row on W₀, and keep what the model answers there to locality prompts."""
        answers = self._answer(model, {})
        self._unedited = self._likeliest(answers, "specificity")
        return self._scores(answers), self._unedited

    def score(self, model: LanguageModel, shifts: Shifts) -> list[RowScore]:
        """Score every row on W₀ + shifts; empty shifts score the unedited model."""
        self._said = self._answer(model, shifts)
        return self._scores(self._said)

    def says(self) -> dict[str, list[list[list[int]]]]:
        """What the model says instead, in the latest `score`.

        Returns
        -------
        dict
            ``efficacy`` and ``generalization``: per request and prompt, the likeliest token at each
            position of the answer, teacher-forced.
        """
        return {name: self._likeliest(self._said, name) for name in ("efficacy", "generalization")}

    def _scores(self, answers: Mapping[_Query, _Answer]) -> list[RowScore]:
        theirs = (tokens for request in self._unedited or () for tokens in request)
        scores: list[RowScore] = []
        for row in self._rows:
            own = answers[row.own]
            correct = [a == b for a, b in zip(own.likeliest, row.own.token_ids, strict=True)]
            if row.rival is None or row.other is None:
                values = {"accuracy": fmean(correct)}
            else:
                rival, other = answers[row.rival].log_likelihood, answers[row.other]
                wins = [a > b for a, b in zip(own.log_likelihood, rival, strict=False)]
                values = {
                    "token_success": fmean(wins),
                    "sequence_success": float(
                        fmean(own.log_likelihood) > fmean(other.log_likelihood)
                    ),
                }
            if row.metric != "specificity":
                values["exact_match"] = float(all(correct))
            elif self._unedited is not None:
                same = [a == b for a, b in zip(own.likeliest, next(theirs), strict=True)]
                values["agreement"] = fmean(same)
            scores += [RowScore(row.metric, name, row.request, v) for name, v in values.items()]
        return scores

    def _likeliest(self, answers: Mapping[_Query, _Answer], metric: str) -> list[list[list[int]]]:
        """Per request and prompt of a metric: the likeliest token at each answer position."""
        likeliest: list[list[list[int]]] = [[] for _ in range(self._n_requests)]
        for row in self._rows:
            if row.metric == metric:
                likeliest[row.request].append(answers[row.own].likeliest)
        return likeliest

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
                    answers[query] = _Answer(likelihood.tolist(), best[at].tolist())
                start += len(sequence.answer_ids)
        return answers


def by_request(rows: Sequence[RowScore]) -> list[dict[str, Any]]:
    """Per metric and score: the values of each request's rows, in the order of the requests.

    A request without a locality prompt has no values of specificity, but keeps its place.
    """
    n_requests = 1 + max((row.request for row in rows), default=-1)
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        key = row.metric, row.score
        if key not in groups:
            groups[key] = [[] for _ in range(n_requests)]
        groups[key][row.request].append(row.value)
    return [
        {"metric": metric, "score": score, "rows": values}
        for (metric, score), values in groups.items()
    ]
