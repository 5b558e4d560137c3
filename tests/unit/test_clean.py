import shutil
import subprocess

import pytest

from smedit.hosting import clean, run_lock


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with committed results, those of a run, and an archive that is not committed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_lock, "_held", [])
    (tmp_path / ".gitignore").write_text("results/**/runs/\n/smoke/\n")
    (tmp_path / "results/mine/kept").mkdir(parents=True)
    (tmp_path / "results/earlier.csv").write_text("1")
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], check=True)
    for path in ("results/runs/a.json", "smoke/results/b.json", "resources/models/m", "notes"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("2")
    (tmp_path / "results/scores.csv").write_text("3")
    (tmp_path / "results/mine/kept/001.tar.xz").write_text("4")
    return tmp_path


def files(folder):
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] not in (".git", ".snakemake")}


def test_what_a_run_made_goes_and_what_is_committed_or_packed_stays(checkout, capfd):
    assert clean.main() == 0
    kept = {".gitignore", "results/earlier.csv", "results/mine/kept/001.tar.xz"}
    assert files(checkout) == kept | {"resources/models/m", "notes"}
    assert "Removing results/scores.csv" in capfd.readouterr().out


def test_where_nothing_was_run_nothing_goes(checkout):
    for folder in clean.FOLDERS:
        shutil.rmtree(checkout / folder, ignore_errors=True)
    assert clean.main() == 0 and files(checkout) == {".gitignore", "resources/models/m", "notes"}


def test_nothing_goes_without_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    assert clean.main() == 2 and (tmp_path / "results").is_dir()
    assert "no git checkout" in capsys.readouterr().err


def test_nothing_goes_while_a_run_is_at_work(checkout, capsys):
    run_lock.hold(checkout / ".snakemake/smedit.lock")
    before = files(checkout)
    assert clean.main() == 2 and files(checkout) == before
    assert "another run is at work" in capsys.readouterr().err
