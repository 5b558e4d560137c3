"""The one exception that a user is meant to read, and how others are put."""

import difflib
import errno
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

Arguments = ParamSpec("Arguments")


INTERRUPTED = "interrupted; the same command goes on where it was"


class UserError(Exception):
    """Bad input or a failed run: one line that says what, where and what to do.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


class SettingError(UserError):
    """A wrong setting: its dotted key, then the problem.

    Who knows where the settings were read says so, too: `located`, `smedit.plan.config_files`.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class DivergedError(UserError):
    """A loss, gradient, shift or logit is not finite: the run cannot go on with these settings."""


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, and of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def kind_of(value: Any) -> str:
    """What people call the kind of a value that a file holds: a list, a number."""
    for kinds, called in (
        (bool, "true or false"),
        (dict, "an object"),
        (list, "a list"),
        (str, "a text"),
        (int | float, "a number"),
    ):
        if isinstance(value, kinds):
            return called
    return "null" if value is None else type(value).__name__


def counted(number: int, thing: str) -> str:
    """A number of things in words: 1 fact, 2 facts."""
    return f"{number} {thing}{'s' * (number != 1)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f"; did you mean {folded[close[0]]!r}?" if close else ";"
    return f"{hint} known: {', '.join(known)}"


@contextmanager
def located(where: object) -> Iterator[None]:
    """Put the place where settings stand, a file or an option, before what is wrong with them."""
    try:
        yield
    except SettingError as error:
        raise UserError(f"{where}: {error}") from None


def message(error: Exception) -> str:
    """The line that a person reads; an error of the file system names the path and the remedy."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    where = " → ".join(path if len(path) <= 200 else f"…{path[-200:]}" for path in paths)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room on the disk" if full else "correct the path, or the rights to it"
    return f"{where}: {error.strerror}; {remedy}"


def with_status(main: Callable[Arguments, None]) -> Callable[Arguments, int]:
    """Make a script's main return its exit status: 0, or 2 after the line that a person reads."""

    @wraps(main)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> int:
        try:
            main(*arguments, **options)
        except (UserError, OSError) as error:
            print(f"error: {message(error)}", file=sys.stderr)
            return 2
        return 0

    return run
