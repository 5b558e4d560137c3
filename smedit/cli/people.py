"""What people call: edit facts, ask the edited model, look at what a run of the workflow found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Option


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
    from smedit.store import archives

    path, count = archives.pack(results)
    print(f"{path}: {count} results" if path else "all results are kept already")


COMMANDS: tuple[Callable[..., None], ...] = (show, pack)
