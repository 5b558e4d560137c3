import dataclasses
import math

import pytest
import torch

from conftest import make_model, make_requests
from smedit.data.facts import EditRequest, Prompt
from smedit.engine.batches import tokenize
from smedit.engine.scores import Scorer, by_request


def log_likelihoods(model, text, answer):
    """Per answer token log-probabilities over the vocabulary, by a plain forward pass."""
    sequence = tokenize(model.tokenizer, text, answer)
    logits = model.model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
    return logits[-len(sequence.answer_ids) :].log_softmax(-1), sequence.answer_ids


def test_accuracy_row_by_row():
    model = make_model()
    requests = make_requests(5)
    rows = Scorer(requests, model.tokenizer).score(model, {})
    efficacy = [row for row in rows if (row.metric, row.score) == ("efficacy", "accuracy")]
    assert [row.request for row in efficacy] == [0, 1, 2, 3, 4]
    for row, request in zip(efficacy, requests, strict=True):
        table, ids = log_likelihoods(model, request.edit.text, request.edit.answer)
        correct = [int(line.argmax()) == token for line, token in zip(table, ids, strict=True)]
        assert row.value == pytest.approx(sum(correct) / len(correct))
    paraphrases = [row for row in rows if row.metric == "generalization"]
    assert sum(row.score == "accuracy" for row in paraphrases) == 10  # two each


@pytest.mark.parametrize("competing", [False, True])
def test_exact_match_is_what_greedy_decoding_gives(competing):
    model = make_model()
    requests = make_requests(4, competing)
    answers = []
    for request in requests:  # whatever the model says is the right answer for two of them
        inputs = torch.tensor([model.tokenizer(request.edit.text).input_ids])
        said = model.model.generate(inputs, max_new_tokens=2, do_sample=False, pad_token_id=63)
        answers.append(model.tokenizer.decode(said[0, inputs.shape[1] :]))
    requests = [
        dataclasses.replace(r, edit=dataclasses.replace(r.edit, answer=answer)) if i < 2 else r
        for i, (r, answer) in enumerate(zip(requests, answers, strict=True))
    ]
    rows = Scorer(requests, model.tokenizer).score(model, {})
    found = [r.value for r in rows if (r.metric, r.score) == ("efficacy", "exact_match")]
    expected = [float(r.edit.answer == said) for r, said in zip(requests, answers, strict=True)]
    assert found == expected
    assert found[:2] == [1.0, 1.0]
    assert not any(r.score == "exact_match" for r in rows if r.metric == "specificity")


def test_agreement_is_with_the_unedited_model():
    model = make_model()
    requests = make_requests(5)
    scorer = Scorer(requests, model.tokenizer)
    before, answers = scorer.score_unedited(model)
    assert {r.value for r in before if r.score == "agreement"} == {1.0}
    torch.manual_seed(0)
    shifts = {name: torch.randn(model.shape(name)) for name in model.edit_modules}
    after = Scorer(requests, model.tokenizer, answers).score(model, shifts)
    assert after == scorer.score(model, shifts)
    found = [r.value for r in after if r.score == "agreement"]
    with torch.no_grad():
        edited = {n: model.edited_weight(n, s) for n, s in shifts.items()}
    for request, value in zip(requests, found, strict=True):
        prompt = request.locality[0]
        theirs = log_likelihoods(model, prompt.text, prompt.answer)[0].argmax(-1)
        weights = {f"{name}.weight": weight for name, weight in edited.items()}
        sequence = tokenize(model.tokenizer, prompt.text, prompt.answer)
        inputs = {"input_ids": torch.tensor([sequence.input_ids])}
        logits = torch.func.functional_call(model.model, weights, (), inputs).logits[0]
        ours = logits[-len(sequence.answer_ids) :].argmax(-1)
        assert value == pytest.approx((ours == theirs).float().mean().item())
    without = Scorer(requests, model.tokenizer).score(model, shifts)
    assert not any(r.score == "agreement" for r in without)


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
