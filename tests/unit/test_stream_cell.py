"""A stream from the command line: its result, interruption, divergence and errors."""

import json

import pytest
from test_cli import HYPER, make_job

from smedit.cli import main
from smedit.engine import stream
from smedit.errors import DivergedError
from smedit.plan.stream_grid import STREAM_COLUMNS
from smedit.store.results import read_result, write_result

SEQUENCE = {"reg_power": 2, "back_depth": 2, "time_decay": 0.9, "bound": 0.1}


@pytest.fixture(autouse=True)
def tiny_everything(tiny, short_text):
    """A tiny model, and two short paragraphs as its held-out text."""


def stream_job(method="SMEdit", steps=2, locality="norm", repeats=1, sequences=5, **changes):
    trained = (2, 1) if repeats else (0, 0)
    values = ["tiny", "qa", method, steps, locality, repeats, 2, sequences, *trained, 2, 0]
    job = make_job(hyperparameters=HYPER | SEQUENCE | changes)
    return job | {"settings": dict(zip(STREAM_COLUMNS, values, strict=True))}


def run_stream(folder, job, *more, rows=None, held_out=True):
    files = [folder / "states.safetensors", "--before", folder / "before.json"]
    rows = rows or {"train": 4, "tune": 0, "eval": 10}
    before = make_job(held_out=held_out, rows=rows)
    assert main([str(a) for a in ["freeze", "--job", json.dumps(before), "--out", *files]]) == 0
    out = folder / "result.json"
    arguments = ["run-stream", "--job", json.dumps(job), "--states", *files, "--out", out, *more]
    return main([str(argument) for argument in arguments]), out


def read(out):
    """A result without what differs from run to run."""
    result = read_result(out)
    for point in result["points"]:
        del point["edit_seconds"], point["memory_mb"]
    for step in result["training"]:
        del step["seconds"]
    del result["seconds"], result["memory_mb"]
    return result


def fail_in_batch(monkeypatch, number, error):
    """Let the stream's edit of one batch fail; return how to let it work again."""
    edit = stream.Stream._edit

    def failing(self, *arguments):
        if self.done + 1 == number:
            raise error
        edit(self, *arguments)

    monkeypatch.setattr(stream.Stream, "_edit", failing)
    return lambda: monkeypatch.setattr(stream.Stream, "_edit", edit)


METHODS = [
    ("SMEdit", 2, "norm", 1),
    ("RLEdit", 1, "kl", 1),
    ("MALMEN", 1, "kl", 1),
    ("UltraEdit", 2, "none", 0),
    ("FT-L", 3, "none", 0),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m[0])
def test_a_stream(method, tmp_path):
    status, out = run_stream(tmp_path, stream_job(*method))
    assert status == 0
    result = json.loads(out.read_text())
    assert [point["n_sequences"] for point in result["points"]] == [0, 3, 5]
    assert [len(point["scores"][0]["rows"]) for point in result["points"]] == [10, 6, 10]
    assert [len(point["held_out"]) for point in result["points"]] == [2, 0, 2]
    changes = [point["change_norm"] for point in result["points"]]
    assert changes[0] == 0 < changes[1] != changes[2] > 0
    assert len(result["training"]) == (2 if method[3] else 0)
    assert result["diverged"] is None
    assert not (tmp_path / "result.checkpoint").exists()


def test_a_chosen_value_is_used(tmp_path):
    chosen = tmp_path / "chosen.json"
    values = {"FT-L": {"lr": 5e-3, "bound": 0.001, "reg_coef": 0.5}}
    write_result({"model": "tiny", "search": "streams", "chosen": values}, chosen)
    job = stream_job("FT-L", 3, "none", 0)
    status, out = run_stream(tmp_path, job, "--chosen", str(chosen))
    assert status == 0
    result = json.loads(out.read_text())
    assert result["settings"]["bound"] == 0.001
    d_in, d_out = 24, 16
    largest = 0.001 * (d_in * d_out) ** 0.5
    assert 0 < result["points"][-1]["change_norm"] <= largest * (1 + 1e-6)  # float32 sums


def test_a_choice_from_batches_is_refused(tmp_path, capsys):
    chosen = tmp_path / "chosen.json"
    write_result({"model": "tiny", "search": "batches", "chosen": {}}, chosen)
    status, out = run_stream(tmp_path, stream_job(), "--chosen", str(chosen))
    assert status == 2 and not out.exists()
    message = "chosen.json: chosen for tiny in batches, not for tiny in streams; delete it"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("save_seconds", [60, -1], ids=["saved at points", "saved each time"])
