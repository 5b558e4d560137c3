"""The command line: one clear line and status 2, no traceback, nothing half-written."""

import json

import pytest
import torch

from smedit.cli import main
from smedit.data.facts import Splits, Tally
from smedit.data.readers import load_requests
from smedit.data.row_counts import row_counts
from smedit.engine.scores import RowScore, Scorer
from smedit.engine.tokenization import tokenize
from smedit.errors import UserError
from smedit.plan.grid import CELL_COLUMNS
from smedit.run import jobs
from smedit.store.results import read_result, write_result
from tiny_models import build
from write_provenance import recorded_counts

HYPER = {
    "minibatch": 4,
    "meta_lr": 1e-3,
    "loc_coef": 0.6,
    "max_grad_norm": 1.0,
    "lr": 1e-2,
    "reg_coef": 0.01,
    "rank": 8,
    "n_blocks": 2,
}


def make_job(**changes):
    values = ["tiny", "qa", "SMEdit", 2, "norm", 2, "original", 4, 2, 0]
    return {
        "model": "tiny",
        "model_folder": "unused",
        "edit_modules": ["model.layers.2.mlp.down_proj", "model.layers.3.mlp.down_proj"],
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "dataset": "qa",
        "dataset_spec": {"format": "zsre", "source": "builtin", "target": "alt"},
        "seed": 0,
        "minibatch": 4,
        "rows": {"train": 8, "tune": 4, "eval": 8},
        "held_out": False,
        "split": "eval",
        "eval_edits": 8,
        "settings": dict(zip(CELL_COLUMNS, values, strict=True)),
        "hyperparameters": HYPER,
        **changes,
    }


def run_cell(tmp_path, job, *more, freeze_job=None):
    out = tmp_path / "result.json"
    frozen = [tmp_path / "states.safetensors", "--before", tmp_path / "before.json"]
    freeze = ["freeze", "--job", json.dumps(freeze_job or make_job()), "--out", *frozen]
    assert main([str(argument) for argument in freeze]) == 0
    cell = ["run-cell", "--job", json.dumps(job), "--states", *frozen, "--out", out, *more]
    return main([str(argument) for argument in cell]), out


