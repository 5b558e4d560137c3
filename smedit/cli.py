"""The commands that the workflow's rules and a person call: ``smedit --help``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smedit.errors import INTERRUPTED, UserError, located, message
from smedit.hosting import warm_start
from smedit.store.files import refuse
from smedit.store.results import result_with, write_result

log = logging.getLogger("smedit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it ended well, 2 after one clear line on bad input or a failed run.

    In a run of the workflow, a command that needs PyTorch is handed to the run's warm start.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level="WARNING")
    log.setLevel("INFO")
    options = _parser().parse_args(arguments)
    try:
        if options.warm:
            status = warm_start.forward(sys.argv[1:] if arguments is None else arguments)
            if status is not None:
                return status
        _check_settings(options)
        if "SLURM_JOB_ID" in os.environ:
            log.info("SLURM job %s on %s", os.environ["SLURM_JOB_ID"], socket.gethostname())
        options.run(options)
    except (UserError, OSError) as error:
        print(f"error: {message(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or "no memory left"
        remedy = "use fewer edits, a smaller model or a machine with more memory"
        print(f"error: {reason}; {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smedit", description=__doc__)
    parser.set_defaults(warm=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run, settings=name)
        # A model's folder is made with those above it; a file has its place.
        kind = Path if run is _prepare_model else _new_file
        sub.add_argument("--out", type=kind, required=True, help="what to write")
        return sub

    prepare = command("prepare-model", _prepare_model, "fetch and convert a language model")
    prepare.add_argument("--name", required=True, help="the model's name")
    prepare.add_argument("--spec", type=_json, required=True, help="its source, as JSON")

    freeze = command("freeze", _freeze, "run the frozen part of a model over a dataset, once")
    freeze.set_defaults(warm=True)
    freeze.add_argument("--job", type=_json, required=True, help="settings, as JSON")
    freeze.add_argument("--before", type=_new_file, required=True, help="tokens, scores to write")

    run = command("run", _run, "train an editor and measure what is asked of it")
    run.set_defaults(warm=True)
    run.add_argument("--job", type=_json, required=True, help="settings, as JSON")
    run.add_argument("--states", type=Path, required=True, help="what `freeze` wrote")
    run.add_argument("--before", type=Path, required=True, help="what `freeze` wrote beside it")
    run.add_argument("--chosen", type=Path, help="what `choose` wrote")

    choose = command("choose", _choose, "choose values from what a search measured on one model")
    choose.add_argument("--config", type=_json, required=True, help="the configuration, as JSON")
    choose.add_argument("--search", required=True, help="the experiment that searches")
    choose.add_argument("--model", required=True, help="the model's name")

    bench = command("benchmark", _benchmark, "measure the engine: paths, scaling, losses, streams")
    bench.add_argument("--job", type=_json, required=True, help="settings, as JSON")

    for name, function, text in (
        ("tables", _tables, "collect all results of a configuration in tables"),
        ("figures", _figures, "draw the figures of a configuration from its tables"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=function)
        sub.add_argument("--config", type=_json, required=True, help="the configuration, as JSON")

    text = "keep the results of runs in an archive, from which a clone of the repository goes on"
    pack = commands.add_parser("pack", help=text, description=text)
    pack.set_defaults(run=_pack)
    pack.add_argument("--results", type=Path, required=True, help="the folder of the results")

    text = "show the scores of a run of the workflow, or why requests failed"
    show = commands.add_parser("show", help=text, description=text)
    show.set_defaults(run=_show)
    show.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    for name in ("experiment", "model", "dataset", "variant", "protocol"):
        show.add_argument(f"--{name}", help=f"only rows of this {name}")
    show.add_argument("--failed", metavar="RUN", help="the requests that this run got wrong")

    text = "load PyTorch once for all jobs of a run; the workflow calls this itself"
    serve = commands.add_parser("warm-start", help=text, description=text)
    serve.set_defaults(run=_serve)
    serve.add_argument("--listener", type=int, required=True, help="file descriptor of the socket")
    return parser


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error


def _new_file(text: str) -> Path:
    """The path of a file to write; that it cannot be there is said before the work, not after."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    return path


