"""Whole runs of the smoke configuration, each in a copy of the suite of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_COPIED = {".git", ".venv", ".snakemake", "resources", "results", "figures", "smoke"}
VARYING = {"timings.csv", "memory.csv", "runs.csv", "summary.csv"}
"""Tables with seconds and megabytes: the only ones that differ between two runs."""


def copy_suite(folder):
    """The suite without anything that a run makes."""

    def ignore(where, names):
        return NOT_COPIED & set(names) if Path(where) == ROOT else {"__pycache__"} & set(names)

    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def start(folder, log, cores=2):
    """Start the run in a session of its own; what it prints is added to a file."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "smoke"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("a") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def run(folder, cores=2):
    """Run to the end; its exit status and what it printed."""
    log = folder / "run.log"
    log.unlink(missing_ok=True)
    status = start(folder, log, cores).wait()
    return status, log.read_text()


def kill(process):
    """SIGKILL for Snakemake and all its jobs."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def n_files(folder):
    """How far a run is: the files that its jobs have finished."""
    results = (folder / "smoke").rglob("*")
    models = (folder / "resources").glob("models/[!.]*/config.json")
    return sum(1 for path in [*results, *models] if path.suffix in (".json", ".csv", ".png"))


def wait_for(process, folder, count):
    """Wait until so many files are finished; False if the run ended before."""
    while n_files(folder) < count:
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    return process.poll() is None


def tables(folder):
    """Name → bytes of every table whose values do not depend on the time."""
    found = sorted((folder / "smoke/results").glob("*.csv"))
    return {path.name: path.read_bytes() for path in found if path.name not in VARYING}