def test_an_interrupted_stream_goes_on_without_training(tmp_path, monkeypatch, save_seconds):
    monkeypatch.setattr(stream, "SAVE_SECONDS", save_seconds)
    monkeypatch.setattr(stream, "SAVE_SHARE", float("inf"))
    (tmp_path / "whole").mkdir()
    _, undisturbed = run_stream(tmp_path / "whole", stream_job())
    repair = fail_in_batch(monkeypatch, 5, OSError("disk full"))
    status, out = run_stream(tmp_path, stream_job())
    assert status == 2
    assert (tmp_path / "result.checkpoint").exists()
    assert not out.exists()
    repair()
    monkeypatch.setattr("smedit.run.stream_cell.train", None)  # it must not be called
    edited = []
    edit = stream.Stream._edit
    monkeypatch.setattr(
        stream.Stream, "_edit", lambda self, *a: (edited.append(self.done + 1), edit(self, *a))
    )
    status, out = run_stream(tmp_path, stream_job())
    assert status == 0
    assert edited == ([5] if save_seconds < 0 else [4, 5])
    assert read(out) == read(undisturbed)
    assert not (tmp_path / "result.checkpoint").exists()


def test_a_checkpoint_of_another_model_or_other_rows_is_not_continued(tmp_path, monkeypatch):
    repair = fail_in_batch(monkeypatch, 5, OSError("disk full"))
    run_stream(tmp_path, stream_job())
    repair()
    edited = []
    edit = stream.Stream._edit
    monkeypatch.setattr(
        stream.Stream, "_edit", lambda self, *a: (edited.append(self.done + 1), edit(self, *a))
    )
    rows = {"train": 4, "tune": 0, "eval": 12}
    status, _ = run_stream(tmp_path, stream_job(), rows=rows)
    assert status == 0
    assert edited == [1, 2, 3, 4, 5]


def test_divergence_midway_ends_the_stream_and_keeps_its_points(tmp_path, monkeypatch):
    fail_in_batch(monkeypatch, 4, DivergedError("non-finite shift"))
    status, out = run_stream(tmp_path, stream_job())
    assert status == 0
    result = json.loads(out.read_text())
    why = "batch 4 of the stream: non-finite shift"
    assert result["diverged"] == {"batches": 3, "why": why}
    assert [point["n_sequences"] for point in result["points"]] == [0, 3]


def test_divergence_in_training_leaves_the_unedited_model_only(tmp_path):
    status, out = run_stream(tmp_path, stream_job(lr=1e38))
    assert status == 0
    result = json.loads(out.read_text())
    assert result["diverged"]["batches"] == 0
    assert "SMEdit, training pass 1, batch 1: " in result["diverged"]["why"]
    assert [point["n_sequences"] for point in result["points"]] == [0]


def test_too_few_rows_are_an_error(tmp_path, capsys):
    status, out = run_stream(tmp_path, stream_job(sequences=10**6))
    assert status == 2
    assert "2000000 rows of the eval split are needed, there are 1042" in capsys.readouterr().err
    assert not out.exists()


LACKING = [
    ({"rows": {"train": 4, "tune": 0, "eval": 8}}, "made for 8 eval rows of dataset qa, 10 are n"),
    ({"rows": {"train": 4, "tune": 9, "eval": 0}}, "made for 0 eval rows of dataset qa, 10 are n"),
]


@pytest.mark.parametrize(("frozen", "message"), LACKING, ids=lambda v: str(v)[:40])
def test_too_little_that_was_frozen_is_an_error(frozen, message, tmp_path, capsys):
    status, out = run_stream(tmp_path, stream_job(), **frozen)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert status == 2
    assert f"before.json: {message}" in line
    assert not out.exists()


@pytest.fixture
def long_text(monkeypatch):
    monkeypatch.setattr("smedit.engine.held_out.paragraphs", lambda: [("w1 " * 3000, "w2")])


def test_a_stream_needs_the_text(tmp_path, long_text, capsys):
    status, _ = run_stream(tmp_path, stream_job(), held_out=False)
    assert status == 2
    assert "before.json: made without the held-out text, which streams" in capsys.readouterr().err


def test_a_stream_of_the_search_needs_no_text(tmp_path, long_text):
    rows = {"train": 4, "tune": 10, "eval": 0}
    status, _ = run_stream(tmp_path, stream_job() | {"split": "tune"}, rows=rows, held_out=False)
    assert status == 0
