"""The table of a benchmark → a few Markdown tables to read, with the targets beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from smedit.benchmark.table import PATHS, labelled

PIECES = {"training batch": "training_seconds", "edit and score": "editing_seconds"}
"""Piece → its targets in the settings."""


def summary(table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Write what was measured as Markdown.

    Parameters
    ----------
    table
        With the columns of `smedit.benchmark.table.COLUMNS`.
    settings
        A file like ``config/benchmark.yaml``; its targets are printed beside.
    """
    table = labelled(table)
    parts: list[str] = []
    if "paths" in settings:
        mine = table[table.part == "paths"]
        parts += _paths(mine, settings["paths"]["targets"]) + _savings(mine) + _differences(mine)
    for part in ("n_edits", "bp_steps"):
        if part in settings:
            parts += _scaling(table[table.part == part], part)
    if "locality" in settings:
        parts += _locality(table[table.part == "locality"])
    if "in_sequence" in settings:
        mine = table[table.part == "in_sequence"]
        parts += _in_sequence(mine, settings["in_sequence"]["train_sequences"])
    return "\n".join(parts)


def _paths(table: pd.DataFrame, targets: Mapping[str, Any]) -> list[str]:
    product = table[table.piece == "matrix product"].iloc[0]
    n, repetitions = int(table.n_edits.max()), int(table[table.path == "plain"].n.max())
    lines: list[list[str]] = []
    for label in filter(None, table.label.unique()):
        memory = [_number(table, label, path, "peak_memory_mb") for path in ("plain", "fast")]
        for piece, key in PIECES.items():
            seconds, gflop, rate = (
                [_number(table, label, path, quantity, piece) for path in ("plain", "fast")]
                for quantity in ("seconds", "gflop", "gflop_per_second")
            )
            target = targets[key].get(label)
            lines.append(
                [
                    f"{label}, {piece}",
                    *(f"{x:.2f}" for x in seconds),
                    f"{_number(table, label, 'fast', 'speedup', piece):.1f}",
                    _against(seconds[1], target),
                    *(f"{x:.4g}" for x in gflop),
                    *(f"{x:.3g}" for x in rate),
                ]
            )
        ratio = memory[1] / memory[0]
        lines.append(
            [
                f"{label}, peak memory (MB)",
                *(f"{x:.0f}" for x in memory),
                f"{memory[0] / memory[1]:.1f}",
                _against(ratio, targets.get("memory_ratio"), " × plain"),
                *[""] * 4,
            ]
        )
    header = ["", "plain (s)", "fast (s)", "plain ÷ fast", "target", "plain GFLOP", "fast GFLOP"]
    return [
        f"{product.model}, {product.dataset}, {n} edits, {product.device}, {product.precision}, "
        f"{product.threads} threads; medians of {repetitions}. A product of large square matrices: "
        f"{product.value:.0f} GFLOP/s.",
        "",
        *_markdown([*header, "plain GFLOP/s", "fast GFLOP/s"], lines),
    ]


def _against(value: float, target: float | None, unit: str = " s") -> str:
    if target is None:
        return ""
    met = "met" if value <= target else "MISSED"
    return f"≤ {target:g}{unit}: {met} ({value:.2f})"


def _savings(table: pd.DataFrame) -> list[str]:
    """Seconds of a training batch as one saving after another is added."""
    seconds = table[(table.quantity == "seconds") & (table.phase == "total")]
    seconds = seconds[seconds.piece == "training batch"]
    names = [path for path in PATHS if path in set(seconds.path)]
    wide = seconds.pivot_table(index="label", columns="path", values="value", sort=False)
    wide = wide.reindex(columns=names).dropna()
    if len(names) == 2 or wide.empty:
        return []
    lines = [
        [f"{label}, training batch", *(f"{x:.2f}" for x in r)] for label, *r in wide.itertuples()
    ]
    return ["Each saving added to those before it (seconds):", "", *_markdown(["", *names], lines)]


def _differences(table: pd.DataFrame) -> list[str]:
    found = table[table.quantity == "largest_difference"].groupby("phase", sort=False).value.max()
    text = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    return [f"The paths agree. Largest differences from plain: {text}.", ""]


def _scaling(table: pd.DataFrame, against: str) -> list[str]:
    what = {"n_edits": "edits", "bp_steps": "backpropagation steps"}[against]
    points = table[(table.phase == "total") & table.quantity.isin(["seconds", "peak_memory_mb"])]
    lines: list[list[str]] = []
    for (method, size), mine in points.groupby(["method", against], sort=False):
        values = mine.set_index("quantity").value
        lines.append(
            [
                str(method),
                f"{size:.0f}",
                f"{values['seconds']:.2f}",
                f"{values['peak_memory_mb']:.0f}",
            ]
        )
    slopes = table[table.quantity.str.startswith("slope_of")]
    fitted = "; ".join(
        f"{method}, {quantity.removeprefix('slope_of_').split('_mb')[0].replace('_', ' ')} "
        f"{value:.2f} ± {high - value:.2f}"
        for method, quantity, value, high in _columns(slopes, "method", "quantity", "value", "high")
    )
    first = table.iloc[0]
    return [
        f"{first.model}, one training batch on the fast path. Slope of log value against log "
        f"{against}: {fitted}.",
        "",
        *_markdown(["", what, "seconds", "peak memory (MB)"], lines),
    ]


def _locality(table: pd.DataFrame) -> list[str]:
    lines: list[list[str]] = []
    for (model, label, n), mine in table.groupby(["model", "label", "n_edits"], sort=False):
        seconds = mine[mine.quantity == "seconds"].set_index("phase").value
        memory = mine[(mine.quantity == "peak_memory_mb") & (mine.phase == "total")].value.iloc[0]
        cells = [*(f"{seconds[phase]:.2f}" for phase in seconds.index), f"{memory:.0f}"]
        lines.append([f"{model}, {label}", f"{n:.0f}", *cells])
    phases = table[table.quantity == "seconds"].phase.unique()
    return [
        "KL against norm, random weights, fast path; seconds of a training batch by phase:",
        "",
        *_markdown(["", "edits", *phases, "peak memory (MB)"], lines),
    ]


def _in_sequence(table: pd.DataFrame, train_sequences: int) -> list[str]:
    lines: list[list[str]] = []
    for (model, label), mine in table.groupby(["model", "label"], sort=False):
        numbers = [
            f"{r.value:.{digits}f} ({r.low:.{digits}f}–{r.high:.{digits}f})"
            for quantity, digits in (("seconds", 3), ("ratio", 2))
            for r in mine[mine.quantity == quantity].itertuples()
        ]
        lines.append([f"{model}, {label}", *numbers])
    first = table.iloc[0]
    return [
        f"Training in sequence on {train_sequences} batches of {first.n_edits:.0f} requests, "
        f"{first.dataset}, fast path; medians of {first.n:.0f} repetitions in turns "
        "(lowest–highest):",
        "",
        *_markdown(["", "seconds per request", f"÷ {first.label}"], lines),
    ]


def _columns(table: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    """Some columns, row after row."""
    return zip(*(table[name] for name in names), strict=True)


def _number(
    table: pd.DataFrame, label: str, path: str, quantity: str, piece: str | None = None
) -> float:
    rows = table[
        (table.label == label)
        & (table.path == path)
        & (table.quantity == quantity)
        & (table.phase == "total")
    ]
    return float((rows if piece is None else rows[rows.piece == piece]).value.iloc[0])


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    rows = [header, ["-" * width for width in widths], *lines]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in rows
    ] + [""]
