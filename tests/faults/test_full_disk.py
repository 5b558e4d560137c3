"""A full disk, and a folder that cannot be written: one clear line, nothing half-written."""

import json
import os
import shutil
import subprocess

import pytest
from run_jobs import call, error_of, numbers
from runs import ROOT
from test_damaged_files import SMALL, run

from smedit.cli import main
from smedit.errors import UserError
from smedit.store.files import check_writable


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("making a small file system needs the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(autouse=True)
def tiny_everything(tiny, short_text):
    """A tiny model."""


def fill(folder, room=4096):
    (folder / "ballast").write_bytes(b"0" * (shutil.disk_usage(folder).free - room))


def test_a_result_that_does_not_fit(small_disk, capsys):
    status, out = run(small_disk)
    assert status == 0
    before = numbers(out)
    out.unlink()
    fill(small_disk)
    status, out = run(small_disk)
    assert status == 2
    message = f"error: {out}: cannot be written (No space left on device); make room"
    assert error_of(capsys).startswith(message)
    assert {path.name for path in small_disk.iterdir()} == {
        *("states.safetensors", "before.json", "chosen.json", "ballast")
    }
    (small_disk / "ballast").unlink()
    status, out = run(small_disk)
    assert status == 0 and numbers(out) == before


def test_frozen_states_that_do_not_fit(small_disk, capsys):
    fill(small_disk)
    states, before = small_disk / "states.safetensors", small_disk / "before.json"
    assert call("freeze", "--job", json.dumps(SMALL), "--out", states, "--before", before) == 2
    assert f"error: {states}: cannot be written (" in error_of(capsys)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("room", [4096, 32768])  # for a part of a file, and of another one
def test_a_model_that_does_not_fit(small_disk, capsys, room):
    fill(small_disk, room)
    architecture = str(ROOT / "config/architectures/tiny-gpt2.json")
    spec = json.dumps({"source": "random", "architecture": architecture, "seed": 0})
    target = small_disk / "m"
    assert main(["job", "prepare-model", "--name", "m", "--spec", spec, "--out", str(target)]) == 2
    line = error_of(capsys)
    assert line.startswith(f"error: model 'm': {target} cannot be made (")
    assert "No space left on device" in line
    assert line.endswith(
        "make room on the disk or correct the access rights, and run the same command again"
    )
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_a_read_only_folder(small_disk, capsys):
    check_writable([str(small_disk / "results")])
    run(small_disk)
    (small_disk / "result.json").unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    status, out = run(small_disk)
    assert status == 2
    assert f"error: {out}: cannot be written (Read-only file system)" in error_of(capsys)
    with pytest.raises(
        UserError, match=r"results: nothing can be written there; make .*disk a wri"
    ):
        check_writable([str(small_disk / "results")])
