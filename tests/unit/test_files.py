import errno
import os
import time
from pathlib import Path

import pytest

from smedit.errors import UserError, message
from smedit.store.files import (
    check_writable,
    disk_failed,
    flush,
    refuse,
    replacing,
    set_refused_aside,
    user_path,
)


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    message = (
        r"result\.json: cannot be written \(No space left .*\); make room .* same command again"
    )
    with pytest.raises(UserError, match=message), replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"


def test_success_replaces_it(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_flushed_does_not_matter(tmp_path, monkeypatch):
    def flush_files_only(path):
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(path)

    monkeypatch.setattr("smedit.store.files.flush", flush_files_only)
    with replacing(tmp_path / "result.json") as part:
        part.write_text("new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["new"]


def refused(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("half")
    with pytest.raises(UserError, match="half of it; delete it and run the same command again"):
        refuse(path, "half of it")


def test_what_was_refused_is_set_aside_once(tmp_path):
    path = tmp_path / "a" / "result.json"
    for _ in range(2):
        refused(path)
        assert set_refused_aside([str(tmp_path)]) == [path.with_name("result.json.damaged")]
        assert set_refused_aside([str(tmp_path)]) == []
    assert [p.name for p in path.parent.iterdir()] == ["result.json.damaged"]


@pytest.mark.parametrize("content", ["whole", "good"])
def test_what_was_restored_since_it_was_refused_stays(tmp_path, content):
    """Also with the same size and time of change, as from a backup."""
    path = tmp_path / "result.json"
    refused(path)
    before = path.stat().st_mtime_ns
    time.sleep(0.05)
    path.write_text(content)
    os.utime(path, ns=(before, before))
    assert set_refused_aside([str(tmp_path)]) == []
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == content


def test_a_mark_that_does_not_say_what_was_refused_renames_nothing(tmp_path):
    (tmp_path / "result.json").write_text("good")
    (tmp_path / "result.json.refused").touch()
    assert set_refused_aside([str(tmp_path)]) == []
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_model_in_a_shared_folder_gets_no_mark(tmp_path, monkeypatch):
    model, here = tmp_path / "shared" / "m", tmp_path / "here"
    model.mkdir(parents=True)
    here.mkdir()
    (here / "models").symlink_to(model.parent)
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match=r"cut; delete it and run the same command again$"):
        refuse(Path("models/m"), "cut")
    assert [p.name for p in model.parent.iterdir()] == ["m"]
    monkeypatch.chdir(tmp_path)  # the folder's owner
    with pytest.raises(UserError, match=r"again \(a run of the workflow sets it aside by itself"):
        refuse(Path("shared/m"), "cut")
    assert set_refused_aside(["shared"]) == [Path("shared/m.damaged")]


def test_what_cannot_be_set_aside_is_named_and_stops_nothing(tmp_path, monkeypatch, caplog):
    stuck, other = tmp_path / "a" / "result.json", tmp_path / "b" / "result.json"
    refused(stuck)
    refused(other)
    rename = Path.replace

    def replace(path, target):
        if path == stuck:
            raise OSError(errno.EROFS, "Read-only file system")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert set_refused_aside([str(tmp_path)]) == [other.with_name("result.json.damaged")]
    assert caplog.messages == [f"{stuck} cannot be set aside (Read-only file system); delete it"]
    assert stuck.exists() and stuck.with_name("result.json.refused").exists()


def test_a_folder_that_is_a_file_is_not_writable(tmp_path):
    check_writable([str(tmp_path / "new" / "folder")])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x: nothing can be written there; make .*/file a wr"):
        check_writable([str(tmp_path / "file" / "x")])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (Exception("No space left on device (os error 28)"), True),  # of tokenizers
        (OSError("no file named model.safetensors"), False),  # of transformers
        (KeyError("x"), False),
    ],
)
def test_errors_of_the_disk_are_told_from_others(error, expected):
    assert disk_failed(error) == expected


def test_a_home_is_found_and_an_unknown_user_is_left(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert user_path("~/x") == Path("/home/ada/x")
    assert user_path("~nobody-here/x") == Path("~nobody-here/x")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("x: no; do"), "x: no; do"),
        (OSError("odd"), "odd"),
        (FileNotFoundError(2, "No such file", "a/b"), "a/b: No such file; correct the path, or"),
        (OSError(28, "No space left", "a"), "a: No space left; make room on the disk"),
        (PermissionError(13, "Denied", "a", None, "b"), "a → b: Denied; correct the path, or"),
        (OSError(36, "Too long", "x" * 999 + "/y"), f"…{'x' * 198}/y: Too long; correct"),
    ],
)
def test_an_error_of_the_file_system_names_the_path_and_the_remedy(error, line):
    assert message(error).startswith(line)
