"""Each job takes GPUs that no other has, and gives them back however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yte

from smedit.errors import UserError
from smedit.hosting import gpu_slots
from smedit.hosting.gpu_slots import GPUS, VISIBLE, gpus

ROOT = Path(__file__).parents[2]


class Jobs:
    """Jobs that tell which GPUs they have and then wait for a line."""

    def __init__(self, folder, **environment):
        self.folder, self.started = folder, []
        self.environment = {k: v for k, v in os.environ.items() if k not in (VISIBLE, GPUS)}
        self.environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **environment}

    def start(self, n=1):
        command = [sys.executable, "-m", "smedit.hosting.gpu_slots", str(n)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        shell = ["bash", "-c", f'echo "${VISIBLE}"; read']  # a child that inherits the lock
        job = subprocess.Popen(
            [*command, *shell], cwd=self.folder, env=self.environment, text=True, **pipes
        )
        self.started.append(job)
        return job

    def end(self, job):
        job.communicate("\n")


@pytest.fixture
def jobs(tmp_path):
    made = []

    def make(**environment):
        made.append(Jobs(tmp_path, **environment))
        return made[-1]

    yield make
    for job in (job for some in made for job in some.started):
        job.kill()
        job.communicate()


def has(job):
    return job.stdout.readline().strip()


def waits(job):
    assert job.stderr.readline() == "waiting for a GPU that no other job has\n"
    return job.poll() is None


def test_jobs_have_different_gpus_and_take_what_another_gave_back(jobs):
    run = jobs(**{GPUS: "2"})
    first, second = run.start(), run.start()
    assert {has(first), has(second)} == {"0", "1"}
    third = run.start()
    assert waits(third)
    run.end(second)
    freed = has(third)
    fourth = run.start()
    assert waits(fourth)
    run.end(first)
    assert {has(fourth), freed} == {"0", "1"}


def test_a_killed_job_gives_its_gpu_back(jobs):
    run = jobs(**{GPUS: "1"})
    killed = run.start()
    assert has(killed) == "0"
    following = run.start()
    assert waits(following)
    killed.send_signal(signal.SIGKILL)
    assert has(following) == "0"


def test_those_that_the_user_has_made_visible_are_shared_out(jobs):
    run = jobs(**{VISIBLE: "3,GPU-ab,MIG-1/0", GPUS: "8"})
    assert sorted(has(run.start()) for _ in range(3)) == ["3", "GPU-ab", "MIG-1/0"]


def test_jobs_of_several_gpus_have_them_all_or_wait(jobs):
    run = jobs(**{GPUS: "3"})
    first = run.start(2)
    assert has(first) == "0,1"
    second = run.start(2)
    assert waits(second)
    third = run.start(1)
    assert has(third) == "2"  # which the second one does not hold while it waits
    run.end(first)
    assert has(second) == "0,1"


@pytest.mark.parametrize("known", [{GPUS: "1"}, {VISIBLE: "0,0"}], ids=["one", "one listed twice"])
def test_too_few_gpus_are_one_clear_line(jobs, known):
    job = jobs(**known).start(2)
    _, errors = job.communicate("\n")
    assert job.returncode == 2
    assert errors.startswith("error: gpus_per_job is 2, this run has 1 (0); give --resources gpu=N")


def test_where_the_user_hides_all_gpus_a_job_is_left_alone(jobs):
    job = jobs(**{VISIBLE: "", GPUS: "2"}).start()
    assert has(job) == ""
    assert job.poll() is None


def test_the_list_is_the_user_s_else_that_of_the_run(monkeypatch):
    monkeypatch.setenv(GPUS, "2")
    monkeypatch.delenv(VISIBLE, raising=False)
    assert gpus() == ["0", "1"]
    monkeypatch.setenv(VISIBLE, "5,7")
    assert gpus() == ["5", "7"]


def test_runs_in_two_folders_share_the_gpus_of_the_machine(jobs, tmp_path):
    first = jobs(**{GPUS: "1"})
    assert has(first.start()) == "0"
    second = jobs(**{GPUS: "1"})
    second.folder = tmp_path / "elsewhere"
    second.folder.mkdir()
    assert waits(second.start())


def test_what_is_no_number_and_what_is_no_command_are_named(monkeypatch, capsys):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv(GPUS, "many")
    with pytest.raises(UserError, match="--resources gpu=many: not a number of GPUs; write one"):
        gpus()
    monkeypatch.setenv(VISIBLE, "")
    monkeypatch.setattr(sys, "argv", ["gpu_slots", "1", "no-such-command"])
    assert gpu_slots.main() == 2
    assert capsys.readouterr().err == "error: no-such-command: there is no such command\n"


def test_jobs_side_by_side_share_the_memory_of_the_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    text = (ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8")
    (said,) = yte.process_yaml(text)["resources"]
    assert said == f"mem_mb={psutil.virtual_memory().total // 10**6}"
