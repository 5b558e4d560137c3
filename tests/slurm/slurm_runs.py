"""Runs of the suite on the cluster of these tests: what is run, and how."""

import sys
from pathlib import Path

import yaml
from runs import copy_suite

from smedit.plan.config import completed
from smedit.plan.config_files import read_file
from smedit.plan.plan import make_plan

SNAKEMAKE = """\
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

# The plugin looks ever less often while no job ends. Here, jobs take seconds.
RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 2, lambda _, seconds: None)
main()
"""
PROFILE = [
    *(sys.executable, "-c", SNAKEMAKE, "--workflow-profile", "workflow/profiles/slurm"),
    *("--configfile", "config/smoke.yaml", "--config", "gpus_per_job=1"),
    *("--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-keep-successful-logs"),
    # One retry is enough to show that a job gets more, and the run that fails for good costs less.
    *("--retries", "1"),
]

METHODS = {"SMEdit", "UltraEdit"}
EXPERIMENTS = ("search", "chosen", "in_sequence")


def small_suite(folder):
    """A copy of the suite; for time, its smoke test has one dataset and fewer runs."""
    suite = copy_suite(folder / "suite")
    path = suite / "config/smoke.yaml"
    config = yaml.safe_load(path.read_text())
    config["datasets"].remove("worldfacts-cloze")
    config["experiments"] = {name: config["experiments"][name] for name in EXPERIMENTS}
    for experiment in config["experiments"].values():
        methods = [m if isinstance(m, dict) else {"method": m} for m in experiment["methods"]]
        experiment["methods"] = [m for m in methods if m["method"] in METHODS]
    path.write_text(yaml.safe_dump(config))
    return suite


def plan_of(suite):
    """The plan of a copy's smoke configuration."""
    return make_plan(completed(read_file(suite / "config/smoke.yaml")))


def environment_of(suite, environment, *folders):
    """Variables of a run of a copy: its own code, and programs of the virtual environment."""
    path = [*map(str, folders), str(Path(sys.executable).parent), environment["PATH"]]
    return {**environment, "PYTHONPATH": str(suite), "PATH": ":".join(path)}
