"""Names of a model's modules: ranges of layers, and the nearest to a name that is wrong.

Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from smedit.errors import UserError

MAX_MODULES = 1000
"""Most edit modules that one range may stand for; more is a typing error."""

_RANGE = re.compile(r"\{(\d{1,6})\.\.(\d{1,6})(?:\.\.(\d{1,6}))?\}")
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def expand_modules(patterns: Iterable[str]) -> list[str]:
    """Expand ``layers.{24..29}.mlp`` (or ``{10..26..2}``, with a step) to one name per index.

    Raises
    ------
    UserError
        If a range has no index or very many.
    """
    names: list[str] = []
    for pattern in patterns:
        match = _RANGE.search(pattern)
        if match is None:
            names.append(pattern)
            continue
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        indices = range(first, last + 1, step) if step else ()
        if not 0 < len(indices) <= MAX_MODULES:
            raise UserError(
                f"the range of {pattern!r} has {len(indices)} indices; write it as "
                "{first..last} or {first..last..step}, first not above last and step not 0"
            )
        names += [f"{pattern[: match.start()]}{i}{pattern[match.end() :]}" for i in indices]
    return names


def compact(names: Sequence[str]) -> str:
    """The shortest way to write names: one pattern for those that differ in the layer alone."""
    layers: dict[str, list[int]] = {}
    for name in names:
        match = _LAYER.search(name)
        layers.setdefault(_without_layer(name), []).extend([int(match[0])] if match else [])
    return " ".join(
        form.replace("{}", _range(found) if len(found) > 1 else "".join(map(str, found)))
        for form, found in layers.items()
    )


def layer_of(name: str) -> int | None:
    """The layer that a module's name names; None if it names none."""
    match = _LAYER.search(name)
    return int(match[0]) if match else None


def problem_of(pattern: str, known: Collection[str]) -> str:
    """What is wrong with a pattern if not all that it stands for is known; empty if nothing is.

    Parameters
    ----------
    pattern
        A name, or a range of them as `expand_modules` takes it.
    known
        The names there are.

    Returns
    -------
    str
        The pattern, then the nearest one with the same layers; if it is they that are wrong, all
        the layers there are.
    """
    if all(name in known for name in expand_modules([pattern])):
        return ""
    layers: dict[str, list[int]] = defaultdict(list)  # name without its layer → its layers
    for name in known:
        match = _LAYER.search(name)
        layers[_without_layer(name)] += [int(match[0])] if match else []
    part = _RANGE.search(pattern) or _LAYER.search(pattern)
    form = _without_layer(pattern)
    if form in layers:
        return f"{pattern!r} (there is {form.replace('{}', _range(layers[form]))!r})"
    close = difflib.get_close_matches(form, layers, n=1) or [next(iter(layers))]
    same = close[0].replace("{}", part[0] if part else "{}")
    if not set(expand_modules([same])) <= set(known):
        same = close[0].replace("{}", _range(layers[close[0]]))
    return f"{pattern!r}; did you mean {same!r}?"


def _without_layer(name: str) -> str:
    """A name with ``{}`` in the place of its first number, or of its range."""
    pattern = _RANGE if _RANGE.search(name) else _LAYER
    return pattern.sub("{}", name, count=1)


def _range(layers: Sequence[int]) -> str:
    """Layers as `expand_modules` takes them; where no range holds just these, they are listed."""
    steps = {after - before for before, after in pairwise(layers)}
    if len(steps) != 1:
        return ",".join(map(str, layers))
    (step,) = steps
    return f"{{{layers[0]}..{layers[-1]}{f'..{step}' if step > 1 else ''}}}"
