import dataclasses
import math

import pytest
import torch

from conftest import make_model, make_requests
from smedit.batches import tokenize
from smedit.facts import EditRequest, Prompt
from smedit.scores import Scorer, by_request


def log_likelihoods(model, text, answer):
    """Per answer token log-probabilities over the vocabulary, by a plain forward pass."""
    sequence = tokenize(model.tokenizer, text, answer)
    logits = model.model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
    return logits[-len(sequence.answer_ids) :].log_softmax(-1), sequence.answer_ids


def test_accuracy_row_by_row():
    model = make_model()
    requests = make_requests(5)
    rows = Scorer(requests, model.tokenizer).score(model, {})
    efficacy = [row for row in rows if row.metric == "efficacy"]
    assert [row.request for row in efficacy] == [0, 1, 2, 3, 4]
    for row, request in zip(efficacy, requests, strict=True):
        table, ids = log_likelihoods(model, request.edit.text, request.edit.answer)
        correct = [int(line.argmax()) == token for line, token in zip(table, ids, strict=True)]
        assert row.score == "accuracy"
        assert row.value == pytest.approx(sum(correct) / len(correct))
    assert sum(row.metric == "generalization" for row in rows) == 10  # two paraphrases each


def test_token_and_sequence_success_row_by_row():
    model = make_model("gpt2")
    requests = make_requests(6, competing=True)
    rows = Scorer(requests, model.tokenizer).score(model, {})
    values = {(r.request, r.score): r.value for r in rows if r.metric == "specificity"}
    for i, request in enumerate(requests):
        prompt = request.locality[0]
        own, own_ids = log_likelihoods(model, prompt.text, prompt.answer)
        other, other_ids = log_likelihoods(model, prompt.text, prompt.other_answer)
        n = min(len(own_ids), len(other_ids))
        wins = [own[j, own_ids[j]] > own[j, other_ids[j]] for j in range(n)]
        assert values[i, "token_success"] == pytest.approx(sum(map(bool, wins)) / n)
        mean = [
            math.fsum(float(table[j, ids[j]]) for j in range(len(ids))) / len(ids)
            for table, ids in ((own, own_ids), (other, other_ids))
        ]
        assert values[i, "sequence_success"] == float(mean[0] > mean[1])


def test_a_shared_prompt_is_scored_against_each_request_s_own_rival():
    model = make_model()
    shared = [Prompt("w1 w2", "w3", other) for other in ("w4", "w5", "w3")]
    requests = [
        EditRequest("s", Prompt("w7", "w8", "w9"), (Prompt("w6", "w8", "w9"),), (prompt,), None)
        for prompt in shared
    ]
    rows = Scorer(requests, model.tokenizer).score(model, {})
    values = [r.value for r in rows if (r.metric, r.score) == ("specificity", "token_success")]
    table, _ = log_likelihoods(model, "w1 w2", "w3")
    own, *rivals = (
        float(table[0, model.tokenizer.convert_tokens_to_ids(w)]) for w in ("w3", "w4", "w5")
    )
    assert values == [float(own > rivals[0]), float(own > rivals[1]), 0.0]


def test_a_request_without_a_locality_prompt_keeps_its_place():
    model = make_model()
    requests = make_requests(3)
    requests[1] = dataclasses.replace(requests[1], locality=())
    scores = by_request(Scorer(requests, model.tokenizer).score(model, {}))
    lengths = {entry["metric"]: [len(values) for values in entry["rows"]] for entry in scores}
    assert lengths == {
        "efficacy": [1, 1, 1],
        "generalization": [2, 2, 2],
        "specificity": [1, 0, 1],
    }
    assert by_request([]) == []
