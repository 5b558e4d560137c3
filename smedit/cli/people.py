"""What people call: edit facts, ask the edited model, look at what a run of the workflow found."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from smedit.cli.listed import check, list_names, pack, show
from smedit.cli.new_method import new_method
from smedit.errors import UserError
from smedit.store.files import check_replaceable, check_writable

if TYPE_CHECKING:
    from smedit.editing.edited import EditedModel
    from smedit.editing.models import BaseModel

log = logging.getLogger("smedit")

Model = Annotated[
    str, Option(help="a name (smedit list models), a folder, or OWNER/NAME@REVISION of the hub")
]
Modules = Annotated[
    list[str] | None,
    Option(help="modules to edit, if not the usual ones; {24..29} is a range; may be repeated"),
]
Device = Annotated[str, Option(help="cpu, cuda or auto")]
Precision = Annotated[str, Option(help="of the weights: float32 or bfloat16")]
Facts = Annotated[Path, Option(metavar="FILE", help="facts: JSON, JSONL or CSV")]
Method = Annotated[str, Option(help="smedit list methods")]
Dataset = Annotated[str, Option(help="what to train on: a name (smedit list datasets) or a file")]
Batches = Annotated[int, Option(min=0, help="training batches")]
BatchSize = Annotated[int, Option(min=1, help="edits in a training batch")]


def edit(
    model: Model,
    facts: Facts,
    out: Annotated[Path, Option(help="folder to write the edited model to")],
    method: Method = "SMEdit",
    editor: Annotated[
        Path | None, Option(metavar="FOLDER", help="an editor of smedit train; else one is trained")
    ] = None,
    train_on: Dataset = "worldfacts-qa",
    batches: Batches = 5,
    n_edits: BatchSize = 32,
    step_size: Annotated[
        float | None, Option(min=0, help="at edit time; else chosen under the bound on harm")
    ] = None,
    harm_at_most: Annotated[float, Option(min=0, help="the bound, in nats per token")] = 0.5,
    only_changes: Annotated[
        bool, Option("--only-changes", help="write the changed matrices alone, not a whole model")
    ] = False,
    edit_modules: Modules = None,
    seed: Annotated[int, Option(min=0, help="of training")] = 0,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Edit facts into a model, and write the edited model."""
    with _measured(device):
        from smedit.data.fact_files import read_facts
        from smedit.editing.edited import NOTES
        from smedit.editing.editors import check_facts, load_editor, train_editor

        _check_out(out, NOTES)
        read = read_facts(facts)
        _told(read.form, read.requests, read.notes, facts)
        base = _opened(model, edit_modules, device, precision)
        check_facts(base.language_model, read.requests)
        if editor is not None:
            trained = load_editor(editor, base)
        else:
            trained = train_editor(base, train_on, method, batches, n_edits, seed)
        if trained.trained_on:
            log.info("%s, trained on %s", trained.settings["method"], trained.trained_on)
        edited = trained.edit(base, read.requests, step_size, harm_at_most, read.ids)
        (edited.save if only_changes else edited.save_pretrained)(out)
        size = edited.how["step_size"]
        print(f"{len(read.requests)} facts by {trained.settings['method']}, step size", end=" ")
        print("as trained" if size is None else f"{size:g}")
        _summary(edited)
        if edited.harm > harm_at_most:
            print(
                f"warning: harm is above {harm_at_most:g}: the model has lost other things; use "
                "fewer facts, or a smaller step size"
            )
        print(f'{out}  (ask it: smedit ask --edited {out} "{read.requests[0].edit.text}")')


