import dataclasses

import pytest
import torch

from conftest import make_requests, tiny_tokenizer
from smedit.engine.batches import edit_batch, token_batch, tokenize
from smedit.engine.execution import Execution
from smedit.errors import UserError


def test_answers_are_teacher_forced():
    tokenizer = tiny_tokenizer()
    sequence = tokenize(tokenizer, "w1 w2", "w3 w4 w5")
    assert sequence.input_ids == (2, 3, 4, 5)  # prompt, then all answer tokens but the last
    assert sequence.answer_ids == (4, 5, 6)


def test_empty_answer_is_refused():
    with pytest.raises(UserError, match=r"answer .* has no tokens"):
        tokenize(tiny_tokenizer(), "w1", "")


def test_longest_first_and_ties_keep_their_order():
    tokenizer = tiny_tokenizer()
    texts = ["w1 w2", "w1 w2 w3", "w4 w5", "w6 w7 w8"]
    batch = token_batch([tokenize(tokenizer, t, "w9") for t in texts], minibatch=2)
    assert batch.order == (1, 3, 0, 2)


def test_tokens_weigh_one_over_the_answer_tokens_of_their_minibatch():
    tokenizer = tiny_tokenizer()
    answers = ["w1", "w1 w2", "w1 w2 w3"]
    batch = token_batch([tokenize(tokenizer, "w9 w8", a) for a in answers], minibatch=2)
    # Sorted by length: 3, 2, 1 answer tokens; minibatches of 5 tokens and 1 token.
    assert batch.weights.tolist() == pytest.approx([1 / 5] * 5 + [1])


@pytest.mark.parametrize("max_tokens", [1, 20, 1000])
def test_chunks_hold_every_answer_token_once_and_in_order(max_tokens):
    batch = edit_batch(make_requests(9), tiny_tokenizer(), minibatch=4).edit
    chunks = list(batch.chunks(torch.device("cpu"), Execution(max_tokens=max_tokens)))
    labels = torch.cat([chunk.labels for chunk in chunks]).tolist()
    assert labels == [t for s in batch.sequences for t in s.answer_ids]
    assert torch.equal(torch.cat([chunk.weights for chunk in chunks]), batch.weights)
    for chunk in chunks:
        assert len(chunk.sequences) == 1 or chunk.input_ids.numel() <= max_tokens
        assert chunk.mask.sum().item() == sum(len(s.input_ids) for s in chunk.sequences)
        assert chunk.positions.min() == -chunk.n_answer_columns
        for row, sequence in enumerate(chunk.sequences):
            assert tuple(chunk.input_ids[row][chunk.mask[row] == 1].tolist()) == sequence.input_ids


def test_rows_of_a_chunk_can_be_limited():
    batch = edit_batch(make_requests(9), tiny_tokenizer(), minibatch=4).edit
    chunks = list(batch.chunks(torch.device("cpu"), Execution(max_rows=4)))
    assert [len(chunk.sequences) for chunk in chunks] == [4, 4, 1]


def test_requests_without_a_locality_prompt_are_only_left_out_of_that_batch():
    requests = make_requests(6)
    bare = [dataclasses.replace(r, locality=()) if i % 2 else r for i, r in enumerate(requests)]
    batch = edit_batch(bare, tiny_tokenizer(), minibatch=2)
    half = edit_batch(requests[::2], tiny_tokenizer(), minibatch=2)
    assert batch.locality.sequences == half.locality.sequences
    assert len(batch.edit.sequences) == len(batch.paraphrase.sequences) == 6
    assert batch.locality.weights.sum() == pytest.approx(2)  # two minibatches of the three


def test_a_batch_may_have_no_locality_prompt_at_all():
    requests = [dataclasses.replace(r, locality=()) for r in make_requests(3)]
    locality = edit_batch(requests, tiny_tokenizer(), minibatch=2).locality
    assert locality.sequences == ()
    assert list(locality.chunks(torch.device("cpu"), Execution())) == []