def _check_settings(options: argparse.Namespace) -> None:
    """The settings come from a checked configuration, or from a person."""
    names = {"job", "spec"} & set(vars(options))
    if not names:
        return
    from smedit.plan.config import check_values
    from smedit.plan.schema import job_schema

    (name,) = names
    schema = {**job_schema(), "$ref": f"#/$defs/{options.settings}"}
    with located(f"--{name}"):
        check_values(getattr(options, name), schema)


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out; PyTorch says so with an error of a general kind."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _prepare_model(options: argparse.Namespace) -> None:
    from smedit.models.model_sources import prepare_model

    prepare_model(options.name, options.spec, options.out)


def _freeze(options: argparse.Namespace) -> None:
    from smedit.run.freeze import freeze

    freeze(options.job, options.out, options.before)


def _run(options: argparse.Namespace) -> None:
    from smedit.run.run import run

    job, out = _with_chosen(options), options.out
    checkpoint, kept = out.with_suffix(".checkpoint"), out.with_suffix(".editor.safetensors")
    result = run(job, options.states, options.before, checkpoint, kept)
    write_result(result, out, options.job)
    checkpoint.unlink(missing_ok=True)


def _with_chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The job, with the values that a search chose for its model and variant."""
    job, wanted = options.job, options.job.get("chosen")
    if not wanted:
        return job
    if options.chosen is None:
        raise UserError("--chosen: missing; name the file that `choose` wrote")
    choice = result_with("chosen", options.chosen)
    place = (wanted["search"], job["settings"]["model"])
    if (choice["search"], choice["model"]) != place:
        found = f"chosen for {choice['model']} in {choice['search']}"
        refuse(options.chosen, f"{found}, not for {place[1]} in {place[0]}")
    values = choice["chosen"].get(wanted["variant"], {})
    missing = [name for name in wanted["names"] if name not in values]
    if missing:
        refuse(options.chosen, f"has no {missing[0]} for {wanted['variant']}")
    settings = job["settings"] | {k: v for k, v in values.items() if k in job["settings"]}
    asked = [m | {k: v for k, v in values.items() if k in m} for m in job["asked"]]
    return {**job, "settings": settings, "asked": asked}


def _choose(options: argparse.Namespace) -> None:
    from smedit.report.collect import choose_values

    result = choose_values(options.config, options.search, options.model)
    write_result(result, options.out)
    for variant, values in result["chosen"].items():
        log.info("%s: %s", variant, ", ".join(f"{k} {v}" for k, v in values.items()))


def _tables(options: argparse.Namespace) -> None:
    from smedit.report.collect import write_tables

    write_tables(options.config)


def _figures(options: argparse.Namespace) -> None:
    from smedit.report.collect import draw_figures

    draw_figures(options.config)


def _pack(options: argparse.Namespace) -> None:
    from smedit.store.archives import pack

    path, count = pack(options.results)
    print(f"{path}: {count} results" if path else "all results are kept already")


def _show(options: argparse.Namespace) -> None:
    from smedit.report.show import show

    if options.failed:
        from smedit.run.failed import failed_requests

        print(failed_requests(options.results, options.failed))
        return
    names = ("experiment", "model", "dataset", "variant", "protocol")
    print(show(options.results, {name: getattr(options, name) for name in names}))


def _benchmark(options: argparse.Namespace) -> None:
    from smedit.benchmark.run import run_benchmark

    run_benchmark(options.job, options.out)


def _serve(options: argparse.Namespace) -> None:
    with socket.socket(fileno=options.listener) as listener:
        warm_start.serve(listener, ["smedit.run.freeze", "smedit.run.run"], main)


if __name__ == "__main__":
    sys.exit(main())
