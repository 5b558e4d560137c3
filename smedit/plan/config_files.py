"""The files of a configuration: how they are read, and which of them holds a key.

Snakemake reads a configuration itself. It takes the last of two equal keys, and of a file that it
cannot read it says little, or gives a traceback. So the suite reads each file first. Imports
nothing heavy.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from smedit.errors import SettingError, UserError, message, shown
from smedit.store.files import suite_path

CATALOGUE = {kind: f"config/{kind}.yaml" for kind in ("models", "datasets")}
"""What a configuration can name → the suite's file that lists it."""


def read_file(path: Path) -> dict[str, Any]:
    """Read a configuration, in YAML or JSON.

    Raises
    ------
    UserError
        If it is neither, holds a key twice or none at all; names the file and the line.
    OSError
        If the file cannot be opened.
    """
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, byte = data[: error.start].count(b"\n") + 1, data[error.start]
        raise UserError(
            f"{path}, line {line}: the byte {byte:#04x} is not UTF-8; save the file as UTF-8"
        ) from None
    try:
        values = _parsed(text)
    except _LineError as error:
        raise UserError(f"{path}, line {error.line}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; write it with fewer levels") from None
    except ValueError as error:  # a date that does not exist, a number of 5000 digits
        raise UserError(f"{path}: a value cannot be read ({error}); correct it") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no keys; write them as KEY: VALUE, one a line")
    return values


class _LineError(Exception):
    """What is wrong in a line of a file."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def read_together(paths: Iterable[Path]) -> dict[str, Any]:
    """Several files as one configuration, as Snakemake puts them together.

    What a later file says of a key counts; mappings are put together key by key.
    """
    whole: dict[str, Any] = {}
    for path in paths:
        _add(whole, read_file(path))
    return whole


def _add(whole: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(whole.get(key), dict):
            _add(whole[key], value)
        else:
            whole[key] = value


def _parsed(text: str) -> Any:
    """As Snakemake does it: as JSON if it is that, else as YAML."""
    with suppress(json.JSONDecodeError):
        json.loads(text)
        text = text.replace("\t", " ")  # JSON may be indented with tabs
    try:
        return _Loader(text).get_single_data()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problem = f"holds {shown(chr(error.character))}, which YAML does not allow; remove it"
        raise _LineError(line, problem) from None
    except yaml.MarkedYAMLError as error:
        raise _line_error(text, error) from None


def _line_error(text: str, error: yaml.MarkedYAMLError) -> _LineError:
    """Where YAML is broken. A tab comes first: it is not seen, and YAML's own words do not help."""
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    for line, words in enumerate(text.splitlines()[:number], 1):
        if re.match(r" *\t", words) and words.strip():
            return _LineError(line, "begins with a tab; use spaces, the same number at each level")
    if isinstance(error, yaml.constructor.ConstructorError):
        return _LineError(number, f"{error.problem}; write a plain value")
    problem = " ".join((error.problem or str(error)).split())
    return _LineError(
        number,
        f"not YAML ({problem}); use spaces, the same number at each level, and close every bracket "
        "and quote, here or in the lines before",
    )


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice; merged mappings (``<<``) may hold it, too, as YAML says."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                problem = f"the key {shown(key.value)} stands twice, first in line {lines[name]}"
                raise _LineError(line, f"{problem}; leave one out")
            lines[name] = line
        return node


def check_files(paths: Iterable[Path]) -> None:
    """Check that each file can be read; see `read_file`."""
    for path in paths:
        read_file(path)


def check_command_line() -> None:
    """Check the files that this process was given with ``--configfile``, or end it with one line.

    The workflow's profiles call this: Snakemake reads them before it reads a configuration, and
    that before any Snakefile.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", type=Path, default=[])
    try:
        check_files(parser.parse_known_args()[0].configfile)
    except (UserError, OSError) as error:
        sys.exit(f"error: {message(error)}")


def explained(error: Exception, files: Sequence[Path], overrides: Mapping[str, Any]) -> str:
    """The line that a person reads, with the place where a wrong setting stands.

    Parameters
    ----------
    error
        What was raised.
    files
        The configuration's files, each of which adds to those before it.
    overrides
        What was given with ``--config``; the message then begins with ``config``.
    """
    if not isinstance(error, SettingError):
        return message(error)
    if _holds(overrides, error.key):
        return f"config: {error}"
    places = [path for path in files if _holds(read_file(path), error.key)][-1:]
    kind, _, entry = error.key.partition(".")
    if not places and kind in CATALOGUE:
        path = suite_path(CATALOGUE[kind])
        if _holds(read_file(path), entry):
            return f"{_short(path)}: {str(error).removeprefix(f'{kind}.')}"
    return f"{', '.join(map(_short, places or files)) or 'config'}: {error}"


def _holds(values: Any, key: str) -> bool:
    """Whether settings hold a dotted key; a part of it may have dots of its own."""
    if isinstance(values, list):
        values = dict(enumerate(values))
    if not isinstance(values, Mapping):
        return False
    return any(
        key == str(name) or (key.startswith(f"{name}.") and _holds(each, key[len(str(name)) + 1 :]))
        for name, each in values.items()
    )


def _short(path: Path) -> str:
    """A path as it is short: below the working folder, relative to it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
