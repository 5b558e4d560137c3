"""What a result holds of its measurements, as it is written and read."""

from __future__ import annotations

from typing import Any, TypedDict


class Point(TypedDict):
    """A point of a measurement: before editing, after a step, along a stream.

    ``scores`` has one entry per metric and score, each with ``rows``: the values of every request.
    ``text`` and ``perplexity`` are measured on paragraphs that no edit touches.
    """

    stage: int
    batches: int
    scores: list[dict[str, Any]]
    text: list[Any]
    perplexity: list[Any]
    change_norm: float
    edit_seconds: float
    memory_mb: float | None


class Evaluated(TypedDict):
    """One measurement: what was asked for, its points, what the model says then, and seconds.

    ``diverged``, if it ended early: ``why``, how many ``batches`` were edited by then, and the
    ``stage`` from which on there are no points.
    """

    measurement: dict[str, Any]
    diverged: dict[str, Any] | None
    points: list[Point]
    says: dict[str, Any]
    generated: list[dict[str, Any]]
    seconds: dict[str, float]
