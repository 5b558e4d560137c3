"""pyproject.toml, environment.yml and constraints.txt state one set of requirements."""

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]


def test_conda_installs_what_the_project_requires():
    (pip,) = [entry["pip"] for entry in conda() if isinstance(entry, dict)]
    assert pip == PROJECT["dependencies"]
    assert f"python{PROJECT['requires-python']}" in conda()


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


def test_the_file_with_checksums_has_the_same_versions_all_but_torch():
    lines = (ROOT / "requirements-hashed.txt").read_text(encoding="utf-8").splitlines()
    hashed = {line.split()[0].lower() for line in lines if line[0] not in "# "}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()[1:]
    names = {line.replace("_", "-") for line in pinned if not line.startswith("torch==")}
    assert hashed == names
