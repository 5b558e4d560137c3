"""The command line: one clear line and status 2, no traceback, nothing half-written."""

import json
import re
from dataclasses import replace

import pytest
import torch
from run_jobs import QA, call, frozen, make_freeze, make_job, run_job

from conftest import make_requests
from smedit.data.facts import Splits, Tally
from smedit.data.readers import load_requests
from smedit.data.row_counts import row_counts
from smedit.engine.scores import RowScore, Scorer
from smedit.engine.tokenization import tokenize
from smedit.errors import UserError
from smedit.run import opening
from smedit.store.results import read_result
from tiny_models import build
from write_provenance import recorded_counts


@pytest.mark.parametrize("model_type", ["bart", "gemma4_text", "qwen3_5_text"])
def test_a_run_on_a_model_with_a_way_of_its_own(
    tiny, short_text, tmp_path, model_type, monkeypatch
):
    unusual = build(model_type)
    monkeypatch.setattr(opening, "load_model", lambda *_: unusual.model)
    monkeypatch.setattr(opening, "tried_way", lambda *_: None)
    modules = {"edit_modules": list(unusual.edit_modules)}
    job = make_job("MALMEN", [{"generate": 0}], **modules)
    status, out = run_job(tmp_path, job, freeze=make_freeze(**modules))
    assert status == 0
    scores = read_result(out)["evaluations"][0]["points"][0]["scores"]
    before = next(s["rows"] for s in scores if s["score"] == "accuracy")
    requests = load_requests("qa", QA, 0).eval[:8]
    tokenizer = opening.load_tokenizer(None)
    for request, (accuracy,) in zip(requests, before, strict=True):
        sequence = tokenize(tokenizer, request.edit.text, request.edit.answer)
        inputs = torch.tensor([sequence.input_ids])
        with torch.no_grad():
            logits = unusual.model(inputs, use_cache=False).logits[0]
        correct = logits[-len(sequence.answer_ids) :].argmax(-1) == torch.tensor(
            sequence.answer_ids
        )
        assert accuracy == pytest.approx(correct.float().mean().item())


def test_what_was_left_out_of_a_dataset_comes_into_the_provenance(tiny, tmp_path):
    frozen(tmp_path)
    counts = recorded_counts(tmp_path, "qa")
    assert counts == row_counts(load_requests("qa", QA, 0))
    assert counts["eval"]["rows"] == 1042
    assert recorded_counts(tmp_path, "another") == {}


def test_a_job_that_lacks_rows_says_what_was_left_out():
    splits = Splits((), (), (), left_out=(Tally("train", "subject of another split", rows=3),))
    message = r"are needed, there are 0 \(left out: 3 rows: subject of another split\); use fewer"
    with pytest.raises(UserError, match=message):
        opening.rows_of("d", splits, "train", 3)


def test_rows_without_a_paraphrase_are_edited_and_not_trained_on():
    rows = tuple(replace(r, paraphrases=()) if i else r for i, r in enumerate(make_requests(3)))
    splits = Splits(rows, (), rows)
    assert (
        opening.rows_of("d", splits, "eval", 3)
        == opening.rows_of("d", splits, "train", 1) + rows[1:]
    )
    message = "dataset d: 2 of the 3 rows to train on have no paraphrase, which training needs ("
    with pytest.raises(UserError, match=re.escape(message)):
        opening.rows_of("d", splits, "train", 3)


def test_a_text_too_long_for_the_model_is_left_out_unless_it_is_needed(
    tiny, tmp_path, monkeypatch, caplog, capsys
):
    def paragraphs(context=5):
        return [("w1 " * (3000 if context == 5 else 3), "w2")] * 2

    monkeypatch.setattr("smedit.engine.held_out.paragraphs", paragraphs)
    job = make_job("UltraEdit")
    status, out = run_job(tmp_path, job, freeze=make_freeze(sequential=False))
    assert status == 0
    assert len(read_result(out)["evaluations"][0]["points"][-1]["text"][0]) == 1
    assert "takes 3000 tokens, the model's context 2048; no perplexity is measured" in caplog.text
    files = [tmp_path / "other.safetensors", "--before", tmp_path / "other.json"]
    assert call("freeze", "--job", json.dumps(make_freeze()), "--out", *files) == 2
    assert "error: tiny: the held-out text, which streams need, takes" in capsys.readouterr().err
    sequential = make_job("UltraEdit", [{"protocol": "sequential"}], protocol="sequential")
    assert run_job(tmp_path, sequential, name="second")[0] == 2
    assert "before.json: made without the held-out text, which edits in" in capsys.readouterr().err


def test_a_model_too_short_for_the_text_of_harm_is_refused(tiny, tmp_path, monkeypatch, capsys):
    long = [("w1 " * 3000, "w2")] * 2
    monkeypatch.setattr("smedit.engine.held_out.paragraphs", lambda *_: long)
    files = [tmp_path / "states.safetensors", "--before", tmp_path / "before.json"]
    assert call("freeze", "--job", json.dumps(make_freeze()), "--out", *files) == 2
    message = "tiny: the text where harm is measured has 3000 tokens, its context 2048; use a model"
    assert message in capsys.readouterr().err


def test_scoring_loads_no_tokenizer(tiny, tmp_path, monkeypatch):
    frozen(tmp_path)
    before = json.loads((tmp_path / "before.json").read_text())
    loaded = []
    model = opening.open_model(make_job(), None, before["tokens"])
    monkeypatch.setattr(opening, "load_tokenizer", loaded.append)
    rows = load_requests("qa", QA, 0).eval[:20]
    scored, answers = Scorer(rows, model.tokenizer).score_unedited(model)
    assert not loaded
    assert scored == [RowScore(**row) for row in before["unedited"]["eval"]]
    assert answers == before["unedited_answers"]["eval"]
