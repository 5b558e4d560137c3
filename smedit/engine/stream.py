"""Batches of edits, one after another and never undone, and what is left of the early ones.

A stream is measured at some of its points: the scores of every request edited so far, the loss on
a text that no edit touches, and the distance from the unedited weights. Its state is saved now and
then, so that an interrupted stream goes on with the same numbers.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from smedit.data.facts import EditRequest
from smedit.engine.batches import edit_batch
from smedit.engine.clock import Clock
from smedit.engine.editor import Editor
from smedit.engine.fine_tuning import FineTuner
from smedit.engine.held_out import HeldOutText
from smedit.engine.language_model import LanguageModel
from smedit.engine.locality import squared_norm
from smedit.engine.memory import memory_mb
from smedit.engine.scores import Scorer, UneditedAnswers, by_request
from smedit.errors import DivergedError, UserError
from smedit.store.tensor_files import load_tensors, save_tensors

log = logging.getLogger("smedit")

SAVE_SECONDS = 60
"""The state is saved at every measured point, and between them this often."""

SAVE_SHARE = 0.05
"""Between points, saving takes at most this share of the time."""


class Stream:
    """A stream of edits and where it stands.

    Parameters
    ----------
    editor
        Trained, if its method is trained. Its normalizers go on learning.
    model
        The unedited model.
    checkpoint
        The file that holds the state while the stream runs.
    identity
        What makes the stream: its settings and what it starts from. A checkpoint of another
        stream is not continued.
    answers
        The unedited model's answers to the locality prompts of the stream's requests.

    Attributes
    ----------
    done
        Batches edited so far.
    total
        Shifts of all edits so far.
    points
        What was measured, JSON-ready.
    record
        What the owner of the stream wants to keep with its state, JSON-ready.
    """

    def __init__(
        self,
        editor: Editor | FineTuner,
        model: LanguageModel,
        checkpoint: Path,
        identity: Mapping[str, Any],
        answers: UneditedAnswers,
    ) -> None:
        self._answers = answers
        self.editor = editor
        self.model = model
        self.clock = Clock(model.device)
        self.done = 0
        self.total: dict[str, torch.Tensor] = {}
        self.points: list[dict[str, Any]] = []
        self.record: dict[str, Any] = {}
        self._checkpoint = checkpoint
        self._identity = json.dumps(identity, sort_keys=True)

    def resume(self) -> bool:
        """Go on from the checkpoint; False if there is none of this stream, or a damaged one."""
        if not self._checkpoint.exists():
            return False
        try:
            tensors, progress = load_tensors(self._checkpoint, str(self.model.device))
        except UserError as error:
            log.warning("starting anew: %s", error)
            return False
        if progress.get("identity") != self._identity:
            log.info("%s belongs to another stream: starting anew", self._checkpoint)
            return False
        try:
            self.editor.load_state_dict(_named(tensors, "editor."))
        except RuntimeError:
            log.warning("starting anew: %s is of another version of the suite", self._checkpoint)
            return False
        self.done, self.points = progress["done"], progress["points"]
        self.record, self.clock.seconds = progress["record"], progress["seconds"]
        self.total = _named(tensors, "shift.")
        log.info("going on after batch %d from %s", self.done, self._checkpoint)
        return True

    def save(self) -> None:
        """Write the state; see `smedit.store.tensor_files.save_tensors`."""
        tensors = {f"editor.{k}": v for k, v in self.editor.state_dict().items()}
        tensors |= {f"shift.{k}": v for k, v in self.total.items()}
        progress = {
            "identity": self._identity,
            "done": self.done,
            "points": self.points,
            "record": self.record,
            "seconds": self.clock.seconds,
        }
        save_tensors(self._checkpoint, tensors, progress)

    def run(
        self,
        batches: Sequence[Sequence[EditRequest]],
        bp_steps: int,
        minibatch: int,
        measure_at: Sequence[int],
        text_at: Sequence[int] = (),
    ) -> None:
        """Edit the batches that are not done yet, measuring after some.

        Parameters
        ----------
        batches
            All batches of the stream, in order.
        bp_steps
            Backpropagation steps per batch.
        minibatch
            Requests that share one loss average.
        measure_at
            After how many batches to measure.
        text_at
            At which of those to measure the loss on the held-out text, too.

        Raises
        ------
        DivergedError
            If a shift, a loss or a logit is not finite; names the batch.
        """
        text = HeldOutText(self.model) if text_at else None
        saved, took = time.perf_counter(), 0.0
        for number in range(self.done + 1, len(batches) + 1):
            try:
                self._edit(batches[number - 1], bp_steps, minibatch)
                if number in measure_at:
                    edited = [request for batch in batches[:number] for request in batch]
                    self._measure(edited, text if number in text_at else None)
            except DivergedError as error:
                raise DivergedError(f"batch {number} of the stream: {error}") from error
            now = time.perf_counter()
            if number in measure_at or now - saved > max(SAVE_SECONDS, took / SAVE_SHARE):
                self.save()
                saved = time.perf_counter()
                took = saved - now

    def _edit(self, requests: Sequence[EditRequest], bp_steps: int, minibatch: int) -> None:
        batch = edit_batch(requests, self.model.tokenizer, minibatch).edit
        with self.clock.phase("edit"):
            for total in self.editor.edit(self.model, batch, bp_steps, start=self.total):
                last = total
        self.total, self.done = last, self.done + 1

    def _measure(self, edited: Sequence[EditRequest], text: HeldOutText | None) -> None:
        with self.clock.phase("score"):
            answers = self._answers[: len(edited)]
            scorer = Scorer(edited, self.model.tokenizer, answers)
            rows = scorer.score(self.model, self.total)
        with self.clock.phase("held-out text"):
            losses = text.losses(self.total) if text else []
        norm = squared_norm(self.total.values()).sqrt().item()
        if not math.isfinite(norm):
            raise DivergedError("the change of the weights is beyond float32; try a smaller lr")
        self.points.append(
            {
                "n_sequences": self.done,
                "scores": by_request(rows),
                "held_out": [list(pair) for pair in losses],
                "change_norm": norm,
                "edit_seconds": self.clock.seconds["edit"],
                "memory_mb": memory_mb(self.model.device),
            }
        )
        log.info("%d batches edited and scored, change of the weights %.2f", self.done, norm)


def _named(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose name starts so, without that start."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
