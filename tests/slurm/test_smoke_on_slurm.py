"""The smoke workflow on a real SLURM, with mishaps on the way, against a run without SLURM."""

import csv
import math
import re
import stat
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest
from runs import VARYING
from slurm_runs import PROFILE, environment_of, plan_of, small_suite

TIGHT = ["--set-resources", "freeze:mem_mb=1100*attempt-700", "choose:runtime=attempt"]
"""Too little for the first attempt at `freeze`; and no time for a `choose` that hangs once."""

GROUP = "runs/tiny-gpt2_*_by-search-"
"""Pattern of the paths of four runs in one group. Whichever starts first fails until mended."""

SMEDIT = """\
#!/bin/sh
# Runs smedit, notes in the job's log whether there is a warm start, and has mishaps.
echo "warm start [$SMEDIT_WARM_START]"
case "$*" in
    job\\ choose\\ *--model\\ tiny-llama*) mkdir {folder}/hung 2> /dev/null && exec sleep 600 ;;
    job\\ run\\ *{group}*)
        echo "$SLURM_JOB_ID" >> {folder}/group
        test -e {folder}/broken || printf "%s\\n" "$*" > {folder}/broken
        if [ "$*" = "$(cat {folder}/broken)" ] && ! [ -e {folder}/mended ]; then
            echo "error: a mishap"
            exit 1
        fi ;;
esac
exec {smedit} "$@"
"""


class Runs:
    """A run with mishaps, the same command again once they are mended, and what SLURM says."""

    def __init__(self, cluster, folder):
        self.suite = small_suite(folder)
        self.results = self.suite / "smoke/results"
        mishaps = folder / "mishaps"
        mishaps.mkdir()
        smedit = mishaps / "smedit"
        real = Path(sys.executable).with_name("smedit")
        smedit.write_text(SMEDIT.format(folder=mishaps, group=GROUP, smedit=real))
        smedit.chmod(smedit.stat().st_mode | stat.S_IXUSR)
        environment = environment_of(self.suite, cluster.environment, mishaps)

        self.status, self.said = self._run(environment)
        self.planned = plan_of(self.suite).runs
        self.made = {p: p.stat().st_mtime_ns for p in (self.results / "runs").glob("*.json")}
        failed = self.results / "failed.csv"
        assert failed.exists(), self.said
        self.failed = list(csv.DictReader(failed.open()))
        self.group = (mishaps / "group").read_text().split()
        (mishaps / "mended").touch()
        self.second_status, self.second_said = self._run(environment)
        self.jobs = cluster.jobs()

    def _run(self, environment):
        done = subprocess.run(
            [*PROFILE, "smoke", *TIGHT],
            cwd=self.suite,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def jobs_of(self, *rules):
        """SLURM's jobs of some rules, of which there must be some.

        A group's comment ends in the rule of its members.
        """
        names = "|".join(rules)
        comment = re.compile(rf"rule_({names})(_wildcards_.*)?|rule_.*_worldfacts-qa_.*_({names})")
        found = [job for job in self.jobs if comment.fullmatch(job["Comment"])]
        assert found, f"{rules}: no such job among {[job['Comment'] for job in self.jobs]}"
        return found


@pytest.fixture(scope="module")
def runs(cluster, local, tmp_path_factory):
    return Runs(cluster, tmp_path_factory.mktemp("runs"))


def resources(job):
    """CPUs, memory in MB, GPUs and minutes that a job asked for."""
    had = dict(part.split("=", 1) for part in job["TRES"].split(","))
    hours, minutes, _ = job["TimeLimit"].split("-")[-1].split(":")
    gpus = job.get("TresPerJob", "gres:gpu:0").rpartition(":")[2]
    return int(had["cpu"]), megabytes(had["mem"]), int(gpus), 60 * int(hours) + int(minutes)


def megabytes(text):
    """SLURM writes 1000M, but also 1.50G."""
    return round(float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]])


def test_a_run_that_fails_for_good_stops_no_other_and_is_named(runs):
    assert runs.status != 0
    assert len(runs.made) == len(runs.planned) - 1
    (failed,) = runs.failed
    assert failed["rule"] == "run"
    assert failed["why"] == "a mishap"
    assert fnmatch(failed["output"], f"*{GROUP}*")
    assert failed["output"] in runs.said
    assert failed["log"] in runs.said


def test_a_run_that_fails_first_stops_no_other_of_its_group(runs):
    """All four were run in the first attempt, where the one that fails was the first."""
    assert runs.group.count(runs.group[0]) == 4, runs.group


def test_the_same_command_makes_what_is_missing_and_nothing_else(runs):
    assert runs.second_status == 0, runs.second_said
    assert all(path.stat().st_mtime_ns == before for path, before in runs.made.items())
    assert len(list((runs.results / "runs").glob("*.json"))) == len(runs.planned)


def test_tables_are_those_of_a_local_run(runs, local):
    process, log, results = local
    assert process.wait() == 0, log.read_text()
    tables = {path.name for path in results.glob("*.csv")}
    assert {path.name for path in runs.results.glob("*.csv")} == tables
    for name in tables - VARYING:
        assert (runs.results / name).read_bytes() == (results / name).read_bytes(), name


def test_every_job_ran_as_a_slurm_job(runs):
    known = {job["JobId"] for job in runs.jobs}
    # The job that writes the provenance does not call smedit.
    logs = [path for path in runs.results.rglob("*.log") if path.stem != "provenance"]
    others = {"prepare_model": 2, "freeze": 2, "choose": 2, "tables": 1, "figures": 1, "report": 1}
    assert len(logs) == len(runs.planned) + sum(others.values())
    for log in logs:
        text = log.read_text()
        where = re.search(r"(?m)^\S+ SLURM job (\d+) on \S+$", text)
        assert where and where[1] in known, log
        assert "warm start []" in text, log


def test_jobs_ask_for_what_they_need(runs):
    for job in runs.jobs_of("run"):
        cpus, memory, gpus, minutes = resources(job)
        assert (cpus, gpus) == (1, 1)
        assert memory in (1500, 3000)
        assert minutes % 10 == 0
        assert minutes <= 4 * 10 * memory // 1500  # the time of all members of a group
    assert {resources(job) for job in runs.jobs_of("prepare_model")} == {(1, 1500, 0, 10)}
    for rule in ("tables_of_results", "figures_of_tables"):
        assert {resources(job) for job in runs.jobs_of(rule)} == {(1, 2000, 0, 10)}


def test_short_jobs_share_submissions(runs):
    """In groups of four, of one model each; the run that was missing has one of its own."""
    shared = Counter((r.settings.model, r.chosen is None) for r in runs.planned.values())
    groups = sum(math.ceil(count / 4) for count in shared.values()) + 1
    first = [job for job in runs.jobs_of("run") if resources(job)[1] == 1500]
    assert len(first) == groups


def test_a_job_killed_for_memory_gets_more(runs):
    assert sorted(resources(job)[1] for job in runs.jobs_of("freeze")) == [400, 400, 1500, 1500]
    logs = (runs.suite / ".snakemake/slurm_logs/rule_freeze").rglob("*.log")
    assert sum("exceeded memory limit" in log.read_text() for log in logs) == 2


def test_a_job_killed_for_time_gets_more(runs):
    killed = [job for job in runs.jobs_of("choose") if job["JobState"] == "TIMEOUT"]
    assert [resources(job)[3] for job in killed] == [1]
    again = [j for j in runs.jobs_of("choose") if resources(j)[3] == 2]
    assert [job["JobState"] for job in again] == ["COMPLETED"]
    assert again[0]["Comment"] == killed[0]["Comment"]
