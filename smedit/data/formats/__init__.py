"""The formats of datasets: one file each, found by itself.

A format is a function that makes an edit request of a row, with a decorator that says what its
files are called and which keys of its own a dataset has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from smedit.data.facts import EditRequest

Row = Mapping[str, Any]


@dataclass(frozen=True)
class DatasetFormat:
    """A format.

    Attributes
    ----------
    name
        A dataset's ``format``.
    request
        Takes a row, ``where`` it stands, for messages, and a value for each of ``options``.
    files
        Split → the official file's name, for formats that come with splits.
    pool
        Where one file may hold all rows, how its name begins; else empty.
    options
        Key of a dataset → the values there are; each has to be given.
    builtin
        Gives the built-in facts as rows of this format, if it can.
    marks
        Fields by which a row is known to be of this format, where a file does not say.
    fields
        Those that are read.
    cut
        Where a row of a file holds several requests: takes it, and where it stands, and gives a row
        for each.
    """

    name: str
    request: Callable[..., EditRequest]
    files: Mapping[str, str]
    pool: str
    options: Mapping[str, Sequence[str]]
    builtin: Callable[[], list[dict[str, Any]]] | None
    marks: Sequence[str]
    fields: Collection[str]
    cut: Callable[[Row, str], list[Row]] | None


_KNOWN: dict[str, DatasetFormat] = {}


def dataset_format(
    name: str,
    files: Mapping[str, str] | None = None,
    pool: str = "",
    options: Mapping[str, Sequence[str]] | None = None,
    builtin: Callable[[], list[dict[str, Any]]] | None = None,
    marks: Sequence[str] = (),
    fields: Collection[str] = (),
    cut: Callable[[Row, str], list[Row]] | None = None,
) -> Callable:
    """Declare a format by the function that makes a request of a row; see `DatasetFormat`."""

    def register(request: Callable[..., EditRequest]) -> Callable[..., EditRequest]:
        given = (files or {}, pool, options or {}, builtin, marks, fields, cut)
        _KNOWN[name] = DatasetFormat(name, request, *given)
        return request

    return register


@cache
def formats() -> dict[str, DatasetFormat]:
    """Name → format, of all files of this folder."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return _KNOWN
