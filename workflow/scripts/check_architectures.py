"""Try the engine on a tiny random model of every causal language model class of transformers.

``python workflow/scripts/check_architectures.py`` prints the table of ``docs/models.md`` as
Markdown; names of model types as arguments restrict it to these. ``--write`` puts it in there.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from smedit.engine.language_model import LanguageModel
from smedit.engine.self_test import WAYS
from smedit.errors import UserError, with_status
from tiny_models import MODEL_TYPES, CannotBuildError, build

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- architectures: begin -->\n", "<!-- architectures: end -->\n"
COLUMNS = ("model type", "runs", "largest difference", "why not faster")


@dataclass(frozen=True)
class Row:
    """What was found for one model type; ``runs`` is a key of `WAYS`, or `REFUSED`, `NOT_BUILT`."""

    model_type: str
    runs: str
    difference: str
    why: str


REFUSED, NOT_BUILT = "refused", "not built"


def check(model_type: str) -> Row:
    """Try the engine on one model type."""
    try:
        tiny = build(model_type)
    except CannotBuildError as error:
        return Row(model_type, NOT_BUILT, "", str(error))
    try:
        tested = LanguageModel(tiny.model, None, tiny.edit_modules, model_type).tested
    except UserError as error:
        return Row(model_type, REFUSED, "", str(error).removeprefix(f"{model_type}: "))
    *_, why = tested.refused.values() or [""]  # what the next faster way gave
    return Row(model_type, tested.way, f"{tested.difference:.0e}", why)


def markdown(rows: Iterable[Row]) -> str:
    """The counts, the names of what runs the fast way, and a table of the others."""
    rows = list(rows)
    fast = [row for row in rows if row.runs == "fast"]
    others = sorted(
        (row for row in rows if row.runs != "fast"),
        key=lambda row: [*WAYS, REFUSED, NOT_BUILT].index(row.runs),
    )
    largest = max((float(row.difference) for row in rows if row.difference), default=0.0)
    counts = ", ".join(
        f"{sum(row.runs == runs for row in rows)} {runs}" for runs in (*WAYS, REFUSED, NOT_BUILT)
    )
    lines = [
        f"transformers {transformers.__version__}, {len(rows)} model types: {counts}. Largest "
        f"difference from the plain numbers: {largest:.0e}.",
        "",
        "**Fast**: " + ", ".join(f"`{row.model_type}` ({row.difference})" for row in fast) + ".",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---' for _ in COLUMNS)} |",
        *(
            f"| `{row.model_type}` | {row.runs} | {row.difference} | {row.why.replace('|', '/')} |"
            for row in others
        ),
    ]
    return "\n".join(lines) + "\n"


@with_status
def main() -> None:
    """Print the table, or write it into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_types", nargs="*", metavar="TYPE", help="all by default")
    parser.add_argument("--write", action="store_true", help=f"replace the table in {DOCS.name}")
    options = parser.parse_args()
    unknown = set(options.model_types) - set(MODEL_TYPES)
    if unknown:
        raise UserError(f"unknown model type {min(unknown)!r}; see transformers' list")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    logging.getLogger("smedit").setLevel("ERROR")
    table = markdown(check(model_type) for model_type in options.model_types or MODEL_TYPES)
    if not options.write:
        sys.stdout.write(table)
        return
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
