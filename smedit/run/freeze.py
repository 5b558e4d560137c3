"""What is the same for all runs of a model and a dataset, done once."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smedit.data.contradictions import resolve
from smedit.data.facts import EditRequest
from smedit.data.readers import load_requests
from smedit.data.row_counts import row_counts
from smedit.engine.batches import prompt_batch
from smedit.engine.held_out import PARTS, HarmText, text_that_fits
from smedit.engine.language_model import LanguageModel
from smedit.engine.scores import Scorer
from smedit.engine.self_test import way_of
from smedit.engine.tokenization import TokenizedPrompt
from smedit.run.before import LAYOUT, describe_rows, made_for
from smedit.run.opening import open_model, rows_of
from smedit.store.files import fingerprint
from smedit.store.results import write_result
from smedit.store.sources import frozen_checksum

log = logging.getLogger("smedit")


def freeze(job: Mapping[str, Any], states: Path, before: Path) -> None:
    """Run the frozen part of a model over all rows, and measure the unedited model.

    Parameters
    ----------
    job
        As in `smedit.run.opening.open_model`, and ``model_spec``, ``dataset_spec``, ``rows`` (how
        many of the ``train``, ``tune`` and ``eval`` split), ``sequential`` (whether the whole
        held-out text must fit the model's context), and of ``settings`` ``dataset``, ``seed`` and
        ``minibatch``, too.
    states
        The safetensors file to write: what the frozen part of the model computes for every row.
    before
        The JSON file to write: what the rows were, the way to run the model, how many rows the
        dataset has and what was left out of it, the other file's fingerprint, token ids of every
        text, and of the unedited model its scores of the ``tune`` and ``eval`` rows, its answers to
        their locality prompts and its losses on the held-out text.
    """
    settings, model = job["settings"], open_model(job)
    dataset = settings["dataset"]
    splits = load_requests(dataset, job["dataset_spec"], settings["seed"])
    rows = {split: rows_of(dataset, splits, split, count) for split, count in job["rows"].items()}
    for split, part in rows.items():
        for tally in resolve(split, part, leave_out=False)[1]:
            log.warning("of the %d %s rows in use: %s", len(part), split, tally)
    described = {split: describe_rows(part) for split, part in rows.items()}
    # Row by row: the last digits depend on what is computed together, and must not on how many rows
    # a configuration needs.
    groups = [_sequences(split, row, model) for split, part in rows.items() for row in part]
    model.check_tokens([sequence for group in groups for sequence in group])
    scorers = {
        split: Scorer(part, model.tokenizer)
        for split, part in rows.items()
        if part and split != "train"
    }
    texts = {part: HarmText(model, part) for part in PARTS}
    whole_text = text_that_fits(model, needed=job["sequential"])
    groups += [text.sequences for text in (*texts.values(), whole_text) if text]
    if model.tokenizer.kept_apart:
        log.warning(
            "in %d texts the tokenizer would make one token of the prompt's end and the answer's "
            "beginning; they are kept apart",
            model.tokenizer.kept_apart,
        )
    start = time.perf_counter()
    for done, group in enumerate(groups, start=1):
        model.freeze(group)
        share, spent = done / len(groups), time.perf_counter() - start
        if done % 64 and done < len(groups):
            continue
        log.info("%.0f %% of the rows, about %.0f s left", 100 * share, spent / share - spent)
    model.states.save(states)
    log.info("%d distinct sequences, %.1f MB", len(model.states), states.stat().st_size / 1e6)
    scores, answers = {}, {}
    for split, scorer in scorers.items():
        scored, answers[split] = scorer.score_unedited(model)
        scores[split] = [dataclasses.asdict(row) for row in scored]
    result = {
        "rows": described,
        "layout": LAYOUT,
        "sources": frozen_checksum(),
        "way": way_of(model),
        "made_for": made_for(job),
        "dataset": row_counts(splits),
        "states": fingerprint(states),
        "tokens": model.tokenizer.as_json(),
        "kept_apart": model.tokenizer.kept_apart,
        "unedited": scores,
        "unedited_answers": answers,
        "text": {part: text.measure({}) for part, text in texts.items()},
        "perplexity": whole_text.losses({}) if whole_text else [],
    }
    write_result(result, before, job)


def _sequences(split: str, row: EditRequest, model: LanguageModel) -> Sequence[TokenizedPrompt]:
    """What is computed of a row: of one to train on, the prompts that training takes."""
    if split != "train":
        return Scorer([row], model.tokenizer).sequences
    prompts = [row.edit, *row.paraphrases[:1], *row.locality[:1]]
    return prompt_batch(prompts, model.tokenizer, len(prompts)).sequences
