"""The workflow from another folder than its own, and what it runs on GPUs."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from smedit.plan.catalogue import named

ROOT = Path(__file__).parents[2]
PATHS = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    run = subprocess.run(
        command, cwd=folder, env=os.environ | PATHS, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("reproduce", ["--snakefile", f"{ROOT}/Snakefile"]),
        ("bench", ["--snakefile", f"{ROOT}/workflow/benchmark.smk"]),
    ],
)
def test_it_is_planned_from_any_folder(target, where, tmp_path):
    text = snakemake(tmp_path, target, *where, "--dry-run", "--quiet", "rules")
    assert "prepare_model" in text


def test_a_model_is_made_in_the_folder_where_the_run_is(tmp_path):
    """By the suite's configuration, which names a file of the suite; given as --directory."""
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))
    config["models"] = copy.deepcopy(named(config, "models"))
    config["models"]["tiny-gpt2"]["steps"] = 1
    (tmp_path / "steps.yaml").write_text(yaml.safe_dump(config))
    files = ["--configfile", f"{tmp_path}/steps.yaml"]
    model = "resources/models/tiny-gpt2"
    snakemake(ROOT, model, "--directory", str(tmp_path), *files)
    assert (tmp_path / model / "source.json").is_file()
    assert (tmp_path / "smoke/results/logs/prepare_model/tiny-gpt2.log").is_file()
    own = "config/architectures/tiny-gpt2.json"
    assert f'"{own}"' in (tmp_path / model / "source.json").read_text()  # wherever it was found

    (tmp_path / own).parent.mkdir(parents=True)
    shutil.copy(ROOT / "config/architectures/tiny-llama.json", tmp_path / own)
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-s", f"{ROOT}/Snakefile", *files],
        cwd=tmp_path,
        env=os.environ | PATHS,
        capture_output=True,
        text=True,
    )
    message = "models.tiny-gpt2.edit_modules: the model has no edit module"
    assert message in run.stdout + run.stderr  # this one comes first


@pytest.mark.parametrize(
    ("gpus", "mode", "command"),
    [
        (0, "default", "smedit freeze "),
        (2, "default", "python -m smedit.hosting.gpu_slots 2 smedit freeze "),
        (2, "remote", "smedit freeze "),
    ],
)
def test_a_job_takes_gpus_if_it_is_to_have_some(gpus, mode, command, tmp_path):
    """What SLURM starts, in mode remote, has them from SLURM."""
    given = ["--configfile", f"{ROOT}/config/smoke.yaml", "--config", f"gpus_per_job={gpus}"]
    given += ["--mode", mode, "--dry-run", "--printshellcmds"]
    text = snakemake(tmp_path, "tables", "--snakefile", f"{ROOT}/Snakefile", *given)
    assert f"Shell command: {command}" in text
