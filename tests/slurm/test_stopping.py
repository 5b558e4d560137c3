"""A run on SLURM that is killed, then stopped by Ctrl-C, then finished, as docs/cluster.md says."""

import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from runs import VARYING
from slurm_runs import PROFILE, environment_of

pytestmark = pytest.mark.long

SMEDIT = """\
#!/bin/sh
# Runs smedit, but of the runs only as many as there are folders `let…`. The others hang.
case "$*" in
    job\\ run\\ *)
        for let in {folder}/let*; do
            rmdir "$let" 2> /dev/null && exec {smedit} "$@"
        done
        exec sleep 600 ;;
esac
exec {smedit} "$@"
"""
SQUEUE = """\
#!/bin/sh
# A cluster that takes its time, once there is a folder `slow`.
test -d {folder}/slow && touch {folder}/slow/asked && sleep 5
exec {squeue} "$@"
"""


class Stopped:
    """Four runs and the tables, missing in a finished run, are made by the same command thrice.

    Each of the first two makes one, while two hang; in the first run, the fourth waits
    for one of the two GPUs. An hour is the limit of short jobs, so these are not grouped.
    """

    def __init__(self, cluster, finished, folder):
        self.cluster, self.folder, self.suite = cluster, folder, folder / "suite"
        shutil.copytree(
            finished, self.suite, symlinks=True, ignore=shutil.ignore_patterns(".snakemake")
        )
        self.results = self.suite / "smoke/results"
        config = self.suite / "config/smoke.yaml"
        config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "minutes": 61}))
        self.cells = sorted(self.results.glob("runs/tiny-gpt2_*_by-search-*.json"))
        for path in [*self.cells, *self.results.glob("*.csv")]:
            path.unlink()
        self._program("smedit", SMEDIT, smedit=Path(sys.executable).with_name("smedit"))
        self._program("squeue", SQUEUE, squeue=shutil.which("squeue"))

        run = self._start_until(1)
        run.kill()
        run.wait()
        self.left_by_kill = cluster.queue()
        (log,) = self.suite.glob(".snakemake/log/*.log")
        self.run_id = re.search(r"SLURM run ID: (\S+)", log.read_text())[1]
        subprocess.run(["scancel", "--name", self.run_id], env=cluster.environment, check=True)
        self.left_by_scancel = self._left()

        run = self._start_until(2)
        (folder / "slow").mkdir()
        self._wait(run, (folder / "slow/asked").exists)
        self.before_ctrl_c = cluster.queue()
        run.send_signal(signal.SIGINT)
        self.status = run.wait(120)
        (folder / "slow/asked").unlink()
        (folder / "slow").rmdir()
        self.left_by_ctrl_c = self._left()

        self.early = {path: path.stat().st_mtime_ns for path in self._made()}
        for name in ("let", "let-another"):
            (folder / name).mkdir()
        self.last_status = self._start().wait()

    def output(self):
        return (self.suite / "run.log").read_text()

    def _program(self, name, text, **names):
        path = self.folder / name
        path.write_text(text.format(folder=self.folder, **names))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def _start(self):
        with (self.suite / "run.log").open("a") as log:
            return subprocess.Popen(
                [*PROFILE, "tables"],
                cwd=self.suite,
                env=environment_of(self.suite, self.cluster.environment, self.folder),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _made(self):
        return [path for path in self.cells if path.exists()]

    def _start_until(self, count):
        """Start a run and wait until so many cells are there, and jobs of this run still are."""
        (self.folder / "let").mkdir()
        run = self._start()
        self._wait(run, lambda: len(self._made()) == count and len(self.cluster.queue()) > 1)
        return run

    def _wait(self, run, ready):
        deadline = time.monotonic() + 300
        while not ready():
            assert run.poll() is None and time.monotonic() < deadline, self.output()
            time.sleep(0.1)

    def _left(self):
        """What SLURM still has after up to half a minute."""
        deadline = time.monotonic() + 30
        while self.cluster.queue() and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.cluster.queue()


@pytest.fixture(scope="module")
def stopped(cluster, local, tmp_path_factory):
    process, log, results = local
    assert process.wait() == 0, log.read_text()
    return Stopped(cluster, results.parents[1], tmp_path_factory.mktemp("stopped"))


def test_jobs_outlive_a_killed_run_until_they_are_cancelled_by_name(stopped):
    assert {name for name, _ in stopped.left_by_kill} == {stopped.run_id}
    assert {"RUNNING", "PENDING"} <= {state for _, state in stopped.left_by_kill}
    assert stopped.left_by_scancel == []


def test_ctrl_c_cancels_the_jobs_even_while_slurm_is_being_asked(stopped):
    assert stopped.status == 1
    assert len(stopped.before_ctrl_c) > 1
    assert stopped.left_by_ctrl_c == []


def test_the_same_command_goes_on_to_the_same_tables(stopped, local):
    assert stopped.last_status == 0, stopped.output()
    assert len(stopped.early) == 2
    assert all(path.stat().st_mtime_ns == before for path, before in stopped.early.items())
    tables = {path.name for path in stopped.results.glob("*.csv")}
    assert "scores.csv" in tables
    for name in tables - VARYING:
        assert (stopped.results / name).read_bytes() == (local[2] / name).read_bytes(), name
