"""The commands that the workflow's rules and a person call: ``smedit --help``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from importlib.resources import files
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

    cell = command("run-cell", _run_cell, "train and evaluate one cell of the grid")
    cell.set_defaults(warm=True)
    cell.add_argument("--job", type=_json, required=True, help="settings, as JSON")
    cell.add_argument("--states", type=Path, required=True, help="what `freeze` wrote")
    cell.add_argument("--before", type=Path, required=True, help="what `freeze` wrote beside it")
    cell.add_argument("--chosen", type=Path, help="what `choose` wrote")

    stream = command("run-stream", _run_stream, "train an editor and edit one stream")
    stream.set_defaults(warm=True)
    stream.add_argument("--job", type=_json, required=True, help="settings, as JSON")
    stream.add_argument("--states", type=Path, required=True, help="what `freeze` wrote")
    stream.add_argument("--before", type=Path, required=True, help="what `freeze` wrote beside it")
    stream.add_argument("--chosen", type=Path, help="what `choose --streams` wrote")

    choose = command("choose", _choose, "choose hyperparameters from a model's search")
    choose.add_argument("--results", type=Path, nargs="*", default=[], help="result files, if any")
    choose.add_argument("--model", required=True, help="the model's name")
    choose.add_argument("--streams", action="store_true", help="they are results of `run-stream`")

    bench = command("benchmark", _benchmark, "measure the engine: paths, scaling, losses, streams")
    bench.add_argument("--job", type=_json, required=True, help="settings, as JSON")

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
    import yaml

    from smedit.plan.config import check_values

    (name,) = names
    text = files("smedit.data").joinpath("job.schema.yaml").read_text(encoding="utf-8")
    schema = {**yaml.safe_load(text), "$ref": f"#/$defs/{options.settings}"}
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
    from smedit.run.experiment import freeze

    freeze(options.job, options.out, options.before)


def _run_cell(options: argparse.Namespace) -> None:
    from smedit.run.experiment import run_cell

    job = _with_chosen(options, "batches")
    write_result(run_cell(job, options.states, options.before), options.out, options.job)


def _run_stream(options: argparse.Namespace) -> None:
    from smedit.run.stream_cell import run_stream

    job = _with_chosen(options, "streams")
    checkpoint = options.out.with_suffix(".checkpoint")
    result = run_stream(job, options.states, options.before, checkpoint)
    write_result(result, options.out, options.job)
    checkpoint.unlink(missing_ok=True)


def _with_chosen(options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """The job, with the values that a search of its kind chose for its model and method."""
    job = options.job
    if not options.chosen:
        return job
    choice = result_with("chosen", options.chosen)
    if (choice["model"], choice["search"]) != (job["model"], kind):
        searched = f"chosen for {choice['model']} in {choice['search']}"
        refuse(options.chosen, f"{searched}, not for {job['model']} in {kind}")
    values = choice["chosen"].get(job["settings"]["method"], {})
    return {**job, "hyperparameters": {**job["hyperparameters"], **values}}


def _choose(options: argparse.Namespace) -> None:
    from smedit.plan.grid import TUNED
    from smedit.plan.stream_grid import STREAM_TUNED
    from smedit.plan.tuning import chosen_values, tuning_table

    kind, tuned, scores = (
        ("streams", STREAM_TUNED, "points") if options.streams else ("batches", TUNED, "scores")
    )
    results = [result_with(scores, path) for path in options.results]
    for path, result in zip(options.results, results, strict=True):
        model = result["settings"]["model"]
        if model != options.model:
            raise UserError(f"{path}: is of {model}, not of {options.model}; name the right file")
    chosen = chosen_values(tuning_table(results, tuned), tuned)
    write_result({"model": options.model, "search": kind, "chosen": chosen}, options.out)
    for method, values in chosen.items():
        log.info("%s: %s", method, ", ".join(f"{k} {v:g}" for k, v in values.items()))


def _benchmark(options: argparse.Namespace) -> None:
    from smedit.benchmark.run import run_benchmark

    run_benchmark(options.job, options.out)


def _serve(options: argparse.Namespace) -> None:
    with socket.socket(fileno=options.listener) as listener:
        warm_start.serve(listener, ["smedit.run.experiment", "smedit.run.stream_cell"], main)


if __name__ == "__main__":
    sys.exit(main())
