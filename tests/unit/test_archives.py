"""Results that a repository keeps in archives."""

import os
import tarfile

import pytest

from smedit.cli import main
from smedit.errors import UserError
from smedit.store.archives import unpack
from smedit.store.results import read_result, write_result

QA = {"format": "zsre", "source": "builtin", "target": "alt"}


def made(value):
    return {"asked": [value], "settings": {"dataset": "qa"}, "dataset_spec": QA}


def make_result(results, name, value):
    (results / "runs").mkdir(parents=True, exist_ok=True)
    write_result(made(value), results / f"runs/{name}.json")


def packed(results):
    assert main(["pack", "--results", str(results)]) == 0


def remove_runs(results):
    for path in (results / "runs").iterdir():
        path.unlink()


def test_results_are_kept_once_and_come_back(tmp_path, capsys):
    make_result(tmp_path, "a", 1)
    packed(tmp_path)
    make_result(tmp_path, "b", 2)
    packed(tmp_path)
    assert "002.tar.xz: 1 results" in capsys.readouterr().out
    packed(tmp_path)
    assert "kept already" in capsys.readouterr().out
    remove_runs(tmp_path)
    make_result(tmp_path, "b", 3)
    assert unpack(tmp_path, lambda name: True) == 1  # what is there stays
    assert read_result(tmp_path / "runs/a.json") == made(1)
    assert read_result(tmp_path / "runs/b.json") == made(3)


def test_the_latest_of_a_result_counts_and_who_asks_may_refuse(tmp_path):
    for value in (1, 2):
        make_result(tmp_path, "a", value)
        packed(tmp_path)
    remove_runs(tmp_path)
    assert unpack(tmp_path, lambda name: name == "b") == 0
    assert unpack(tmp_path, lambda name: name == "a") == 1
    assert read_result(tmp_path / "runs/a.json") == made(2)


def test_what_holds_less_takes_the_place_of_nothing(tmp_path, caplog):
    file = tmp_path / "runs/a.json"
    make_result(tmp_path, "a", 1)
    write_result({**made(1), "asked": [1, 2]}, file)
    packed(tmp_path)
    make_result(tmp_path, "a", 3)
    packed(tmp_path)
    assert "a.json: left out, as an archive has more of this run" in caplog.text
    assert not (tmp_path / "kept/002.tar.xz").exists()
    write_result({**made(3), "asked": [2, 3]}, file)
    packed(tmp_path)
    remove_runs(tmp_path)
    assert unpack(tmp_path, lambda name: True) == 1
    assert read_result(file)["asked"] == [2, 3]


def test_a_newer_archive_takes_the_place_of_what_an_older_one_gave(tmp_path):
    make_result(tmp_path, "a", 1)
    packed(tmp_path)
    remove_runs(tmp_path)
    assert unpack(tmp_path, lambda name: True) == 1
    there = (tmp_path / "runs/a.json").read_bytes()
    make_result(tmp_path, "a", 2)
    packed(tmp_path)
    (tmp_path / "runs/a.json").write_bytes(there)
    os.utime(tmp_path / "runs/a.json", (0, 0))
    assert unpack(tmp_path, lambda name: True) == 1
    assert read_result(tmp_path / "runs/a.json") == made(2)
    assert unpack(tmp_path, lambda name: True) == 0


def test_a_damaged_archive_is_refused_and_nothing_leaves_the_folder(tmp_path):
    make_result(tmp_path, "a", 1)
    packed(tmp_path)
    outside = tmp_path / "kept/002.tar.xz"
    with tarfile.open(outside, "w:xz") as archive:
        archive.add(tmp_path / "runs/a.json", "../../outside.json")
    remove_runs(tmp_path)
    assert unpack(tmp_path, lambda name: True) == 1
    assert not list(tmp_path.parent.glob("outside.json"))
    whole = (tmp_path / "kept/001.tar.xz").read_bytes()
    outside.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole archive"):
        unpack(tmp_path, lambda name: True)
