"""Requirements stand in pyproject.toml alone; constraints.txt and conda's files follow it."""

import os
import subprocess
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_conda_brings_python_and_pip_the_rest():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["dependencies"] == [f"python{PROJECT['requires-python']}", "pip"]


def test_the_script_for_conda_installs_the_suite_from_any_folder(tmp_path):
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$PWD $*" >> {tmp_path}/said\n')
    pip.chmod(0o755)
    copy = tmp_path / "copy.sh"  # as Snakemake has it
    copy.write_text((ROOT / "environment.post-deploy.sh").read_text(encoding="utf-8"))
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SMEDIT_SUITE": str(ROOT)}
    subprocess.run(["sh", copy], cwd=tmp_path, env=environment, check=True)
    first, second = (tmp_path / "said").read_text().splitlines()
    assert first.startswith(f"{ROOT} install -q -c constraints.txt torch==")
    assert second == f"{ROOT} install -q -c constraints.txt -e ."


def test_every_requirement_is_pinned_to_a_version_that_satisfies_it():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)) for pin in pins}
    assert all(specifier.operator == "==" for specifier in pinned.values())
    required = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, required):
        version = pinned[canonicalize_name(requirement.name)].version
        assert requirement.specifier.contains(version), requirement
    assert pinned["torch"].version == "2.13.0"


def test_every_pinned_version_runs_on_the_oldest_python_that_is_promised():
    oldest = f"{PROJECT['requires-python'].removeprefix('>=')}.0"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name in (line.partition("==")[0] for line in lines if not line.startswith("#")):
        needed = metadata(name)["Requires-Python"]
        assert needed is None or SpecifierSet(needed).contains(oldest), name


def test_the_file_with_checksums_has_the_same_versions_all_but_torch():
    lines = (ROOT / "requirements-hashed.txt").read_text(encoding="utf-8").splitlines()
    hashed = {line.split()[0].lower() for line in lines if line[0] not in "# "}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()[1:]
    names = {line.replace("_", "-") for line in pinned if not line.startswith("torch==")}
    assert hashed == names
