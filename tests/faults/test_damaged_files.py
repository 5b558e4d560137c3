"""Files that a job reads, damaged: one clear line, and the next run makes them anew."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from damage import alter, cut, empty
from run_jobs import call, error_of, failing_at, make_freeze, make_job, numbers, run_job
from runs import ROOT, copy_suite, snakemake
from safetensors.torch import load_file, save_file
from test_bad_inputs import dataset, text

from smedit.errors import UserError
from smedit.models.model_sources import load_tokenizer, prepare_model
from smedit.report.tables import TABLES
from smedit.run import evaluate
from smedit.store.files import refuse, set_refused_aside
from smedit.store.results import read_result, write_result
from smedit.store.sums import check_sums, write_sums
from smedit.store.tensor_files import load_tensors, save_tensors

TINY_LLAMA = ROOT / "tests/conformance/cases/tiny-llama"


@pytest.fixture(autouse=True)
def tiny_everything(tiny, short_text):
    """A tiny model, and two short paragraphs as its held-out text."""


WANTED = {"search": "s", "variant": "SMEdit", "names": ["lr", "reg_coef"]}
SMALL = make_freeze(rows={"train": 8, "tune": 4, "eval": 8}, sequential=False)


def run(folder):
    """Make what a run reads if it is missing, as the workflow would, then run it."""
    if not (folder / "chosen.json").exists():
        values = {"SMEdit": {"lr": 1e-2, "reg_coef": 0.01}}
        write_result({"search": "s", "model": "tiny", "chosen": values}, folder / "chosen.json")
    job = make_job() | {"chosen": WANTED}
    return run_job(folder, job, "--chosen", folder / "chosen.json", freeze=SMALL)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("states.safetensors", cut),
        ("states.safetensors", alter),
        ("before.json", alter),
        ("chosen.json", empty),
    ],
)
def test_a_damaged_input_is_named_and_made_anew(tmp_path, capsys, name, damage):
    _, out = run(tmp_path)
    before = numbers(out)
    out.unlink()
    damage(tmp_path / name)
    status, out = run(tmp_path)
    line = error_of(capsys)
    assert status == 2 and not out.exists()
    assert line.startswith(f"error: {tmp_path / name}: ")
    assert "delete it and run the same command again" in line
    assert set_refused_aside([str(tmp_path)]) == [tmp_path / f"{name}.damaged"]
    status, out = run(tmp_path)
    assert status == 0
    assert numbers(out) == before


@pytest.mark.parametrize("damage", [cut, alter])
def test_with_a_damaged_checkpoint_a_run_starts_anew_and_says_so(tmp_path, caplog, damage):
    asked = [{"train_batches": 1}, {"train_batches": 2}]
    with failing_at(evaluate.BatchEvaluation, "_next", 4):
        assert run_job(tmp_path, make_job(asked=asked))[0] == 2
    damage(tmp_path / "result.checkpoint")
    caplog.clear()
    status, out = run_job(tmp_path, make_job(asked=asked))
    assert status == 0
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning.startswith(f"starting anew: {tmp_path}/result.checkpoint: ")
    assert len(read_result(out)["evaluations"]) == 2
    assert not list(tmp_path.glob("result.checkpoint*"))


def other_shape(path):
    path.write_text('{"model.safetensors": 7}')


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("source.json", cut),
        ("source.json", other_shape),
        ("checksums.json", alter),
        ("checksums.json", other_shape),
        ("checksums.json", Path.unlink),
    ],
)
def test_a_model_with_a_damaged_note_is_made_anew(tmp_path, monkeypatch, name, damage):
    monkeypatch.chdir(tmp_path)
    spec, folder = {"source": "path", "path": str(TINY_LLAMA)}, tmp_path / "m"
    prepare_model("m", spec, folder)
    damage(folder / name)
    with pytest.raises(UserError, match=rf"m: its file {name}.*; delete it and run the same comma"):
        load_tokenizer(folder)
    assert set_refused_aside([str(tmp_path)]) == [tmp_path / "m.damaged"]
    prepare_model("m", spec, folder)
    load_tokenizer(folder)
    assert set_refused_aside([str(tmp_path)]) == []


def test_a_model_that_was_restored_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_model("m", {"source": "path", "path": str(TINY_LLAMA)}, tmp_path / "m")
    shutil.copytree("m", "backup")
    cut(tmp_path / "m/checksums.json")
    with pytest.raises(UserError, match="delete it"):
        load_tokenizer(Path("m"))
    shutil.copytree("backup", "m", dirs_exist_ok=True)
    assert set_refused_aside([str(tmp_path)]) == []
    assert {path.name for path in tmp_path.iterdir()} == {"m", "backup"}
    load_tokenizer(Path("m"))


@pytest.mark.parametrize("checksums", ["null", "[]", "{}"])
def test_a_result_with_other_checksums_is_refused(tmp_path, checksums):
    path = tmp_path / "result.json"
    path.write_text(f'{{"asked": [], "checksums": {checksums}}}')
    with pytest.raises(UserError, match="was altered after it was written"):
        read_result(path)
    write_result({}, path)  # made anew, it is not set aside
    assert set_refused_aside([str(tmp_path)]) == []
    assert read_result(path) == {}


@pytest.mark.parametrize("n_bytes", [0, 30, 70, 75])
def test_cut_checksums_of_tables_are_refused(tmp_path, n_bytes):
    table, sums = tmp_path / "scores.csv", tmp_path / "tables.sha256"
    table.write_text("a,b\n")
    write_sums(sums, [table])
    check_sums(sums, ["scores"])
    sums.write_bytes(sums.read_bytes()[:n_bytes])
    with pytest.raises(UserError, match=r"tables\.sha256: does not list scores\.csv; delete it"):
        check_sums(sums, ["scores"])


def test_a_value_that_changed_in_a_tensor_file_is_noticed(tmp_path):
    """A file that is whole and valid, with one number of another value."""
    path = tmp_path / "shift.safetensors"
    save_tensors(path, {"shift": torch.ones(3)}, {"done": 1})
    tensors, notes = load_tensors(path)
    assert tensors["shift"].tolist() == [1, 1, 1] and notes == {"done": 1}
    metadata = json.loads(path.read_bytes()[8:].partition(b"}}")[0] + b"}}")["__metadata__"]
    changed = load_file(path)
    changed["shift"][1] = 2
    save_file(changed, path, metadata)
    with pytest.raises(UserError, match=r"shift\.safetensors: was altered after it was written"):
        load_tensors(path)


@pytest.mark.parametrize(("file", "split"), [("train", "train"), ("eval", "tune")])
def test_other_rows_than_were_frozen_are_refused(tmp_path, capsys, file, split):
    """A dataset that is as valid as before, with other answers."""
    spec = dataset(tmp_path, text())
    files = [tmp_path / "states.safetensors", "--before", tmp_path / "before.json"]
    small = {"n_edits": 2, "n_requests": 8}

    def freeze():
        job = make_freeze(spec, rows={"train": 8, "tune": 4, "eval": 10})
        return call("freeze", "--job", json.dumps(job), "--out", *files)

    def edit():
        out = ["--states", *files, "--out", tmp_path / "x.json"]
        return call("run", "--job", json.dumps(make_job(spec=spec, **small)), *out)

    path = tmp_path / f"zsre_mend_{file}.json"
    assert freeze() == 0
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))  # the same rows
    assert edit() == 0
    (tmp_path / "x.json").unlink()
    path.write_text(path.read_text().replace("Ona Tresk", "Bel Arda"))
    capsys.readouterr()
    assert edit() == 2
    line = error_of(capsys)
    assert line.startswith(f"error: {tmp_path}/before.json: made from other {split} rows than data")
    assert not (tmp_path / "x.json").exists()
    assert set_refused_aside([str(tmp_path)]) == [tmp_path / "before.json.damaged"]
    assert freeze() == edit() == 0


@pytest.mark.parametrize("key", ["layout", "sources"])
def test_what_an_earlier_version_froze_is_made_anew(tmp_path, capsys, key):
    run(tmp_path)
    (tmp_path / "result.json").unlink()
    before = read_result(tmp_path / "before.json")
    del before[key]
    write_result(before, tmp_path / "before.json")
    assert run(tmp_path)[0] == 2
    assert "before.json: made by another version of the suite; delete it" in capsys.readouterr().err
    assert set_refused_aside([str(tmp_path)]) == [tmp_path / "before.json.damaged"]
    assert run(tmp_path)[0] == 0


@pytest.mark.long
@pytest.mark.parametrize("shared", [False, True])
def test_a_run_sets_its_own_models_aside_and_no_shared_ones(tmp_path, monkeypatch, shared):
    folder = copy_suite(tmp_path / "suite")
    resources = tmp_path / "shared" if shared else folder / "resources"
    for model in ("tiny-llama", "tiny-gpt2"):
        (resources / "models" / model).mkdir(parents=True)
        (resources / "models" / model / "checksums.json").write_text("half")
    if shared:
        (folder / "resources").symlink_to(resources)
    monkeypatch.chdir(tmp_path)  # of both: the other model's mark is its owner's
    with pytest.raises(UserError):
        refuse(resources / "models/tiny-gpt2", "half")
    before = sorted(path.name for path in (resources / "models").iterdir())
    (folder / "smoke/results").mkdir(parents=True)
    for table in TABLES:
        (folder / f"smoke/results/{table}.csv").touch()
    target, options = "smoke/results/provenance.json", ("--configfile", "config/smoke.yaml")
    status, text = snakemake(target, "--allowed-rules", "provenance", *options, cwd=folder)
    assert status == 1
    assert "resources/models/tiny-llama: its file checksums.json is not a whole list" in text
    after = sorted(path.name for path in (resources / "models").iterdir())
    assert after == (before if shared else ["tiny-gpt2.damaged", "tiny-llama.damaged"])


@pytest.mark.long
def test_a_run_of_the_benchmark_sets_damaged_files_aside_too(tmp_path):
    folder = copy_suite(tmp_path / "suite")
    (folder / "results").mkdir()
    (folder / "results/benchmark.csv").write_text("no table")
    (folder / "results/frozen.json").write_text("half")
    with pytest.raises(UserError):
        read_result(folder / "results/frozen.json")
    one_job = ("figures/benchmark-paths.png", "--allowed-rules", "benchmark_figure")
    status, text = snakemake(*one_job, "--snakefile", "workflow/benchmark.smk", cwd=folder)
    assert status == 1
    assert "Set aside: results/frozen.json.damaged" in text
    assert "Failed jobs: 1, listed in results/failed.csv" in text
    assert "benchmark.csv: not a benchmark's table" in text
