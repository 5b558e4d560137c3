"""What people look things up with: names, a configuration's plan, results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from smedit.errors import UserError


class Kind(StrEnum):
    """What can be listed."""

    MODELS = "models"
    DATASETS = "datasets"
    METHODS = "methods"
    METRICS = "metrics"
    EXPERIMENTS = "experiments"


def list_names(
    kind: Annotated[Kind, Argument(help="what to list")],
    config: Annotated[
        Path, Option(metavar="FILE", help="the configuration whose experiments are listed")
    ] = Path("config/config.yaml"),
) -> None:
    """List what there is: models, datasets, methods, metrics, or experiments."""
    found = _listed(kind, config)
    width = max(map(len, found))
    for name, text in found.items():
        print(f"{name:<{width}}  {text}".rstrip())


def _listed(kind: Kind, config: Path) -> Mapping[str, str]:
    if kind in (Kind.MODELS, Kind.DATASETS):
        from smedit.plan.catalogue import catalogue

        return {
            name: ", ".join(
                f"{key} {spec[key]}"
                for key in ("format", "source", "repository", "data_dir")
                if key in spec
            )
            for name, spec in catalogue(kind).items()
        }
    if kind == Kind.METHODS:
        from smedit.methods import known_methods

        return {
            name: f"{m.shift_rule.rpartition(':')[2]}, {m.bp_steps} steps, locality {m.locality}, "
            f"training {m.training}"
            for name, m in known_methods().items()
        }
    if kind == Kind.METRICS:
        from smedit.report.metrics import METRICS, SCORES

        return {name: measure.definition for name, measure in {**METRICS, **SCORES}.items()}
    from smedit.plan.config import completed
    from smedit.plan.config_files import read_file
    from smedit.plan.plan import make_plan
    from smedit.store.files import suite_path

    file = suite_path(str(config))
    plan = make_plan(completed(read_file(file), file.stem))
    rows: dict[str, set[str]] = {}
    for row in plan.resolved():
        rows.setdefault(row["experiment"], set()).add(row["run"])
    return {name: f"{len(runs)} runs" for name, runs in rows.items()}


def check(
    config: Annotated[list[Path], Argument(help="configuration files, each over the one before")],
) -> None:
    """Check a configuration without running anything: its plan, or what is wrong."""
    from smedit.models.architectures import check_models
    from smedit.plan.config import check_data, completed
    from smedit.plan.config_files import explained, read_together
    from smedit.plan.forecast import screen
    from smedit.plan.plan import make_plan

    try:
        whole = completed(read_together(config), config[0].stem)
        plan = make_plan(whole)
        check_data(plan)
        check_models(plan.models)
    except (UserError, OSError) as error:
        raise UserError(explained(error, config, {})) from error
    print(screen(plan, Path(whole["results_dir"])))


def report(
    config: Annotated[list[Path], Argument(help="configuration files, each over the one before")],
) -> None:
    """Tables, figures and the report of what is done so far of a configuration's runs."""
    from smedit.plan.config import completed
    from smedit.plan.config_files import explained, read_together
    from smedit.plan.jobs import same_data
    from smedit.plan.plan import make_plan
    from smedit.report.collect import draw_figures, write_report, write_tables
    from smedit.store.archives import unpack, unpacked

    try:
        whole = completed(read_together(config), config[0].stem)
        plan, results = make_plan(whole), Path(whole["results_dir"])
    except (UserError, OSError) as error:
        raise UserError(explained(error, config, {})) from error
    same = same_data(plan, results, absent=True)
    other = {name for name, run in plan.runs.items() if run.settings.dataset not in same}
    kept = {name for name in other if unpacked(results / f"runs/{name}.json")}
    for dataset in sorted({plan.runs[name].settings.dataset for name in kept}):
        text = "%s: its files are not those of the kept results, which are left out"
        logging.getLogger("smedit").warning(text, dataset)
    unpack(results, lambda name: name in plan.runs and name not in other)
    write_tables(whole, all_done=False, without=kept)
    draw_figures(whole)
    print(write_report(whole))


def show(
    results: Annotated[Path, Option(help="folder of the tables")] = Path("results"),
    experiment: Annotated[str | None, Option(help="only rows of this experiment")] = None,
    model: Annotated[str | None, Option(help="only rows of this model")] = None,
    dataset: Annotated[str | None, Option(help="only rows of this dataset")] = None,
    variant: Annotated[str | None, Option(help="only rows of this variant")] = None,
    protocol: Annotated[str | None, Option(help="only rows of this protocol")] = None,
    failed: Annotated[
        str | None, Option(metavar="RUN", help="the requests that this run got wrong")
    ] = None,
) -> None:
    """Show the scores of a run of the workflow, or why requests failed."""
    from smedit.report import show as report

    if failed:
        from smedit.run.failed import failed_requests

        print(failed_requests(results, failed))
        return
    filters = {"experiment": experiment, "model": model, "dataset": dataset}
    print(report.show(results, {**filters, "variant": variant, "protocol": protocol}))


def pack(results: Annotated[Path, Option(help="folder of the results")]) -> None:
    """Keep results of runs in an archive, from which a clone of the repository goes on."""
    from smedit.data.readers import data_files
    from smedit.store import archives

    def files_of(result: Mapping[str, Any]) -> list[Path]:
        return data_files(result["settings"]["dataset"], result["dataset_spec"])

    path, count = archives.pack(results, files_of)
    print(f"{path}: {count} results" if path else "all results are kept already")
