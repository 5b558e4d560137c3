"""Editors for people: trained on a dataset, kept in a folder, used on one's own facts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from smedit.data.fact_files import check_are_facts, read_facts
from smedit.data.facts import EditRequest
from smedit.data.readers import load_requests
from smedit.editing.defaults import BATCHES, EDITOR, HARM_AT_MOST, METHOD, N_EDITS, TRAIN_ON
from smedit.editing.edited import EditedModel
from smedit.editing.models import BaseModel
from smedit.editing.step_size import Tried, choose_step_size, lost_to_the_bound
from smedit.editing.studied import studied
from smedit.engine.batches import TokenBatch, prompt_batch
from smedit.engine.editor import Editor
from smedit.engine.held_out import HarmText
from smedit.engine.in_context import InContext
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.memory import available_mb
from smedit.engine.tracing import Trace, trace
from smedit.errors import UserError, counted, nearest, shown
from smedit.methods import IN_CONTEXT, load_method, rule_checksum
from smedit.plan.catalogue import catalogue, is_of_catalogue, named
from smedit.plan.config import check_values
from smedit.plan.schema import job_schema
from smedit.plan.settings import Settings, declared, without_effect
from smedit.plan.variants import resolve
from smedit.run.opening import AnyEditor, make_editor
from smedit.run.training import Training
from smedit.store.files import replacing_folder
from smedit.store.tensor_files import load_tensors, save_tensors

log = logging.getLogger("smedit")

NOT_FREE = {"model", "edit_modules", "precision", "threads", "shift_rule"}
"""Settings that an opened model or the method brings."""

LR = 1e-3
"""Initial step size where neither the study (`smedit.editing.studied`), nor the method, nor a
person says another. On facts of one's own, five batches are too few for the published 1e-6
(docs/own_facts.md)."""

COPIES = 6
"""Keys, value gradients, their pseudo ones and what is normalized on the way."""


class TrainedEditor:
    """An editor and all that it was made with.

    Attributes
    ----------
    settings
        Every setting of `smedit.plan.settings.Settings`.
    trained_on
        Name of the dataset, and how many batches; empty if the method needs no training.
    base
        Name of the model that it belongs to, and the SHA-256 of each of its files.
    """

    def __init__(
        self,
        editor: AnyEditor,
        settings: Mapping[str, Any],
        trained_on: str,
        base: Mapping[str, Any],
    ) -> None:
        self._editor = editor
        self.settings, self.trained_on, self.base = dict(settings), trained_on, dict(base)

    def edit(
        self,
        model: BaseModel,
        facts: Sequence[EditRequest],
        step_size: float | None = None,
        harm_at_most: float = HARM_AT_MOST,
        ids: Sequence[str] | None = None,
    ) -> EditedModel:
        """Edit all facts at once. Neither the model nor this editor is changed.

        Parameters
        ----------
        model
            The model that the editor was made for.
        facts
            What it shall say from now on.
        step_size
            The step size η at edit time. By default several are tried on the facts, and those
            scores are the best whose harm is within the bound.
        harm_at_most
            The bound, in nats per token; see `smedit.editing.step_size`.
        ids
            What the facts are called; by default their numbers.

        Raises
        ------
        UserError
            If there are no facts, the editor is another model's, or a fact does not fit.
        """
        self.check_base(model)
        if isinstance(self._editor, InContext):
            raise UserError(
                f"{self.settings['method']} changes the prompts, not the model, so there is no "
                "edited model; choose another method"
            )
        if step_size is not None and not isinstance(self._editor, Editor):
            raise UserError(f"{self.settings['method']} has no step size; leave it out")
        opened = model.language_model
        check_facts(opened, facts)
        names = tuple(ids or map(str, range(1, len(facts) + 1)))
        if len(names) != len(facts):
            raise UserError(
                f"{len(names)} ids for {counted(len(facts), 'fact')}; give one for each"
            )
        tried: list[Tried] = []
        chosen: Tried | None = None
        if step_size is None and isinstance(self._editor, Editor):
            first = trace(opened, self._batch(opened, facts), {})
            chosen, tried = choose_step_size(
                opened, facts, lambda size: self._shifts(opened, facts, size, first), harm_at_most
            )
            step_size = chosen.step_size
        shifts = self._shifts(opened, facts, step_size)
        how = {
            "method": self.settings["method"],
            "settings": self.settings,
            "trained_on": self.trained_on,
            "step_size": step_size,
            "tried": [each.as_json() for each in tried],
            "harm_at_most": harm_at_most,
            "trained_step_size": self.trained_step_size,
            "bound_cost": cost.as_json() if (cost := lost_to_the_bound(tried, chosen)) else None,
        }
        return EditedModel(model, shifts, tuple(facts), names, how)

    @property
    def trained_step_size(self) -> float | None:
        """The mean of the step sizes of all edit modules; None where there are none."""
        sizes: list[torch.Tensor] = [
            w for name, w in self._editor.named_parameters() if name.endswith("step_size")
        ]
        return torch.cat(sizes).mean().item() if sizes else None

    def _batch(self, model: LanguageModel, facts: Sequence[EditRequest]) -> TokenBatch:
        prompts = [fact.edit for fact in facts]
        return prompt_batch(prompts, model.tokenizer, self.settings["minibatch"])

    def _shifts(
        self,
        model: LanguageModel,
        facts: Sequence[EditRequest],
        step_size: float | None,
        first: Trace | None = None,
    ) -> Shifts:
        editor = copy.deepcopy(self._editor)
        batch, steps = self._batch(model, facts), self.settings["bp_steps"]
        if not isinstance(editor, Editor):
            *_, shifts = editor.edit(model, batch, steps)
            return shifts
        if step_size is not None:
            editor = editor.with_step_size(step_size)
        *_, shifts = editor.edit(model, batch, steps, {}, first)
        return shifts

    def check_base(self, model: BaseModel) -> None:
        """Refuse a model other than the editor's own.

        Raises
        ------
        UserError
            If its weights or its edit modules are others.
        """
        ours, theirs = dict(self.base), model.described()
        if ours["edit_modules"] != theirs["edit_modules"]:
            raise UserError(
                f"the editor edits {_brief(ours['edit_modules'])} of {ours['name']}, the model "
                f"{theirs['name']} has {_brief(theirs['edit_modules'])}; name the same modules "
                "(--edit-modules), or use the model's own editor"
            )
        other = [name for name in ours["files"] if ours["files"][name] != theirs["files"].get(name)]
        if other or ours["spec"].get("seed") != theirs["spec"].get("seed"):
            what = other[0] if other else "seed"
            raise UserError(
                f"the editor was made for {ours['name']}, and {theirs['name']} has another {what}; "
                "use the model's own editor"
            )

    def save(self, folder: str | Path) -> None:
        """Keep the editor in a folder: one safetensors file with its settings.

        Raises
        ------
        UserError
            If something else is there, or it cannot be written.
        """
        notes = {"settings": self.settings, "trained_on": self.trained_on, "base": self.base}
        notes["rule"] = rule_checksum(self.settings["shift_rule"])
        with replacing_folder(Path(folder), EDITOR) as part:
            save_tensors(part / EDITOR, self._editor.state_dict(), notes)


def _brief(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def train_editor(
    model: BaseModel,
    dataset: str | Path | Sequence[EditRequest] = TRAIN_ON,
    method: str = METHOD,
    batches: int = BATCHES,
    n_edits: int = N_EDITS,
    seed: int = 0,
    **settings: Any,
) -> TrainedEditor:
    """Train an editor for a model.

    Parameters
    ----------
    model
        The model that it is to edit.
    dataset
        What it is trained on: a name of the catalogue (``smedit list datasets``), a file of facts
        with paraphrases, or edit requests.
    method
        ``smedit list methods``.
    batches
        Training batches; 0 leaves the editor untrained.
    n_edits
        Edits in each.
    seed
        Of the editor's first values and the order of the rows.
    **settings
        Any other setting of training (config/README.md), such as ``bp_steps`` or ``lr``. By default
        what the study chose for the model and the method, as far as it chose.

    Raises
    ------
    UserError
        If a name or a setting is unknown, there are too few rows, or training diverges.
    """
    opened = model.language_model
    given: dict[str, Any] = {"model": model.name, "dataset": _name_of(dataset), "method": method}
    free = declared(Settings).keys() - NOT_FREE
    unknown = [name for name in settings if name not in free]
    if unknown:
        raise UserError(f"unknown setting {shown(unknown[0])}{nearest(unknown[0], free)}")
    if load_method(method).shift_rule == IN_CONTEXT:
        raise UserError(f"{method} changes no weights, so there is nothing to train or to write")
    given |= {"lr": load_method(method).lr or LR, "n_edits": n_edits, "seed": seed}
    given |= studied(model.name, method) if is_of_catalogue(model.name, model.spec) else {}
    given |= settings
    if load_method(method).back_depth > 1:
        log.warning(
            "%s looks back on a stream while it is trained; here it is trained in batches, as all "
            "facts are edited at once",
            method,
        )
    described = model.described()
    given |= {"precision": described["precision"], "threads": torch.get_num_threads()}
    if not batches:
        given["training"] = "none"
    schema = job_schema()
    check_values(settings, {"properties": schema["$defs"]["settings"]["properties"]})
    resolved, measurement = resolve(given, list(opened.edit_modules))
    values = asdict(resolved)
    values["edit_modules"] = list(values["edit_modules"])
    check_values(values, {**schema, "$ref": "#/$defs/settings"})
    idle = settings.keys() & without_effect(values | asdict(measurement))
    if idle:
        raise UserError(f"{min(idle)}: has no effect on {method} here; leave it out")
    rows: Sequence[EditRequest] = ()
    if values["training"] != "none":
        rows = _training_rows(dataset, seed, batches * n_edits)
    training = Training(make_editor(values, opened), opened, values, rows)
    for _ in training.up_to(batches if rows else 0):
        pass
    trained_on = f"{_name_of(dataset)}, {batches} batches of {n_edits}" if rows else ""
    return TrainedEditor(training.editor(), values, trained_on, described)


def load_editor(folder: str | Path, model: BaseModel) -> TrainedEditor:
    """Open an editor that `TrainedEditor.save` kept.

    Raises
    ------
    UserError
        If there is none, it is damaged, or it belongs to another model.
    """
    path = Path(folder) / EDITOR
    if not path.is_file():
        raise UserError(f"{path}: there is no editor; make one with smedit train")
    tensors, notes = load_tensors(path)
    rule = notes["settings"]["shift_rule"]
    if notes["rule"] != rule_checksum(rule):
        raise UserError(f"{path}: its shift rule {rule} has changed since; train it anew")
    settings = notes["settings"]
    if set(settings) != set(declared(Settings)):
        raise UserError(f"{path}: made by another version of the suite; train it anew")
    untrained = make_editor(settings, model.language_model)
    editor = TrainedEditor(untrained, settings, notes["trained_on"], notes["base"])
    editor.check_base(model)
    untrained.load_state_dict(tensors)
    return editor


def _name_of(dataset: str | Path | Sequence[EditRequest]) -> str:
    return str(dataset) if isinstance(dataset, str | Path) else "own requests"


def _training_rows(
    dataset: str | Path | Sequence[EditRequest], seed: int, count: int
) -> Sequence[EditRequest]:
    rows: Sequence[EditRequest]
    if not isinstance(dataset, str | Path):
        rows = dataset
    elif str(dataset) in catalogue("datasets"):
        spec = named({"datasets": [str(dataset)]}, "datasets")[str(dataset)]
        rows = load_requests(str(dataset), spec, seed).train
    elif Path(dataset).is_file():
        rows = read_facts(Path(dataset)).requests
    else:
        hint = nearest(str(dataset), catalogue("datasets"))
        raise UserError(f"there is no dataset and no file {shown(str(dataset))}{hint}")
    bare = [row.edit.text for row in rows if not row.paraphrases]
    if bare:
        raise UserError(
            f"{_name_of(dataset)}: {len(bare)} facts have no paraphrases, which training needs "
            f"({shown(bare[0])} first); add some, or train on {TRAIN_ON}"
        )
    if len(rows) < count:
        raise UserError(
            f"{_name_of(dataset)}: {count} rows are needed, there are {len(rows)}; use fewer or "
            "smaller batches"
        )
    return rows[:count]


def check_facts(model: LanguageModel, facts: Sequence[EditRequest]) -> None:
    """Refuse facts that cannot be edited at once, before any work.

    Raises
    ------
    UserError
        If there are none, one does not fit the model's context, or tracing all would need more
        memory than there is.
    """
    if not facts:
        raise UserError("there are no facts to edit; give at least one")
    check_are_facts(facts)
    scored = [prompt for fact in facts for prompt in (*fact.paraphrases, *fact.locality)]
    for prompts in filter(None, (scored, [fact.edit for fact in facts])):
        batch = prompt_batch(prompts, model.tokenizer, len(prompts))
        next(model.chunks(batch))  # the longest come first
    HarmText(model, "eval")  # its text has to fit, too
    n_tokens = sum(len(sequence.answer_ids) for sequence in batch.sequences)
    needed = n_tokens * sum(sum(model.shape(name)) for name in model.edit_modules) * 4 * COPIES
    if model.device.type == "cuda":
        room = float(torch.cuda.mem_get_info(model.device)[0])
    else:
        room = 1e6 * available_mb()
    if needed > room:
        raise UserError(
            f"{len(facts)} facts at once need about {needed / 1e9:.0f} GB of memory, there are "
            f"{room / 1e9:.0f}; edit at most {int(len(facts) * room / needed)} at once"
        )
