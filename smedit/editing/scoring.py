"""Facts and an edited model → a score per fact, before and after; and harm to everything else."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from smedit.data.facts import EditRequest
from smedit.engine import generation
from smedit.engine.held_out import HarmText
from smedit.engine.language_model import LanguageModel, Shifts
from smedit.engine.scores import Scorer, by_request
from smedit.errors import counted
from smedit.report.metrics import PRIMARY

log = logging.getLogger("smedit")

SCORES = {
    "efficacy": ("efficacy", PRIMARY),
    "exact_match": ("efficacy", ("exact_match",)),
    "generalization": ("generalization", PRIMARY),
    "specificity": ("specificity", PRIMARY),
    "agreement": ("specificity", ("agreement",)),
}
"""Score of a fact → its metric, and the scores of a prompt that stand for it."""

HEADINGS = {
    "efficacy": "effic.",
    "exact_match": "exact",
    "generalization": "gener.",
    "specificity": "specif.",
    "agreement": "agree.",
}
"""Score → its heading in a terminal."""

PART = 500
"""Facts that are scored together: what the model computes for them is kept meanwhile."""

AFTER_ONLY = ("agreement",)
"""Before any edit it is 100 %."""


@dataclass(frozen=True)
class FactScores:
    """How well facts are known, before an edit and after.

    Attributes
    ----------
    table
        One row per fact: ``id``, ``prompt``, ``target``, and in percent, each before
        (``NAME_before``) and after (``NAME``): ``efficacy`` (the edit prompt), ``exact_match`` (all
        its tokens), ``generalization`` (paraphrases), ``specificity`` (locality prompts), and
        ``agreement``, how much of what is said there is as before. What a fact has no prompts for
        is empty. Of the facts that were answered by greedy decoding, too: ``says`` and
        ``generated``, whether that begins with the target. See docs/method.md, scores. Of a model
        as it is, there is only the one score, without ``_before`` and ``agreement``.
    """

    table: pd.DataFrame

    @property
    def of_an_edit(self) -> bool:
        """Whether there is a before and an after."""
        return "efficacy_before" in self.table

    @property
    def means(self) -> pd.DataFrame:
        """One row per score: ``before``, ``after`` (percent), and of how many ``facts``.

        Of a model as it is, ``before`` is empty.
        """
        rows = []
        for name in (*SCORES, "generated"):
            if name not in self.table:
                continue
            after = self.table[name]
            if after.notna().any():
                rows.append((name, self._before(name).mean(), after.mean(), after.count()))
        return pd.DataFrame(rows, columns=["score", "before", "after", "facts"])

    def shown(self) -> str:
        """The table as a terminal shows it: before → after, or a model as it is."""
        columns: dict[str, pd.Series | list[str]] = {
            "id": self.table["id"],
            "prompt": self.table["prompt"].map(lambda text: _cut(text, 34)),
            "target": self.table["target"].map(lambda text: _cut(text, 14)),
        }
        for name in filter(self.table.__contains__, SCORES):
            columns[HEADINGS[name]] = [
                "–" if pd.isna(a) else f"{a:.0f}" if pd.isna(b) else f"{b:.0f}→{a:.0f}"
                for b, a in zip(self._before(name), self.table[name], strict=True)
            ]
        return pd.DataFrame(columns).to_string(index=False)

    def said(self) -> str:
        """What the model says by itself, of the facts that it was asked; before and after."""
        if "says" not in self.table:
            return ""
        before = self.table.get("says_before", pd.Series("", self.table.index))
        rows = zip(self.table["prompt"], before, self.table["says"], strict=True)
        asked = self.table["generated"].notna()
        return "\n".join(
            before_and_after(prompt, *([old] if self.of_an_edit else []), new)
            for (prompt, old, new), is_asked in zip(rows, asked, strict=True)
            if is_asked
        )

    def __str__(self) -> str:
        return "\n".join(
            f"  {row.score:<15}{'' if pd.isna(row.before) else f'{row.before:6.1f} → '}"
            f"{row.after:5.1f} %   ({counted(row.facts, 'fact')})"
            for row in self.means.itertuples()
        )

    def _before(self, name: str) -> pd.Series:
        """A score before the edit; empty of a model as it is."""
        unchanged = 100.0 if self.of_an_edit else float("nan")
        return self.table.get(f"{name}_before", pd.Series(unchanged, self.table.index))


def score_facts(
    model: LanguageModel,
    shifts: Shifts,
    facts: Sequence[EditRequest],
    ids: Sequence[str],
    generate: int = 0,
) -> FactScores:
    """Score facts on W₀ and on W₀ + shifts; many of them in parts, so that memory does not grow.

    Parameters
    ----------
    model, shifts
        The model, and the change of its weights.
    facts, ids
        What is asked, and what each is called.
    generate
        So many facts are answered by greedy decoding, too.
    """
    if len(facts) <= PART:
        columns = _scored(model, shifts, facts)
    else:
        columns, start = {}, time.perf_counter()
        for done in range(0, len(facts), PART):
            part = facts[done : done + PART]
            with model.forgetting():
                for name, values in _scored(model, shifts, part).items():
                    columns.setdefault(name, []).extend(values)
            each = (time.perf_counter() - start) / (done + len(part))
            left = each * (len(facts) - done - len(part))
            log.info("scored %d of %d facts, about %.0f s left", done + len(part), len(facts), left)
    columns = {
        "id": list(ids),
        "prompt": [fact.edit.text for fact in facts],
        "target": [fact.edit.answer for fact in facts],
        **columns,
    }
    if generate:
        rest = len(facts) - len(facts[:generate])
        for end, change in {"_before": {}, "": shifts}.items() if shifts else [("", {})]:
            found = generation.generate(model, change, facts[:generate], model.tokenizer)
            texts = (model.tokenizer.decode(each["tokens"]) for each in found)
            columns[f"says{end}"] = [*map(on_a_line, texts), *[""] * rest]
            values = [100.0 * each["answered"] for each in found]
            columns[f"generated{end}"] = values + [float("nan")] * rest
    return FactScores(pd.DataFrame(columns))


def _scored(
    model: LanguageModel, shifts: Shifts, facts: Sequence[EditRequest]
) -> dict[str, list[Any]]:
    scorer = Scorer(facts, model.tokenizer)
    before = by_request(scorer.score_unedited(model)[0])
    found = {"": before}
    if shifts:
        found = {"_before": before, "": by_request(scorer.score(model, shifts))}
    columns = {}
    for name, (metric, scores) in SCORES.items():
        for end, entries in found.items():
            if name not in AFTER_ONLY or (shifts and not end):
                columns[f"{name}{end}"] = _percent(entries, metric, scores, len(facts))
    return columns


def on_a_line(text: str) -> str:
    """What a model said, on one line, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def before_and_after(prompt: str, *said: str) -> str:
    """A prompt, and under it what a model says: before an edit and after, or as it is."""
    names = ("before", "after") if len(said) > 1 else ("says",)
    lines = (f"  {name:<7}{text or '(nothing)'}" for name, text in zip(names, said, strict=True))
    return "\n".join((prompt, *lines))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _percent(
    entries: Sequence[Mapping[str, Any]], metric: str, scores: Sequence[str], n_facts: int
) -> list[float]:
    values: list[list[float]] = [[] for _ in range(n_facts)]
    for entry in entries:
        if entry["metric"] == metric and entry["score"] in scores:
            for number, found in enumerate(entry["rows"]):
                values[number] += found
    return [100 * sum(each) / len(each) if each else float("nan") for each in values]


