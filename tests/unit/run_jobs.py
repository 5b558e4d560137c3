"""Jobs of runs on a tiny model, and how they are run from the command line."""

import json
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from smedit.cli import main
from smedit.plan.settings import Measurement, declared
from smedit.plan.variants import resolve
from smedit.store.results import read_result

MODULES = ("model.layers.2.mlp.down_proj", "model.layers.3.mlp.down_proj")
SMALL = {
    **{"n_edits": 4, "n_requests": 8, "n_batches": 5, "points": 2, "generate": 2},
    **{"meta_lr": 1e-3, "lr": 1e-2, "reg_coef": 0.01, "rank": 8, "n_blocks": 2, "bound": 0.1},
}
QA = {"format": "zsre", "source": "builtin", "target": "alt"}


def place(spec=QA):
    folder = {"model_folder": "unused", "model_spec": {"source": "path"}}
    return {**folder, "dataset_spec": spec, "device": "cpu"}


def make_job(method="SMEdit", asked=({},), *, spec=QA, **settings):
    """A job: settings, and for each measurement what differs from them."""
    given = {"model": "tiny", "dataset": "qa", "method": method, **SMALL, **settings}
    known = set(declared(Measurement))
    made, _ = resolve(given, MODULES)
    measured = [
        asdict(resolve({**given, **{k: v for k, v in each.items() if k in known}}, MODULES)[1])
        for each in asked
    ]
    return {
        **place(spec),
        "settings": asdict(made) | {"edit_modules": list(made.edit_modules)},
        "asked": measured,
        "identity": "x",
        "keep_editor": False,
        "chosen": None,
    }


def make_freeze(spec=QA, rows=None, sequential=True, **settings):
    job = make_job(spec=spec, **settings)
    names = ("model", "dataset", "seed", "edit_modules", "precision", "threads", "minibatch")
    return {
        **place(spec),
        "settings": {name: job["settings"][name] for name in names},
        "rows": rows or {"train": 16, "tune": 8, "eval": 20},
        "sequential": sequential,
    }


def call(*arguments):
    """A step of the workflow."""
    return main(["job", *map(str, arguments)])


def frozen(folder, job=None):
    """What a run reads, made once in a folder."""
    files = [folder / "states.safetensors", "--before", folder / "before.json"]
    if not (files[0].exists() and files[2].exists()):
        assert call("freeze", "--job", json.dumps(job or make_freeze()), "--out", *files) == 0
    return files


def run_job(folder, job, *more, freeze=None, name="result"):
    """Run a job; its status and where its result is."""
    out = folder / f"{name}.json"
    files = frozen(folder, freeze)
    return call("run", "--job", json.dumps(job), "--states", *files, "--out", out, *more), out


def numbers(out):
    """A result without what differs from run to run."""
    result = read_result(out)
    for key in ("seconds", "memory_mb", "asked"):
        del result[key]
    for step in result["training"]:
        del step["seconds"]
    for evaluation in result["evaluations"]:
        del evaluation["seconds"]
        for point in evaluation["points"]:
            del point["edit_seconds"], point["memory_mb"]
    return result


@contextmanager
def failing_at(owner, name, count):
    """Let the n-th call of a method fail."""
    works, calls = getattr(owner, name), []

    def failing(*arguments, **options):
        calls.append(None)
        if len(calls) == count:
            raise OSError("the power went")
        return works(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, failing)
        yield


def error_of(capsys):
    """The one line of the output that says what is wrong."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    return line
