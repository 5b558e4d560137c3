"""What people call: edit facts, ask the edited model, look at what a run of the workflow found."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from smedit.cli.listed import check, list_names, pack, report, show
from smedit.cli.new_method import new_method
from smedit.editing.defaults import (
    BATCHES,
    EDITED,
    EDITOR,
    HARM_AT_MOST,
    METHOD,
    N_EDITS,
    PRECISION,
    TRAIN_ON,
)
from smedit.errors import UserError, counted
from smedit.methods import FINE_TUNING, IN_CONTEXT, load_method
from smedit.store.files import check_replaceable, check_writable, overlap

if TYPE_CHECKING:
    from smedit.data.fact_files import FactFile
    from smedit.editing.edited import EditedModel
    from smedit.editing.models import BaseModel

log = logging.getLogger("smedit")

LEAST_EFFICACY = 50
"""Percent; below, a warning says that the facts have hardly been taken up."""

LEAST_AGREEMENT = 75
"""Percent; below, a warning says that the neighbours of the facts have changed."""

Model = Annotated[
    str, Option(help="a name (smedit list models), a folder, or OWNER/NAME@REVISION of the hub")
]
Modules = Annotated[
    list[str] | None,
    Option(help="modules to edit, if not the usual ones; {24..29} is a range; may be repeated"),
]
Device = Annotated[str, Option(help="cpu, cuda or auto")]
Precision = Annotated[
    str, Option(help="of the weights, those that are written, too: float32 or bfloat16")
]
Set = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="another setting of training (config/README.md), such as lr=1e-4; may be repeated",
    ),
]
OF_OPTIONS = ("dataset", "method", "n_edits", "seed", "precision", "edit_modules", "batches")
"""Settings that have an option of their own."""

Facts = Annotated[Path, Option(metavar="FILE", help="facts: JSON, JSONL or CSV")]
Method = Annotated[str, Option(help="smedit list methods")]
Dataset = Annotated[str, Option(help="what to train on: a name (smedit list datasets) or a file")]
Batches = Annotated[int, Option(min=0, help="training batches")]
Force = Annotated[bool, Option("--force", help="replace an earlier one in that folder")]
BatchSize = Annotated[int, Option(min=1, help="edits in a training batch")]


def edit(
    model: Model,
    facts: Facts,
    out: Annotated[Path, Option(help="folder to write the edited model to")],
    editor: Annotated[
        Path | None, Option(metavar="FOLDER", help="an editor of smedit train; else one is trained")
    ] = None,
    keep_editor: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="keep the editor that is trained for later edits"),
    ] = None,
    method: Annotated[str | None, Option(help=f"smedit list methods; {METHOD} by default")] = None,
    train_on: Annotated[
        str | None, Option(help=f"a dataset or a file to train on; {TRAIN_ON} by default")
    ] = None,
    batches: Annotated[
        int | None, Option(min=0, help=f"training batches; {BATCHES} by default")
    ] = None,
    n_edits: Annotated[
        int | None, Option(min=1, help=f"edits in a training batch; {N_EDITS} by default")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="of training; 0 by default")] = None,
    step_size: Annotated[
        float | None, Option(help="at edit time; else chosen under the bound on harm")
    ] = None,
    harm_at_most: Annotated[
        float, Option(min=0, help="the bound, in nats per token")
    ] = HARM_AT_MOST,
    only_changes: Annotated[
        bool, Option("--only-changes", help="write the changed matrices alone, not a whole model")
    ] = False,
    settings: Set = None,
    force: Force = False,
    edit_modules: Modules = None,
    device: Device = "auto",
    precision: Precision = PRECISION,
) -> None:
    """Edit facts into a model, and write the edited model."""
    given: dict[str, Any] = {"method": method, "batches": batches, "n_edits": n_edits, "seed": seed}
    training = {k: v for k, v in {"dataset": train_on, **given}.items() if v is not None}
    more = _settings(settings)
    if editor is not None and (training or more or keep_editor):
        what = next(iter(training), "set" if more else "keep_editor")
        raise UserError(f"--editor: an editor that was trained; leave --{_option(what)} out")
    if load_method(method or METHOD).training == "none" and training.keys() - {"method"}:
        what = _option(next(name for name in training if name != "method"))
        raise UserError(f"--{what}: {method} needs no training; leave it out")
    _check_out(out, EDITED, force)
    if keep_editor is not None:
        _check_out(keep_editor, EDITOR, force)
    for name, folder in (("--keep-editor", keep_editor), ("--editor", editor)):
        if folder is not None and overlap(folder, out):
            raise UserError(f"{name}: the folder of --out, or one in the other; name one apart")
    if step_size is not None and step_size <= 0:
        raise UserError("--step-size: use a number above 0")
    with _measured(device):
        from smedit.data.fact_files import read_facts
        from smedit.editing.edited import check_apart
        from smedit.editing.editors import check_facts, load_editor, train_editor

        read = read_facts(facts)
        _told(read, facts)
        base = _opened(model, edit_modules, device, precision)
        check_apart(out, base)
        check_facts(base.language_model, read.requests)
        trained = load_editor(editor, base) if editor else train_editor(base, **training, **more)
        if trained.trained_on:
            log.info("%s, trained on %s", trained.settings["method"], trained.trained_on)
        edited = trained.edit(base, read.requests, step_size, harm_at_most, read.ids)
        (edited.save if only_changes else edited.save_pretrained)(out)
        if keep_editor is not None:
            trained.save(keep_editor)
        _summary(edited, harm_at_most)
        print(f'{out}  (ask it: smedit ask --edited {out} "{read.requests[0].edit.text}")')


def train(
    model: Model,
    out: Annotated[Path, Option(help="folder to write the editor to")],
    method: Method = METHOD,
    dataset: Dataset = TRAIN_ON,
    batches: Batches = BATCHES,
    n_edits: BatchSize = N_EDITS,
    seed: Annotated[int, Option(min=0, help="of training")] = 0,
    settings: Set = None,
    force: Force = False,
    edit_modules: Modules = None,
    device: Device = "auto",
    precision: Precision = PRECISION,
) -> None:
    """Train an editor, and keep it."""
    known = load_method(method)
    if known.training == "none" and known.shift_rule != IN_CONTEXT:  # that one cannot edit either
        raise UserError(f"{method} needs no training; smedit edit --method {method} edits at once")
    _check_out(out, EDITOR, force)
    more = _settings(settings)
    with _measured(device):
        from smedit.editing.editors import train_editor

        base = _opened(model, edit_modules, device, precision)
        train_editor(base, dataset, method, batches, n_edits, seed, **more).save(out)
        given = [("--edit-modules", each) for each in edit_modules or ()]
        given += [("--precision", precision)] if precision != PRECISION else []
        same = "".join(f" {name} {shlex.quote(value)}" for name, value in given)
        use = f"smedit edit --model {model}{same} --editor {out} --facts FILE --out …"
        print(f"{out}  (use it: {use})")


def score(
    facts: Facts,
    edited: Annotated[Path | None, Option(metavar="FOLDER", help="what smedit edit wrote")] = None,
    model: Annotated[
        str | None, Option(help="or a model as it is; with --edited: where its base is now")
    ] = None,
    generate: Annotated[
        int, Option(min=0, help="of so many facts, what the model says by itself")
    ] = 0,
    table: Annotated[
        Path | None, Option(metavar="FILE.csv", help="write the row of every fact there")
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str | None, Option(help=f"of the weights of --model; {PRECISION} by default")
    ] = None,
) -> None:
    """Score facts: a table with a row per fact, and the means."""
    if table is not None:
        check_writable([str(table.parent)], "--table")
        if not table.parent.is_dir():
            raise UserError(f"--table: there is no folder {table.parent}; make it first")
    with _measured(device):
        from smedit.data.fact_files import read_facts
        from smedit.editing.scoring import score_facts

        read = read_facts(facts)
        _told(read, facts)
        base, shifts = _either(edited, model, device, precision)
        scores = score_facts(base.language_model, shifts, read.requests, read.ids, generate)
        print("\n".join(filter(None, (scores.shown(), scores.said(), str(scores)))))
        if table is not None:
            from smedit.store.files import replacing

            with replacing(table) as part:
                scores.table.round(2).to_csv(part, index=False)


def ask(
    edited: Annotated[Path, Option(metavar="FOLDER", help="what smedit edit wrote")],
    text: Annotated[list[str], Argument(help="prompts to continue")],
    tokens: Annotated[int, Option(min=1, help="how many tokens, at most")] = 20,
    model: Annotated[str | None, Option(help="where its base is now, if it was moved")] = None,
    device: Device = "auto",
) -> None:
    """Ask an edited model: what it says, before and after."""
    from smedit.editing.scoring import before_and_after, on_a_line

    base, shifts = _either(edited, model, device, None)
    for prompt in text:
        said = [on_a_line(base.generate(prompt, tokens, change)) for change in ({}, shifts)]
        print(before_and_after(prompt, *said))


def _settings(given: Sequence[str] | None) -> dict[str, Any]:
    """What ``--set`` says: name → value."""
    found: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write KEY=VALUE")
        if name in (*OF_OPTIONS, *found):
            why = f"--{_option(name)} says that" if name in OF_OPTIONS else "given twice"
            raise UserError(f"--set {name}: {why}; leave it out")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value  # a text
    return found


def _option(name: str) -> str:
    """How a setting is called as an option."""
    return {"dataset": "train-on"}.get(name, name.replace("_", "-"))


def _check_out(out: Path, mark: str, force: bool) -> None:
    """That a folder cannot be written is said before the work, not after."""
    check_replaceable(out, mark)
    if out.exists() and not force:
        raise UserError(f"{out}: an earlier one is there; --force replaces it")
    check_writable([str(out.parent)], "--out")


def _opened(model: str, edit_modules: list[str] | None, device: str, precision: str) -> BaseModel:
    from smedit.editing.models import load_model

    if precision not in ("float32", "bfloat16"):
        raise UserError(f"--precision: {precision!r} is unknown; use float32 or bfloat16")
    return load_model(model, edit_modules, device, precision)


def _either(
    edited: Path | None, model: str | None, device: str, precision: str | None
) -> tuple[BaseModel, Mapping[str, Any]]:
    """A base model and a change of its weights, from an edited model or a model as it is."""
    if edited is None:
        if model is None:
            raise UserError("name --edited, or a --model as it is")
        return _opened(model, None, device, precision or PRECISION), {}
    from smedit.editing.edited import load_edited

    if precision:
        raise UserError("--precision: an edited model keeps its own; leave it out")
    found = load_edited(edited, device, model)
    return found.base, found.shifts


def _told(read: FactFile, path: Path) -> None:
    """What was read, and what of it can be scored."""
    n_paraphrased = sum(bool(request.paraphrases) for request in read.requests)
    n_local = sum(bool(request.locality) for request in read.requests)
    log.info(
        "%s: %s (format %s), %d with paraphrases, %d with locality prompts",
        *(path, counted(len(read.requests), "fact"), read.form, n_paraphrased, n_local),
    )
    for note in read.notes:
        log.warning("%s: %s", path, note)
    for count, what in ((n_paraphrased, "generalization"), (n_local, "specificity")):
        if not count:
            log.info("%s: without such prompts, there is no %s", path, what)


def _summary(edited: EditedModel, harm_at_most: float) -> None:
    """What was reached, and whether the bound on harm stood in the way."""
    fine_tunes = edited.how["settings"]["shift_rule"] == FINE_TUNING
    size = edited.how["step_size"]
    size = edited.how["trained_step_size"] if size is None else size
    by = f"{counted(len(edited.facts), 'fact')} by {edited.how['method']}"
    print(by if size is None else f"{by}, step size {size:.2g}")
    print(edited.score())
    print(f"  {'harm':<15}{edited.harm:z14.2f} nats per token, on prose that no choice has seen")
    if edited.harm > harm_at_most:
        less = "lower bound (--set bound=…)" if fine_tunes else "smaller step size"
        print(
            f"warning: harm is above {harm_at_most:g}: the model has lost other things; use a "
            f"{less}"
        )
    means = edited.score().means.set_index("score")
    if means["after"]["efficacy"] < LEAST_EFFICACY:
        more = ["train on more batches"] if edited.how["trained_on"] else []
        more += ["allow more harm (--harm-at-most)"] if edited.how["bound_cost"] else []
        more += ["try a larger lr or bound (--set)" if fine_tunes else "name a larger --step-size"]
        print(f"warning: the edit does little; {', or '.join(more)}")
    kept = means["after"].get("agreement", 100.0)
    if kept < LEAST_AGREEMENT:
        print(f"warning: {100 - kept:.0f} % of what is said to locality prompts has changed")
    best = edited.how["bound_cost"]
    if best:
        scores = ", ".join(f"{name} {value:.0f} %" for name, value in best["scores"].items())
        print(
            f"the bound on harm decided: {scores} came with harm {best['harm']:.2f}; "
            "--harm-at-most allows more"
        )


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
    "report": report,
    "pack": pack,
    "new-method": new_method,
}
