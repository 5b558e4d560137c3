"""What a run's tables were made with: versions, machine, git commit, configuration."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from smedit.data.readers import data_files
from smedit.errors import with_status
from smedit.plan.config import config_text
from smedit.plan.plan import make_plan
from smedit.store.files import refuse, replacing
from smedit.store.results import read_result

MODELS = Path("resources/models")
SUITE = Path(__file__).resolve().parents[2]
PACKAGES = (
    "smedit",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "datasets",
    "gguf",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "seaborn",
    "snakemake",
)


def provenance(config: dict[str, Any], results: Path) -> dict[str, Any]:
    """Everything that a reader needs to judge or repeat a run, JSON-ready."""
    text, plan = config_text(config), make_plan(config)
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        },
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "job_seconds": job_seconds(results / "benchmarks"),
        "model_files": {name: model_files(MODELS / name) for name in plan.models},
        "self_tests": {name: self_test(MODELS / name) for name in plan.models},
        "data_files": {name: file_sums(name, spec) for name, spec in plan.datasets.items()},
        "rows": {name: recorded_counts(results / "frozen", name) for name in plan.datasets},
        "engines": engines(results / "runs", plan.runs),
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "config": config,
    }


def model_files(folder: Path) -> dict[str, str]:
    """File → SHA-256 of a prepared model; empty if it is no longer there."""
    sums = folder / "checksums.json"
    if not sums.is_file():
        return {}
    try:
        files = json.loads(sums.read_bytes())
        return {file: entry["sha256"] for file, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        refuse(folder, f"its file {sums.name} is not a whole list of checksums")


def self_test(folder: Path) -> dict[str, Any] | None:
    """What trying a model gave when it was prepared: the way it runs, the largest difference."""
    notes = folder / "source.json"
    # An earlier version of the suite tried none.
    return read_result(notes, part_of=folder).get("self_test") if notes.is_file() else None


def file_sums(name: str, spec: dict[str, Any]) -> dict[str, str]:
    """File → SHA-256 of a dataset in a folder; a revision or this package fixes the others."""
    files = data_files(name, spec)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def recorded_counts(frozen: Path, dataset: str) -> dict[str, Any]:
    """Rows of each split of a dataset, and what was left out and why, as `freeze` counted them.

    They are the same for every model and seed. Empty if no job of this run has read the dataset.
    """
    for path in sorted(frozen.glob("*.json")):
        before = read_result(path)
        if before["made_for"]["dataset"] == dataset:
            return before["dataset"]
    return {}


def engines(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Checksum of the engine's sources → number of results that they made."""
    return Counter(read_result(folder / f"{name}.json")["engine"] for name in names)


def git_state() -> dict[str, Any]:
    """The suite's commit, and whether its files differ from it; null outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=SUITE, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    status = git("status", "--porcelain", "--", ".", ":!results", ":!figures")
    changed = None if status is None else status != ""
    return {"commit": git("rev-parse", "HEAD"), "changed": changed}


def processor() -> str:
    """The processor's name as Linux gives it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def job_seconds(benchmarks: Path) -> dict[str, dict[str, float]]:
    """Per rule: number of jobs and their seconds in all, from Snakemake's benchmark files."""
    totals: dict[str, dict[str, float]] = {}
    for path in sorted(benchmarks.rglob("*.tsv")):
        rule = path.relative_to(benchmarks).parts[0].removesuffix(".tsv")
        seconds = float(pd.read_csv(path, sep="\t")["s"].mean())
        total = totals.setdefault(rule, {"jobs": 0, "seconds": 0.0})
        total["jobs"] += 1
        total["seconds"] = round(total["seconds"] + seconds, 1)
    return totals


@with_status
def main() -> None:
    """Write the file; it is complete or not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=json.loads, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    text = json.dumps(provenance(options.config, options.results), indent=1)
    with replacing(options.out) as part:
        part.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
