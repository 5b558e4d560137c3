"""What is borrowed of Snakemake is there: a small workflow goes through every function."""

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from runs import ROOT
from snakemake_executor_plugin_slurm import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from smedit.hosting import borrowed
from smedit.hosting.console import LogHandler

SNAKEFILE = """
import json
from smedit.hosting import borrowed

said = {
    "is_main": borrowed.is_main(workflow),
    "is_started_by_cluster": borrowed.is_started_by_cluster(workflow),
    "runs_here": borrowed.runs_here(workflow),
    "brings_environments": borrowed.brings_environments(workflow),
    "given_files": [str(path) for path in borrowed.given_files(workflow)],
    "sources": str(borrowed.sources(workflow)),
    "folder_of_snakefile": str(borrowed.folder_of_snakefile(workflow)),
    "resource": [borrowed.resource(workflow, name) for name in ("gpu", "turn")],
}
borrowed.name_group(workflow, "of_one_model", "runs")
borrowed.keep_going(workflow)

rule all:
    input: "good", "done"

rule work:
    output: "{name}"
    wildcard_constraints: name="good|bad|done"
    log: "{name}.log"
    benchmark: "{name}.tsv"
    group: "of_one_model"
    threads: 1
    params: job=lambda w: json.dumps({"name": w.name})
    shell: "echo {params.job:q} > {log}; [[ {wildcards.name} == [gd]* ]] && touch {output}"

def tell(jobs):
    return [[j.rule, *j.outputs, j.log, j.benchmark, j.threads] for j in jobs]

def keep():
    with open("said.json", "w") as file:
        json.dump(said, file)

onstart:
    said["jobs_to_do"] = tell(borrowed.jobs_to_do(workflow))
    said["jobs_of_run"] = tell(borrowed.jobs_of_run(workflow))
    said["settings_of_jobs"] = list(borrowed.settings_of_jobs(workflow).values())
    said["slurm_run"] = borrowed.slurm_run(workflow)
    borrowed.listen_to_slurm(workflow, print)

onsuccess:
    keep()

onerror:
    said["failed_jobs"] = tell(borrowed.failed_jobs(workflow))
    keep()
"""


TARGETS = ("bad", "good", "done")


def run(folder, *arguments):
    """Run the small workflow; its exit status, and what it printed."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What the functions say in a run of which one job is done already and another fails."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "given.yaml").write_text("a: 1\n")
    (folder / "done").touch()
    options = ("--configfile", "given.yaml", "--resources", "gpu=3", "--config", "given=2")
    status, printed = run(folder, *options, "-k", "--logger", "smedit", "--", *TARGETS)
    assert status == 1 and (folder / "said.json").is_file(), printed
    return json.loads((folder / "said.json").read_text()), printed, folder


def test_every_function_says_what_is_so(small):
    said, _, folder = small
    good, bad, done = (
        ["work", name, f"{name}.log", f"{name}.tsv", 1] for name in ("good", "bad", "done")
    )
    assert sorted(said.pop("jobs_of_run")) == [bad, done, good]
    assert sorted(said.pop("jobs_to_do")) == [bad, good]
    assert {settings["name"] for settings in said.pop("settings_of_jobs")} == {
        "good",
        "bad",
        "done",
    }
    assert said == {
        "is_main": True,
        "is_started_by_cluster": False,
        "runs_here": True,
        "brings_environments": False,
        "given_files": [str(folder / "given.yaml")],
        "sources": f"([{folder / 'given.yaml'!r}], {{'given': 2}})",
        "folder_of_snakefile": str(folder),
        "resource": [3, None],
        "slurm_run": None,
        "failed_jobs": [bad],
    }


def test_the_logger_understands_its_records(small):
    _, printed, _ = small
    assert "failed: work → bad\n  log: bad.log\n" in printed
    assert "[[" not in printed and "Select jobs" not in printed and "Traceback" not in printed
    assert "Complete log(s): " in printed


def test_in_a_job_of_a_cluster_the_rest_goes_on(tmp_path):
    status, printed = run(tmp_path, "--mode", "remote", "--no-hooks", *TARGETS[:2])
    assert status == 1 and (tmp_path / "good").exists(), printed


def test_what_slurm_s_plugin_says_of_a_failed_submission_is_heard():
    """On an executor that is not started, whose own names are looked up in its source."""
    executor = Executor.__new__(Executor)
    assert "self.run_uuid = " in inspect.getsource(type(executor))
    executor.run_uuid, told, heard = "id", [], []
    executor.print_job_error = lambda info, msg, **options: told.append(msg)
    assert callable(Executor.print_job_error)
    workflow = SimpleNamespace(scheduler=SimpleNamespace(_executor=executor))
    job = SimpleNamespace(is_group=lambda: False, jobid=1, rule=SimpleNamespace(name="r"))
    vars(job).update(output=["o"], log=["l"], benchmark=None, threads=1)
    borrowed.listen_to_slurm(workflow, lambda *what: heard.append(what))
    info = SubmittedJobInfo(job, external_jobid="7")
    executor.print_job_error(info, "TIMEOUT", aux_logs=["slurm.log"])
    assert told == ["TIMEOUT"] and borrowed.slurm_run(workflow) == "id"
    assert heard == [([borrowed.Job(1, "r", ("o",), "l")], "TIMEOUT", True, ("slurm.log",))]


def test_snakemake_finds_the_logger():
    assert LoggerPluginRegistry().get_plugin("smedit").log_handler is LogHandler


def test_versions_are_bounded_and_this_one_is_within():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {r.name: r for r in map(Requirement, project["dependencies"]) if "snakemake" in r.name}
    for name in (
        *("snakemake", "snakemake-executor-plugin-slurm"),
        "snakemake-interface-logger-plugins",
    ):
        operators = {each.operator for each in found[name].specifier}
        assert operators == {">=", "<"} and found[name].specifier.contains(version(name))


def test_snakemake_s_insides_are_named_in_one_room_alone():
    """In rules, the workflow is only handed on; `workflow.basedir` and `cores` are public."""
    for path in (ROOT / "Snakefile", *ROOT.glob("workflow/**/*.smk")):
        text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        assert set(re.findall(r"\bworkflow\.([a-z_]+)", text)) <= {"basedir", "smk"}, path
    allowed = {ROOT / "smedit/hosting/borrowed.py", ROOT / "smedit/hosting/console.py"}
    for path in {*ROOT.glob("smedit/**/*.py"), *ROOT.glob("baselines/*.py")} - allowed:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("snakemake")], path


def test_every_function_is_tried_here():
    tree = ast.parse((ROOT / "smedit/hosting/borrowed.py").read_text(encoding="utf-8"))
    public = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    assert [name for name in public if f"borrowed.{name}(" not in SNAKEFILE] == []