class Scored:
    """The scores that a step size is chosen by, under one change of the weights after another."""

    NAMES = ("efficacy", "generalization", "agreement")

    def __init__(self, model: LanguageModel, facts: Sequence[EditRequest]) -> None:
        self._model, self._n_facts = model, len(facts)
        self._scorer = Scorer(facts, model.tokenizer)
        self._scorer.score_unedited(model)

    def measure(self, shifts: Shifts) -> dict[str, float]:
        """Score → its mean over the facts that have it, in percent."""
        entries = by_request(self._scorer.score(self._model, shifts))
        found = {}
        for name in self.NAMES:
            values = [v for v in _percent(entries, *SCORES[name], self._n_facts) if v == v]
            if values:
                found[name] = sum(values) / len(values)
        return found


class Harm:
    """Loss above the unedited model's on the suite's own prose, in nats per token.

    Parameters
    ----------
    model
        The model.
    part
        ``tune`` for the paragraphs that choosing may see, ``eval`` for those that are reported.
    """

    def __init__(self, model: LanguageModel, part: str) -> None:
        self._text = HarmText(model, part)
        self._before = self._text.measure({})

    def measure(self, shifts: Shifts) -> float:
        """The mean over tokens."""
        after = self._text.measure(shifts)
        pairs = zip(after, self._before, strict=True)
        return sum(a[0] - b[0] for a, b in pairs) / sum(n for *_, n in after)
