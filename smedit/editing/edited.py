"""An edited model: a base model and a change of its weights, to ask, to score and to keep."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from smedit.data.fact_files import check_are_facts, read_facts
from smedit.data.facts import EditRequest, Prompt
from smedit.editing.card import model_card
from smedit.editing.defaults import EDITED
from smedit.editing.models import BaseModel, found, open_base
from smedit.editing.scoring import FactScores, Harm, score_facts
from smedit.engine.language_model import Shifts
from smedit.errors import UserError, counted
from smedit.store.files import overlap, replacing_folder
from smedit.store.results import read_result, write_result
from smedit.store.tensor_files import load_tensors, save_tensors

log = logging.getLogger("smedit")

SHIFTS = "smedit/shifts.safetensors"
"""In a folder of their own, as loaders take every safetensors file beside a config for weights."""


class EditedModel:
    """A model with facts edited into it. Dropping it undoes the edit.

    Attributes
    ----------
    base
        The model as it was; see `smedit.editing.models.BaseModel`.
    shifts
        Edit module → change of its weight, (d_in, d_out), float32.
    facts, ids
        What was edited, and what each fact is called.
    how
        Method, settings, step size, what it was trained on.
    """

    def __init__(
        self,
        base: BaseModel,
        shifts: Shifts,
        facts: Sequence[EditRequest],
        ids: Sequence[str],
        how: Mapping[str, Any],
    ) -> None:
        self.base, self.shifts = base, dict(shifts)
        self.facts, self.ids, self.how = tuple(facts), tuple(ids), dict(how)

    def __repr__(self) -> str:
        facts = counted(len(self.facts), "fact")
        return f"<EditedModel: {facts} by {self.how['method']} in {self.base.name}>"

    def generate(self, text: str, max_new_tokens: int = 20) -> str:
        """Continue a text by greedy decoding; what is new of it."""
        return self.base.generate(text, max_new_tokens, self.shifts)

    def score(self, facts: str | Path | Sequence[EditRequest] | None = None) -> FactScores:
        """Score facts before and after; by default those that were edited.

        Parameters
        ----------
        facts
            A file of facts, or edit requests.
        """
        if facts is None:
            return self._own_scores
        if isinstance(facts, str | Path):
            read = read_facts(Path(facts))
            return score_facts(self.base.language_model, self.shifts, read.requests, read.ids)
        check_are_facts(facts)
        ids = [str(number) for number in range(1, len(facts) + 1)]
        return score_facts(self.base.language_model, self.shifts, facts, ids)

    @cached_property
    def _own_scores(self) -> FactScores:
        return score_facts(self.base.language_model, self.shifts, self.facts, self.ids)

    @cached_property
    def harm(self) -> float:
        """What the edit did to everything else.

        Loss above the unedited model's in nats per token, on the paragraphs of the suite's own
        prose that no choice has seen; 0.7 doubles the perplexity.
        """
        return Harm(self.base.language_model, "eval").measure(self.shifts)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a Hugging Face folder, which transformers and others open without this suite.

        It holds weights (safetensors), tokenizer, a model card, and in ``smedit/`` what
        `load_edited` reads.

        Raises
        ------
        UserError
            If something else is there, or it cannot be written.
        """
        check_apart(Path(folder), self.base)
        model = self.base.language_model
        with replacing_folder(Path(folder), EDITED) as part:
            self._write_notes(part)
            cached, model.model.config.use_cache = model.model.config.use_cache, True
            try:
                with model.edited(self.shifts):  # and nothing is measured while it is
                    model.model.save_pretrained(part)
            finally:
                model.model.config.use_cache = cached
            model.tokenizer.save_pretrained(part)

    def save(self, folder: str | Path) -> None:
        """Write the change of the weights alone, a small file; `load_edited` needs the base, too.

        Raises
        ------
        UserError
            As `save_pretrained`.
        """
        check_apart(Path(folder), self.base)
        with replacing_folder(Path(folder), EDITED) as part:
            self._write_notes(part)

    def _write_notes(self, folder: Path) -> None:
        (folder / "smedit").mkdir()
        save_tensors(folder / SHIFTS, self.shifts)
        notes = {
            "base": self.base.described(),
            "how": self.how,
            "facts": [
                {"id": name, **asdict(fact)}
                for fact, name in zip(self.facts, self.ids, strict=True)
            ],
            "changed": list(self.shifts),
            "scores": json.loads(self.score().means.to_json(orient="records")),
            "harm": self.harm,
        }
        write_result(notes, folder / EDITED)
        (folder / "README.md").write_text(model_card(notes), encoding="utf-8")


def load_edited(
    folder: str | Path, device: str = "auto", base: str | Path | None = None
) -> EditedModel:
    """Open what `EditedModel.save_pretrained` or `EditedModel.save` wrote, with its base.

    Parameters
    ----------
    folder
        What was written.
    device
        ``cpu``, ``cuda`` or ``auto``.
    base
        The folder in which the base model is now, if it was moved; by default where it was.

    Raises
    ------
    UserError
        If there is none, it is damaged, or its base is not at hand or has changed.
    """
    folder = Path(folder)
    if not (folder / EDITED).is_file():
        raise UserError(f"{folder}: there is no edited model; make one with smedit edit")
    notes = read_result(folder / EDITED)
    noted = notes["base"]
    name, spec = (noted["name"], noted["spec"]) if base is None else found(str(base))
    if spec["source"] == "path" and not Path(spec["path"]).is_dir():
        raise UserError(
            f"{folder}: its base model {name} is no longer at {spec['path']}; name the folder "
            "where it is now: --model, in Python base"
        )
    model = open_base(name, spec, noted["edit_modules"], device, noted["precision"])
    other = [file for file, sha in noted["files"].items() if model.files.get(file) != sha]
    if other or model.spec.get("seed") != noted["spec"].get("seed"):
        raise UserError(
            f"{folder}: was made of {noted['name']}; the model {name} has another "
            f"{other[0] if other else 'seed'} than that had; name the one that was edited"
        )
    tensors, _ = load_tensors(folder / SHIFTS, str(model.language_model.device))
    facts = [_request(row) for row in notes["facts"]]
    return EditedModel(model, tensors, facts, [row["id"] for row in notes["facts"]], notes["how"])


def check_apart(folder: Path, base: BaseModel) -> None:
    """Refuse to write over the model that an edit starts from.

    Raises
    ------
    UserError
        If the folder holds the base, or lies in it.
    """
    if base.spec["source"] != "path":
        return
    if overlap(folder, Path(base.spec["path"])):
        raise UserError(f"{folder}: there is the model that is edited; name another folder")


def _request(row: Mapping[str, Any]) -> EditRequest:
    """A fact as the notes have it."""
    paraphrases, locality = ([Prompt(**p) for p in row[k]] for k in ("paraphrases", "locality"))
    edit, true = Prompt(**row["edit"]), row["true_answer"]
    return EditRequest(row["subject"], edit, tuple(paraphrases), tuple(locality), true)