def test_a_cell_from_the_command_line(tiny, tmp_path):
    chosen = tmp_path / "chosen.json"
    values = {"SMEdit": {"lr": 5e-3, "reg_coef": 0.02}}
    write_result({"model": "tiny", "search": "batches", "chosen": values}, chosen)
    status, out = run_cell(tmp_path, make_job(), "--chosen", str(chosen))
    assert status == 0
    result = json.loads(out.read_text())
    settings = result["settings"]
    assert (settings["lr"], settings["reg_coef"], settings["eval_edits"]) == (5e-3, 0.02, 8)
    assert len(result["training"]) == 2 * 2
    assert {s["stage"] for s in result["scores"]} == {0, 1, 2}
    for score in result["scores"]:
        assert len(score["rows"]) == 8  # two batches of four requests
        assert all(0 <= value <= 1 for row in score["rows"] for value in row)
    assert {"load", "train", "edit", "score", "held-out text"} == set(result["seconds"])
    assert set(result["held_out"]) == {"0", "2"}  # unedited, and after the last step
    assert [len(losses) for losses in result["held_out"].values()] == [40, 40]
    assert result["held_out"]["0"] != result["held_out"]["2"]
    assert [p.name for p in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize("model_type", ["bart", "gemma4_text", "qwen3_5_text", "opt"])
def test_a_cell_on_a_model_with_a_way_of_its_own(tiny, tmp_path, model_type, monkeypatch):
    unusual = build(model_type)
    monkeypatch.setattr(jobs, "load_model", lambda *_: unusual.model)
    monkeypatch.setattr(jobs, "tried_way", lambda *_: None)
    job = make_job(edit_modules=list(unusual.edit_modules))
    status, out = run_cell(tmp_path, job, freeze_job=job)
    assert status == 0
    scores = json.loads(out.read_text())["scores"]
    before = next(s["rows"] for s in scores if (s["stage"], s["score"]) == (0, "accuracy"))
    requests = load_requests("qa", job["dataset_spec"], 0).eval[:8]
    tokenizer = jobs.load_tokenizer(None)
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
    spec = {"format": "zsre", "source": "builtin", "target": "alt"}
    frozen = tmp_path / "frozen/tiny/qa"
    frozen.mkdir(parents=True)
    out = ["--out", tmp_path / "states.safetensors", "--before", frozen / "seed~0.json"]
    freeze = ["freeze", "--job", json.dumps(make_job(dataset_spec=spec)), *out]
    assert main([str(argument) for argument in freeze]) == 0
    counts = recorded_counts(tmp_path / "frozen", "qa")
    assert counts == row_counts(load_requests("qa", spec, 0))
    assert counts["eval"]["rows"] == 1042
    assert recorded_counts(tmp_path / "frozen", "another") == {}


def test_a_job_that_lacks_rows_says_what_was_left_out():
    splits = Splits((), (), (), left_out=(Tally("train", "subject of another split", rows=3),))
    message = r"are needed, there are 0 \(left out: 3 rows: subject of another split\); use fewer"
    with pytest.raises(UserError, match=message):
        jobs.rows_of({"dataset": "d"}, splits, "train", 3)


def test_a_text_too_long_for_the_model_is_left_out_unless_it_is_needed(
    tiny, tmp_path, monkeypatch, caplog, capsys
):
    monkeypatch.setattr("smedit.engine.held_out.paragraphs", lambda: [("w1 " * 3000, "w2")])
    status, out = run_cell(tmp_path, make_job())
    assert status == 0
    assert read_result(out)["held_out"] == {}
    assert "takes 3000 tokens, the model's context 2048; no perplexity is measured" in caplog.text
    frozen = [tmp_path / "other.safetensors", "--before", tmp_path / "other.json"]
    freeze = ["freeze", "--job", json.dumps(make_job(held_out=True)), "--out", *frozen]
    assert main([str(argument) for argument in freeze]) == 2
    assert "error: tiny: the held-out text, which streams need, takes" in capsys.readouterr().err


def test_the_same_job_gives_the_same_numbers(tiny, tmp_path):
    results = []
    for _ in range(2):
        _, out = run_cell(tmp_path, make_job())
        results.append(json.loads(out.read_text()))
    assert results[0]["scores"] == results[1]["scores"]
    losses = [[step["edit_loss"] for step in result["training"]] for result in results]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_edits": 10**6}, "1000000 rows of the eval split are needed, there are 1042"),
        ({"device": "cuda"}, "device: cuda, but this machine has no CUDA GPU"),
        ({"eval_edits": 12}, "before.json: made for 8 eval rows of dataset qa, 12 are needed; del"),
        ({"seed": 1}, "before.json: made for another seed; delete it"),
    ],
)
def test_a_failed_cell_leaves_one_line_and_no_result(tiny, tmp_path, capsys, changes, message):
    status, out = run_cell(tmp_path, make_job(**changes))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert status == 2
    assert message in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edit_modules": ["model.layers.9.mlp.up_proj"]}, "tiny has no such module"),
        ({"dataset_spec": {"format": "zsre", "source": "folder", "target": "alt"}}, "data_dir"),
    ],
)
def test_what_cannot_be_frozen(tiny, tmp_path, capsys, changes, message):
    frozen = [tmp_path / "states.safetensors", "--before", tmp_path / "before.json"]
    freeze = ["freeze", "--job", json.dumps(make_job(**changes)), "--out", *frozen]
    assert main([str(argument) for argument in freeze]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_cut_input_file_is_named(tiny, tmp_path, capsys):
    chosen = tmp_path / "chosen.json"
    write_result({}, chosen)
    chosen.write_text(chosen.read_text()[:20])
    status, out = run_cell(tmp_path, make_job(), "--chosen", str(chosen))
    assert status == 2
    assert "chosen.json: not a whole result file; delete it" in capsys.readouterr().err
    assert not out.exists()


def test_a_cell_loads_no_tokenizer(tiny, tmp_path, monkeypatch):
    run_cell(tmp_path, make_job())
    before = json.loads((tmp_path / "before.json").read_text())
    loaded = []
    model = jobs.open_model(make_job(), None, before["tokens"])
    monkeypatch.setattr(jobs, "load_tokenizer", loaded.append)
    rows = load_requests("qa", make_job()["dataset_spec"], 0).eval[:8]
    scored, answers = Scorer(rows, model.tokenizer).score_unedited(model)
    assert not loaded
    assert scored == [RowScore(**row) for row in before["unedited"]["eval"]]
    assert answers == before["unedited_answers"]["eval"]


def test_choose(tmp_path, capsys):
    paths = []
    for i, efficacy in enumerate((0.2, 0.8)):
        settings = {"model": "m", "dataset": "d", "method": "MEND", "lr": 10.0**-i}
        score = {"stage": 1, "metric": "efficacy", "score": "accuracy", "rows": [[efficacy]]}
        path = tmp_path / f"{i}.json"
        settings |= {"reg_coef": 0.5, "eval_edits": 1}
        write_result({"settings": settings, "scores": [score]}, path)
        paths.append(str(path))
    out = tmp_path / "chosen.json"
    named = ["--model", "m", "--out", str(out)]
    assert main(["choose", "--results", *paths, *named]) == 0
    values = {"MEND": {"lr": 0.1, "reg_coef": 0.5}}
    assert read_result(out) == {"model": "m", "search": "batches", "chosen": values}
    out.unlink()
    assert main(["choose", "--results", *paths, "--model", "n", "--out", str(out)]) == 2
    assert "0.json: is of m, not of n; name the right file" in capsys.readouterr().err
    assert main(["choose", "--streams", "--results", *paths, *named]) == 2
    assert "0.json: has no 'points', so another command wrote it" in capsys.readouterr().err
    assert not out.exists()


def test_without_a_search_nothing_is_chosen(tiny, tmp_path):
    chosen = tmp_path / "chosen.json"
    assert main(["choose", "--results", "--model", "tiny", "--out", str(chosen)]) == 0
    assert read_result(chosen) == {"model": "tiny", "search": "batches", "chosen": {}}
    status, out = run_cell(tmp_path, make_job(), "--chosen", str(chosen))
    assert status == 0
    assert read_result(out)["settings"]["lr"] == HYPER["lr"]


@pytest.mark.parametrize(("model", "search"), [("other", "batches"), ("tiny", "streams")])
def test_a_choice_for_something_else_is_refused(tiny, tmp_path, capsys, model, search):
    chosen = tmp_path / "chosen.json"
    write_result({"model": model, "search": search, "chosen": {}}, chosen)
    status, out = run_cell(tmp_path, make_job(), "--chosen", str(chosen))
    assert status == 2 and not out.exists()
    message = f"chosen.json: chosen for {model} in {search}, not for tiny in batches; delete it"
    assert message in capsys.readouterr().err