def train(
    model: Model,
    out: Annotated[Path, Option(help="folder to write the editor to")],
    method: Method = "SMEdit",
    dataset: Dataset = "worldfacts-qa",
    batches: Batches = 5,
    n_edits: BatchSize = 32,
    edit_modules: Modules = None,
    seed: Annotated[int, Option(min=0, help="of training")] = 0,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Train an editor, and keep it."""
    with _measured(device):
        from smedit.editing.editors import FILE, train_editor

        _check_out(out, FILE)
        base = _opened(model, edit_modules, device, precision)
        train_editor(base, dataset, method, batches, n_edits, seed).save(out)
        print(f"{out}  (use it: smedit edit --model {model} --editor {out} --facts FILE --out …)")


def score(
    facts: Facts,
    edited: Annotated[Path | None, Option(metavar="FOLDER", help="what smedit edit wrote")] = None,
    model: Annotated[str | None, Option(help="or a model, as it is")] = None,
    generate: Annotated[
        int, Option(min=0, help="of so many facts, what the model says by itself")
    ] = 0,
    table: Annotated[
        Path | None, Option(metavar="FILE.csv", help="write the row of every fact there")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score facts: a table with a row per fact, and the means."""
    with _measured(device):
        from smedit.data.fact_files import read_facts
        from smedit.editing.scoring import score_facts

        read = read_facts(facts)
        _told(read.form, read.requests, read.notes, facts)
        base, shifts = _either(edited, model, device)
        scores = score_facts(base.language_model, shifts, read.requests, read.ids)
        found = scores.table
        if generate:
            prompts = [request.edit.text for request in read.requests[:generate]]
            for name, change in (("says_before", {}), ("says", shifts)):
                said = [" ".join(base.generate(text, shifts=change).split()) for text in prompts]
                found[name] = said + [""] * (len(found) - len(said))
        print(found.round(1).to_string(index=False, max_colwidth=40, na_rep="–"))
        print(scores)
        if table is not None:
            from smedit.store.files import replacing

            with replacing(table) as part:
                found.to_csv(part, index=False)


def ask(
    edited: Annotated[Path, Option(metavar="FOLDER", help="what smedit edit wrote")],
    text: Annotated[list[str], Argument(help="prompts to continue")],
    tokens: Annotated[int, Option(min=1, help="how many tokens, at most")] = 20,
    device: Device = "auto",
) -> None:
    """Ask an edited model: what it says, before and after."""
    base, shifts = _either(edited, None, device)
    for prompt in text:
        print(prompt)
        for name, change in (("before", {}), ("after", shifts)):
            print(f"  {name:<7}{' '.join(base.generate(prompt, tokens, change).split())}")


def _check_out(out: Path, mark: str) -> None:
    """That a folder cannot be written is said before the work, not after."""
    check_replaceable(out, mark)
    check_writable([str(out.parent)], "--out")


def _opened(model: str, edit_modules: list[str] | None, device: str, precision: str) -> BaseModel:
    from smedit.editing.models import load_model

    if device not in ("cpu", "cuda", "auto"):
        raise UserError(f"--device: {device!r} is unknown; use cpu, cuda or auto")
    if precision not in ("float32", "bfloat16"):
        raise UserError(f"--precision: {precision!r} is unknown; use float32 or bfloat16")
    return load_model(model, edit_modules, device, precision)


def _either(edited: Path | None, model: str | None, device: str) -> tuple[BaseModel, dict]:
    """A base model and a change of its weights, from an edited model or a model as it is."""
    if (edited is None) == (model is None):
        raise UserError("name one of the two, --edited or --model")
    if model is not None:
        return _opened(model, None, device, "float32"), {}
    from smedit.editing.edited import load_edited

    found = load_edited(edited, device)
    return found.base, found.shifts


def _told(form: str, requests: tuple, notes: tuple[str, ...], path: Path) -> None:
    """What was read, and what of it can be scored."""
    n_paraphrased = sum(bool(request.paraphrases) for request in requests)
    n_local = sum(bool(request.locality) for request in requests)
    log.info(
        "%s: %d facts (format %s), %d with paraphrases, %d with locality prompts",
        *(path, len(requests), form, n_paraphrased, n_local),
    )
    for note in notes:
        log.warning("%s: %s", path, note)
    for count, what in ((n_paraphrased, "generalization"), (n_local, "specificity")):
        if not count:
            log.info("%s: without such prompts, there is no %s", path, what)


def _summary(edited: EditedModel) -> None:
    print(edited.score())
    print(f"  {'harm':<15}{edited.harm:14.2f} nats per token, on prose that no edit touches")


@contextmanager
def _measured(device: str) -> Iterator[None]:
    """Say at the end what it took: seconds, and memory of the process or of its GPU."""
    start = time.perf_counter()
    yield
    from smedit.engine.memory import peak_memory_mb
    from smedit.run.opening import device_of

    gigabytes = peak_memory_mb(device_of(device)) / 1000
    print(f"{time.perf_counter() - start:.0f} s, at most {gigabytes:.1f} GB", file=sys.stderr)


COMMANDS: dict[str, Callable[..., None]] = {
    "edit": edit,
    "train": train,
    "score": score,
    "ask": ask,
    "list": list_names,
    "check": check,
    "show": show,
    "pack": pack,
    "new-method": new_method,
}
