"""Runs of the suite on the cluster of these tests: what is run, and how."""

import sys
from pathlib import Path

import yaml
from runs import copy_suite

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
    # One retry is enough to show that a job gets more, and the cell that fails for good costs less.
    *("--retries", "1"),
]

METHODS = {"MEND", "SMEdit", "UltraEdit"}


def small_suite(folder):
    """A copy of the suite, whose smoke configuration has one dataset and three methods, for time.

    Its grid has four cells for each model, and ten streams.
    """
    suite = copy_suite(folder / "suite")
    path = suite / "config/smoke.yaml"
    config = yaml.safe_load(path.read_text())
    del config["datasets"]["worldfacts-cloze"]
    for part in (config, config["sequential"]):
        for experiment in part["experiments"].values():
            known = [m for m in experiment["methods"] if m["method"] in METHODS]
            experiment["methods"] = known
    path.write_text(yaml.safe_dump(config))
    return suite


def environment_of(suite, environment, *folders):
    """Variables of a run of a copy: its own code, and programs of the virtual environment."""
    path = [*map(str, folders), str(Path(sys.executable).parent), environment["PATH"]]
    return {**environment, "PYTHONPATH": str(suite), "PATH": ":".join(path)}
