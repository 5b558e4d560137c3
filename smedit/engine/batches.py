"""Prompts and answers → token batches with one loss weight per answer token.

Source: arXiv 2508.04012, section 4.1 (losses), and the authors' released code for the order of
rows and the averaging of minibatches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from smedit.data.facts import EditRequest, Prompt
from smedit.engine.execution import MAX_TOKENS, Execution
from smedit.engine.tokenization import TokenizedPrompt, Tokenizer, tokenize


@dataclass(frozen=True)
class Chunk:
    """Consecutive sequences of a batch, padded on the left, for one forward pass.

    So all sequences end with the last column, and answers stand in the last ``n_answer_columns``.

    Attributes
    ----------
    sequences
        The B sequences, in batch order.
    input_ids
        (B, T) token ids; padding is 0.
    mask
        (B, T) 1 at tokens, 0 at padding.
    rows, positions
        (n,) where the answer tokens of this chunk are predicted. Positions count from the end: −1
        is the last column.
    labels
        (n,) the answer tokens.
    weights
        (n,) float32 loss weights.
    """

    sequences: tuple[TokenizedPrompt, ...]
    input_ids: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor

    @property
    def n_answer_columns(self) -> int:
        """The last columns that hold all positions where answer tokens are predicted."""
        return max(len(s.answer_ids) for s in self.sequences)

    def at_answers(self, states: torch.Tensor) -> torch.Tensor:
        """Pick (n, width) out of the states (B, columns, width) of the last columns.

        Some blocks flatten theirs to (B · columns, width); these are taken as well.
        """
        by_row = states.reshape(len(self.sequences), -1, states.shape[-1])
        return by_row[self.rows, self.positions]


@dataclass(frozen=True)
class TokenBatch:
    """Sequences in minibatch order, and a loss weight for each answer token.

    A loss is the mean over the answer tokens of a minibatch, summed over minibatches. So a token
    weighs 1 / (answer tokens of its minibatch), whatever the physical batch it travels in.

    Attributes
    ----------
    sequences
        The sequences, longest first.
    order
        ``order[i]`` is the index of ``sequences[i]`` in the list that was batched.
    weights
        (N,) float32, one per answer token, in the order of ``sequences``.
    """

    sequences: tuple[TokenizedPrompt, ...]
    order: tuple[int, ...]
    weights: torch.Tensor

    def chunks(self, device: torch.device, execution: Execution) -> Iterator[Chunk]:
        """Cut into physical batches as ``execution`` wants them; each has at least one row.

        Concatenating the chunks' answer tokens gives the batch's, in order.
        """
        max_tokens = execution.max_tokens or MAX_TOKENS[device.type]
        start, done = 0, 0
        while start < len(self.sequences):
            length = len(self.sequences[start].input_ids)
            n_rows = max(1, max_tokens // length)
            part = self.sequences[start : start + min(n_rows, execution.max_rows or n_rows)]
            if not execution.padded:  # the longest come first, so equal lengths are neighbours
                part = tuple(s for s in part if len(s.input_ids) == length)
            n_answers = sum(len(s.answer_ids) for s in part)
            yield _pad(part, self.weights[done : done + n_answers], device)
            start, done = start + len(part), done + n_answers


def _pad(
    sequences: tuple[TokenizedPrompt, ...], weights: torch.Tensor, device: torch.device
) -> Chunk:
    width = max(len(s.input_ids) for s in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    rows, positions, labels = [], [], []
    for row, sequence in enumerate(sequences):
        length, n_answers = len(sequence.input_ids), len(sequence.answer_ids)
        input_ids[row, width - length :] = torch.tensor(sequence.input_ids)
        mask[row, width - length :] = 1
        rows += [row] * n_answers
        positions += range(-n_answers, 0)
        labels += sequence.answer_ids
    return Chunk(
        sequences,
        input_ids.to(device),
        mask.to(device),
        torch.tensor(rows, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(labels, device=device),
        weights.to(device),
    )


def token_batch(sequences: Sequence[TokenizedPrompt], minibatch: int) -> TokenBatch:
    """Sort sequences (longest first, ties in their order), cut into minibatches and weigh tokens.

    Parameters
    ----------
    sequences
        What to batch; none give an empty batch.
    minibatch
        Rows that share one loss average; 4 in the paper.
    """
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i].input_ids))
    ordered = tuple(sequences[i] for i in order)
    weights: list[float] = []
    for start in range(0, len(ordered), minibatch):
        n_answers = sum(len(s.answer_ids) for s in ordered[start : start + minibatch])
        weights += [1 / n_answers] * n_answers
    return TokenBatch(ordered, tuple(order), torch.tensor(weights))


@dataclass(frozen=True)
class EditBatch:
    """Token batches of the edit requests that are edited together.

    Training uses the first paraphrase and the first locality prompt of each request. ``locality``
    lacks the requests that have no locality prompt, and may be empty.
    """

    edit: TokenBatch
    paraphrase: TokenBatch
    locality: TokenBatch


def edit_batch(requests: Sequence[EditRequest], tokenizer: Tokenizer, minibatch: int) -> EditBatch:
    """Tokenize and batch the edit, paraphrase and locality prompts, each sorted by itself."""
    return EditBatch(
        edit=prompt_batch([r.edit for r in requests], tokenizer, minibatch),
        paraphrase=prompt_batch([r.paraphrases[0] for r in requests], tokenizer, minibatch),
        locality=prompt_batch(
            [r.locality[0] for r in requests if r.locality], tokenizer, minibatch
        ),
    )


def prompt_batch(prompts: Sequence[Prompt], tokenizer: Tokenizer, minibatch: int) -> TokenBatch:
    """Tokenize and batch prompts with their answers."""
    sequences = [tokenize(tokenizer, p.text, p.answer, p.between) for p in prompts]
    return token_batch(sequences, minibatch)
