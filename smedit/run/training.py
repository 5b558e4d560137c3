"""A run's training: batch after batch, up to where it is to be measured, and on from there."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from smedit.data.facts import EditRequest
from smedit.engine.batches import edit_batch
from smedit.engine.editor import Editor
from smedit.engine.language_model import LanguageModel
from smedit.engine.losses import check_locality_prompts
from smedit.engine.meta_training import BatchTrainer, TrainingSettings
from smedit.engine.sequential_training import SequenceSettings, SequenceTrainer, looked_back_on
from smedit.run.checkpoint import State
from smedit.run.opening import AnyEditor, cut

log = logging.getLogger("smedit")


class Training:
    """Trains an editor as its run's settings say.

    Parameters
    ----------
    editor, model
        What is trained, and the language model that it edits.
    settings
        Every field of `smedit.plan.settings.Settings`.
    rows
        All training rows.

    Attributes
    ----------
    steps
        What each step measured, JSON-ready.
    seconds
        Of all steps.
    done
        Batches trained on, over all passes.
    """

    def __init__(
        self,
        editor: AnyEditor,
        model: LanguageModel,
        settings: Mapping[str, Any],
        rows: Sequence[EditRequest],
    ) -> None:
        self.steps: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.done = 0
        self._editor, self._settings = editor, settings
        self._trainer: BatchTrainer | SequenceTrainer | None = None
        if settings["training"] == "none" or not rows or not isinstance(editor, Editor):
            return
        parts, minibatch = cut(rows, settings["n_edits"]), settings["minibatch"]
        self._batches = [edit_batch(part, model.tokenizer, minibatch) for part in parts]
        check_locality_prompts(settings["locality"], self._batches)
        bp_steps = settings["bp_steps"]
        if settings["training"] == "in_sequence":
            sequence = SequenceSettings(**_fields_of(SequenceSettings, settings))
            self._trainer = SequenceTrainer(editor, model, bp_steps, sequence)
        else:
            batches = TrainingSettings(**_fields_of(TrainingSettings, settings))
            self._trainer = BatchTrainer(editor, model, bp_steps, batches)

    def up_to(self, n_batches: int) -> Iterator[None]:
        """Train until so many batches are done, in every pass; stop after each.

        Raises
        ------
        DivergedError
            If a loss, gradient or shift is not finite; names method, batch and step.
        """
        passes = self._settings["passes"]
        while self._trainer is not None and self.done < n_batches * passes:
            start, batch = time.perf_counter(), self.done % n_batches
            self.steps += self._train_on(self._trainer, batch)
            self.done += 1
            last = passes > 1 and batch == n_batches - 1
            if last and isinstance(self._trainer, SequenceTrainer):
                self._trainer.end_pass()
            self.seconds += time.perf_counter() - start
            log.info(
                "training batch %d/%d: edit loss %.3f, about %.0f s left",
                *(self.done, n_batches * passes, self.steps[-1]["edit_loss"]),
                self.seconds / self.done * (n_batches * passes - self.done),
            )
            yield

    def _train_on(
        self, trainer: BatchTrainer | SequenceTrainer, number: int
    ) -> list[dict[str, Any]]:
        if isinstance(trainer, BatchTrainer):
            steps = trainer.train_on(self._batches[number])
            return [
                {
                    "batch": self.done + 1,
                    "bp_step": step.bp_step,
                    "edit_loss": step.edit_loss,
                    "locality_loss": step.locality_loss,
                    "gradient_norm": step.gradient_norm,
                    "shift_norm": math.hypot(*step.shift_norms.values()),
                    "seconds": step.seconds,
                }
                for step in steps
            ]
        recent = looked_back_on(self._batches, number, self._settings["back_depth"])
        step = trainer.train_on(recent)
        norms = [norm for shifts in step.shift_norms for norm in shifts.values()]
        return [
            {
                "batch": self.done + 1,
                "bp_step": None,
                "edit_loss": step.edit_loss,
                "locality_loss": step.locality_loss,
                "gradient_norm": step.gradient_norms[-1],
                "shift_norm": math.hypot(*norms),
                "seconds": step.seconds,
            }
        ]

    def editor(self) -> AnyEditor:
        """The editor as it is trained by now, with normalizers of its own.

        In sequence a single pass ends with one update, which this one alone has: so training goes
        on as if it had not been measured.
        """
        if isinstance(self._trainer, SequenceTrainer) and self._settings["passes"] == 1:
            return self._trainer.forked()
        return deepcopy(self._editor, {id(weight): weight for weight in self._editor.parameters()})

    def state(self) -> State:
        """See `smedit.run.checkpoint.Part`."""
        tensors, values = self._trainer.state() if self._trainer else ({}, {})
        own = {"steps": self.steps, "train_seconds": self.seconds, "trained": self.done}
        return tensors, {**values, **own}

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Go on from there."""
        if self._trainer:
            self._trainer.load_state(tensors, values)
        self.steps, self.seconds = values["steps"], values["train_seconds"]
        self.done = values["trained"]


def _fields_of(
    record: type[TrainingSettings | SequenceSettings], settings: Mapping[str, Any]
) -> dict[str, Any]:
    return {field.name: settings[field.name] for field in dataclasses.fields(record)}
