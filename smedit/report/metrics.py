"""What is measured, declared once: label, unit, direction and definition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from smedit.methods import IN_CONTEXT


class Measure(NamedTuple):
    """One measured quantity.

    Attributes
    ----------
    label
        What a figure's axis says.
    unit
        Empty for a plain number.
    better
        ``higher``, ``lower``, or empty.
    definition
        One sentence.
    on
        Of a score: the metric whose prompts stand for it.
    """

    label: str
    unit: str
    better: str
    definition: str
    on: str = "efficacy"


METRICS = {
    "efficacy": Measure("efficacy", "%", "higher", "On the edit prompts themselves."),
    "generalization": Measure("generalization", "%", "higher", "On their paraphrases."),
    "specificity": Measure("specificity", "%", "higher", "On prompts that must not change."),
    "harm": Measure(
        "harm",
        "nats per token",
        "lower",
        "Loss of the edited model above the unedited one's on text that no edit touches; a "
        "perplexity times e^harm.",
    ),
    "drift": Measure(
        "drift", "nats per token", "lower", "KL(unedited ‖ edited) at the tokens of that text."
    ),
    "perplexity": Measure(
        "perplexity", "", "lower", "exp of the mean loss on the whole held-out text."
    ),
    "change": Measure(
        "change of the weights", "", "", "Frobenius norm of the change of all edit modules."
    ),
}
"""Metric → what it is: the column ``metric`` of the tables."""

SCORES = {
    "accuracy": Measure(
        "accuracy", "%", "higher", "Answer tokens that are the argmax, teacher-forced (ZsRE)."
    ),
    "token_success": Measure(
        "token success",
        "%",
        "higher",
        "Answer positions where the own token is likelier than the other answer's (CounterFact; "
        "the released code's score).",
    ),
    "sequence_success": Measure(
        "sequence success",
        "%",
        "higher",
        "The own answer is likelier per token than the other (CounterFact; ROME, MEMIT).",
    ),
    "exact_match": Measure(
        "exact match", "%", "higher", "Every answer token is the argmax, teacher-forced."
    ),
    "agreement": Measure(
        "agreement",
        "%",
        "higher",
        "Answer positions whose argmax is the unedited model's; 100 % before any edit.",
        on="specificity",
    ),
    "generated": Measure(
        "generated", "%", "higher", "Greedy decoding begins with the answer (on a sample)."
    ),
    "stopped": Measure(
        "generated, and stops", "%", "higher", "It does, and then stops (on a sample)."
    ),
}
"""Score of a prompt → what it is: the column ``score`` of the tables."""

PRIMARY = ("accuracy", "token_success")
"""The score of a metric that stands for it, whichever a dataset has."""

HEADLINE = ("efficacy", "generalization", "specificity", "agreement")
"""What a summary shows: metrics by their primary score, and ``agreement``."""

PHASES = {
    "trace": "trace",
    "shift": "shift",
    "edit loss": "edit loss",
    "locality loss": "locality loss",
    "hypernetwork update": "update",
}
"""Phases of a training step, in their order → what a figure calls them."""


def is_headline(name: str, metric: str, score: str) -> bool:
    """Whether a row of the scores table is the one that stands for a name.

    A metric is stood for by its primary score, a score of `SCORES` by its values on the prompts
    that it names.
    """
    if name in SCORES:
        return (metric, score) == (SCORES[name].on, name)
    return metric == name and score in (*PRIMARY, "nats")


def axis_label(name: str) -> str:
    """A metric or a score, with its unit and direction; one that is not declared, by its name."""
    undeclared = Measure(name.replace("_", " "), "%", "", "")
    measure = METRICS.get(name) or SCORES.get(name, undeclared)
    arrow = {"higher": " ↑", "lower": " ↓"}.get(measure.better, "")
    return f"{measure.label} ({measure.unit}){arrow}" if measure.unit else measure.label + arrow


def note_on(shift_rules: Iterable[str]) -> str:
    """What has to be said beside the scores of methods, which have these shift rules."""
    if IN_CONTEXT not in shift_rules:
        return ""
    return (
        "In context changes the prompts, not the model: its scores come from other prompts than "
        "the others', and its harm is 0 by construction."
    )
