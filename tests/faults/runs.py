"""Runs of the workflow as a person starts them; whole ones in copies of the suite of their own."""

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
COMMAND = [sys.executable, "-m", "snakemake"]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def snakemake(*arguments, cwd=ROOT, cores=1):
    """Run Snakemake to its end: the exit status, and what it printed."""
    command = [*COMMAND, "--cores", str(cores), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def planned(*arguments, cwd=ROOT):
    """What a dry run prints."""
    status, text = snakemake(*arguments, "--dry-run", cwd=cwd)
    assert status == 0, text
    return text


def copy_suite(folder):
    """The suite without anything that a run makes."""

    def ignore(where, names):
        return NOT_COPIED & set(names) if Path(where) == ROOT else {"__pycache__"} & set(names)

    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def start(folder, log, cores=2):
    """Start the run in a session of its own; what it prints is added to a file."""
    with log.open("a") as output:
        return subprocess.Popen(
            [*COMMAND, "--cores", str(cores), "smoke"],
            **{"cwd": folder, "env": ENVIRONMENT, "stdout": output, "stderr": output},
            start_new_session=True,
        )


def run(folder, cores=2):
    """Run to the end; its exit status and what it printed."""
    return snakemake("smoke", cwd=folder, cores=cores)


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
