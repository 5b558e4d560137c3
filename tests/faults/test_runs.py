"""Whole runs: killed again and again, on one core or two, damaged between runs. Minutes long."""

import os
import random
import shutil
import time

import pandas as pd
import pytest
from damage import alter, cut
from runs import copy_suite, kill, n_files, run, start, tables, wait_for

pytestmark = pytest.mark.long

KILLS = 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run on one core that nothing disturbs."""
    folder = copy_suite(tmp_path_factory.mktemp("undisturbed") / "suite")
    status, text = run(folder, cores=1)
    assert status == 0, text
    assert {"scores.csv", "gains.csv", "training.csv", "chosen.csv"} <= set(tables(folder))
    return folder


@pytest.fixture(scope="module")
def killed(undisturbed, tmp_path_factory):
    """A run on two cores that is killed at moments spread over it, and finished."""
    folder = copy_suite(tmp_path_factory.mktemp("killed") / "suite")
    moments, total = random.Random(0), n_files(undisturbed)
    kills = 0
    for number in range(KILLS):
        process = start(folder, folder / "killed.log")
        reached = wait_for(process, folder, total * number // KILLS)
        time.sleep(moments.uniform(0, 2) if number else 4)
        if reached and process.poll() is None:
            kill(process)
            kills += 1
        assert process.poll() != 0, "the run ended before it could be killed"
    status, text = run(folder)
    assert status == 0, text
    assert kills == KILLS
    return folder


def test_killed_runs_end_with_the_same_tables_whatever_the_cores(undisturbed, killed):
    expected, found = tables(undisturbed), tables(killed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_one_core_and_two_give_the_same_tables(undisturbed, tmp_path):
    folder = copy_suite(tmp_path / "suite")
    status, text = run(folder, cores=2)
    assert status == 0, text
    assert tables(folder) == tables(undisturbed)


def test_killed_runs_leave_nothing_half_written(killed):
    assert not [*(killed / "smoke").rglob("*.part"), *(killed / "smoke").rglob("*.checkpoint")]
    assert not list((killed / "smoke").rglob("*.damaged"))


def one(folder, pattern):
    return sorted(folder.glob(pattern))[0]


# What is damaged, how, and what is removed so that the next run has to read it.
DAMAGES = {
    "result": ("smoke/results/runs/tiny-gpt2*.json", cut, "smoke/results/scores.csv"),
    "table": ("smoke/results/scores.csv", cut, "smoke/figures/chosen-comparison.png"),
    "frozen states": (
        "smoke/results/frozen/tiny-gpt2_worldfacts-qa*.safetensors",
        alter,
        "smoke/results/runs/tiny-gpt2_worldfacts-qa*.json",
    ),
    "model": (
        "resources/models/tiny-gpt2/model.safetensors",
        alter,
        "smoke/results/runs/tiny-gpt2*in_sequence*.json",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_the_next_run_repairs_it(undisturbed, tmp_path, name):
    pattern, damage, trigger = DAMAGES[name]
    folder = tmp_path / "suite"
    shutil.copytree(undisturbed, folder, symlinks=True)
    expected = tables(folder)
    path = one(folder, pattern)
    one(folder, trigger).unlink()
    damage(path)
    status, text = run(folder)
    assert status == 1
    assert "Failed jobs: " in text and "Traceback" not in text
    named = path.parent if name == "model" else path
    assert f"{named.relative_to(folder)}: " in text
    assert "run the same command again" in text
    failed = pd.read_csv(folder / "results/failed.csv")
    assert len(failed) and failed.log.map(lambda log: (folder / log).is_file()).all()
    status, text = run(folder)
    assert status == 0, text
    assert tables(folder) == expected
    assert not (folder / "results/failed.csv").exists()


def test_a_finished_run_has_nothing_to_do(undisturbed, tmp_path):
    folder = tmp_path / "suite"
    shutil.copytree(undisturbed, folder, symlinks=True)
    before = {p: p.stat().st_mtime_ns for p in (folder / "smoke").rglob("*") if p.is_file()}
    status, text = run(folder, cores=os.cpu_count())
    assert status == 0 and "Nothing to be done" in text
    assert {p: p.stat().st_mtime_ns for p in (folder / "smoke").rglob("*") if p.is_file()} == before
