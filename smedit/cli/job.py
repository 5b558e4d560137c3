"""The steps of the workflow, ``smedit job …``: one for each of its rules."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Context, Option

from smedit.cli.options import as_json, new_file
from smedit.errors import UserError, located
from smedit.hosting import warm_start
from smedit.store.files import refuse
from smedit.store.results import EARLIER, result_with, write_result

log = logging.getLogger("smedit")

Json = Annotated[Any, Option(parser=as_json, metavar="JSON", help="settings")]
Configuration = Annotated[Any, Option(parser=as_json, metavar="JSON", help="the configuration")]
Out = Annotated[Path, Option(parser=new_file, metavar="FILE", help="what to write")]


def prepare_model(
    name: Annotated[str, Option(help="the model's name")],
    spec: Annotated[Any, Option(parser=as_json, metavar="JSON", help="its source")],
    out: Annotated[Path, Option(help="the folder to make")],
) -> None:
    """Fetch and convert a language model."""
    _check("spec", spec, "prepare-model")
    from smedit.models import model_sources

    model_sources.prepare_model(name, spec, out)


def freeze(
    context: Context,
    job: Json,
    out: Out,
    before: Annotated[Path, Option(parser=new_file, help="tokens and scores to write")],
) -> None:
    """Run the frozen part of a model over a dataset, once."""
    _warm(context)
    _check("job", job, "freeze")
    from smedit.run import freeze as frozen

    frozen.freeze(job, out, before)


def run(
    context: Context,
    job: Json,
    states: Annotated[Path, Option(help="what `freeze` wrote")],
    before: Annotated[Path, Option(help="what `freeze` wrote beside it")],
    out: Out,
    chosen: Annotated[Path | None, Option(help="what `choose` wrote")] = None,
) -> None:
    """Train an editor and measure what is asked of it."""
    _warm(context)
    _check("job", job, "run")
    from smedit.run import run as runs

    checkpoint, kept = out.with_suffix(".checkpoint"), out.with_suffix(".editor.safetensors")
    earlier = out.with_suffix(EARLIER)
    result = runs.run(_with_chosen(job, chosen), states, before, checkpoint, kept, earlier)
    write_result(result, out, job)
    checkpoint.unlink(missing_ok=True)
    earlier.unlink(missing_ok=True)


def choose(
    config: Configuration,
    search: Annotated[str, Option(help="the experiment that searches")],
    model: Annotated[str, Option(help="the model's name")],
    out: Out,
) -> None:
    """Choose values from what a search measured on one model."""
    from smedit.report.collect import choose_values

    result = choose_values(config, search, model)
    write_result(result, out)
    for variant, values in result["chosen"].items():
        log.info("%s: %s", variant, ", ".join(f"{k} {v}" for k, v in values.items()))


def benchmark(job: Json, out: Out) -> None:
    """Measure the engine: paths, scaling, losses, streams."""
    _check("job", job, "benchmark")
    from smedit.benchmark.run import run_benchmark

    run_benchmark(job, out)


def tables(config: Configuration) -> None:
    """Collect all results of a configuration in tables."""
    from smedit.report.collect import write_tables

    write_tables(config)


def figures(config: Configuration) -> None:
    """Draw the figures of a configuration from its tables."""
    from smedit.report.collect import draw_figures

    draw_figures(config)


def report(config: Configuration) -> None:
    """Write the report of a configuration from its tables and figures."""
    from smedit.report.collect import write_report

    log.info("%s", write_report(config))


def serve(
    listener: Annotated[int, Option(help="file descriptor of the socket")],
) -> None:
    """Load PyTorch once for all jobs of a run; the workflow calls this itself."""
    from smedit.cli import main

    with socket.socket(fileno=listener) as opened:
        warm_start.serve(opened, ["smedit.run.freeze", "smedit.run.run"], main)


COMMANDS: dict[str, Callable[..., None]] = {
    "prepare-model": prepare_model,
    "freeze": freeze,
    "run": run,
    "choose": choose,
    "benchmark": benchmark,
    "tables": tables,
    "figures": figures,
    "report": report,
    "warm-start": serve,
}


def say_where() -> None:
    """A cluster's job writes its number into its log."""
    if "SLURM_JOB_ID" in os.environ:
        log.info("SLURM job %s on %s", os.environ["SLURM_JOB_ID"], socket.gethostname())


class Forwarded(Exception):  # noqa: N818 - a way out of a command, not an error
    """Another process has run the command; with its exit status."""

    def __init__(self, status: int) -> None:
        self.status = status


def _warm(context: Context) -> None:
    """Hand a command that needs PyTorch to the run's warm start, if there is one."""
    status = warm_start.forward(context.obj)
    if status is not None:
        raise Forwarded(status)


def _check(option: str, settings: Any, kind: str) -> None:
    """The settings come from a checked configuration, or from a person."""
    from smedit.plan.config import check_values
    from smedit.plan.schema import job_schema

    with located(f"--{option}"):
        check_values(settings, {**job_schema(), "$ref": f"#/$defs/{kind}"})


def _with_chosen(job: Mapping[str, Any], chosen: Path | None) -> Mapping[str, Any]:
    """A job, with the values that a search chose for its model and variant."""
    wanted = job.get("chosen")
    if not wanted:
        return job
    if chosen is None:
        raise UserError("--chosen: missing; name the file that `choose` wrote")
    choice = result_with("chosen", chosen)
    place = (wanted["search"], job["settings"]["model"])
    if (choice["search"], choice["model"]) != place:
        found = f"chosen for {choice['model']} in {choice['search']}"
        refuse(chosen, f"{found}, not for {place[1]} in {place[0]}")
    values = choice["chosen"].get(wanted["variant"], {})
    missing = [name for name in wanted["names"] if name not in values]
    if missing:
        refuse(chosen, f"has no {missing[0]} for {wanted['variant']}")
    settings = job["settings"] | {k: v for k, v in values.items() if k in job["settings"]}
    asked = [m | {k: v for k, v in values.items() if k in m} for m in job["asked"]]
    return {**job, "settings": settings, "asked": asked}
