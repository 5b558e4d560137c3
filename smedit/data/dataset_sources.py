"""Where a dataset's rows come from: the package, a folder on this machine, or the hub.

Each source gives, for every file, what it is for (``train``, ``tune``, ``eval``, or ``pool`` for
one that is still to be split), its name and its rows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from smedit.data.fact_files import read_rows
from smedit.data.formats import formats
from smedit.data.worldfacts import SPLIT_PERCENT
from smedit.errors import UserError, kind_of
from smedit.store.files import user_path
from smedit.store.results import checksum

HUB_FILE = re.compile(r"\w[\w. -]*(/\w[\w. -]*)*\.(json|jsonl|csv|parquet)")
"""A file of a repository: no pickle, no archive, no other place on this machine or the web."""

Rows = tuple[str, Sequence[Any]]
"""The name of a file, for messages, and its rows."""


def builtin_rows(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, Rows]:
    """The built-in facts, in one of the formats that have them."""
    del spec  # it has no more to say
    make = formats()[form].builtin
    if make is None:
        known = ", ".join(f.name for f in formats().values() if f.builtin)
        raise UserError(
            f"dataset {name}, key format: the built-in facts do not have {form!r}; choose one of "
            f"{known}, or another source"
        )
    rows = make()
    return {
        role: ("built-in world facts", [row for row in rows if row["split"] == role])
        for role in SPLIT_PERCENT
    }


@cache
def builtin_checksum(form: str) -> str:
    """Of what the built-in facts say in a format; empty if they do not have it."""
    make = formats()[form].builtin
    return checksum(make()) if make else ""


def file_rows(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, Rows]:
    """One file of facts that are only to be edited; see `smedit.data.fact_files.read_rows`."""
    (path,) = files_of(name, form, spec).values()
    return {"eval": (str(path), read_rows(path))}


def folder_rows(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, Rows]:
    """The files of a folder; see `files_of`."""
    return {role: _read_json(file) for role, file in files_of(name, form, spec).items()}


def files_of(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, Path]:
    """The files of a folder: the format's official ones, or one that is still to be split."""
    if spec["source"] == "file":
        return {"eval": user_path(spec["path"])}
    if not spec.get("data_dir"):
        raise UserError(f"dataset {name}, key data_dir: missing; name the folder with the files")
    folder = user_path(spec["data_dir"])
    if not folder.is_dir():
        raise UserError(f"dataset {name}, key data_dir: no folder {folder}; correct the path")
    official, pool = formats()[form].files, formats()[form].pool
    if official and all((folder / file).is_file() for file in official.values()):
        return {role: folder / file for role, file in official.items()}
    looked_for = " and ".join(official.values())
    if pool:
        found = sorted(folder.glob(f"{pool}*.json"))
        nested = folder / f"{pool}.json"
        if nested in found or len(found) == 1:
            return {"pool": nested if nested in found else found[0]}
        looked_for += f"{', or ' if official else ''}one {nested.name}"
        if found:
            looked_for += f"; found only {', '.join(path.name for path in found)}"
    raise UserError(f"dataset {name}: {folder} does not hold {looked_for}; put the files there")


def _read_json(path: Path) -> Rows:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not complete JSON ({error}); download the file again, or write its rows as "
            "one list"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: {kind_of(rows)} instead of a list of rows; restore it")
    return str(path), rows


def hub_rows(name: str, form: str, spec: Mapping[str, Any]) -> dict[str, Rows]:
    """The files of a repository of the hub, downloaded."""
    repository, revision = spec.get("repository"), str(spec.get("revision"))
    if not repository:
        raise UserError(f"dataset {name}, key repository: missing; name it as owner/name")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"dataset {name}, key revision: {revision!r} is not a full commit (40 hexadecimal "
            "digits); pin one, so that the data cannot change"
        )
    files: Mapping[str, str] = spec.get("files") or {}
    known = formats()[form]
    roles = [each for each in ({"pool"} if known.pool else {}, set(known.files)) if each]
    if set(files) not in roles:
        expected = " or ".join(", ".join(sorted(choice)) for choice in roles)
        raise UserError(
            f"dataset {name}, key files: names {', '.join(files) or 'nothing'}; expected {expected}"
        )
    for role, file in files.items():
        if not HUB_FILE.fullmatch(str(file)):
            raise UserError(
                f"dataset {name}, key files.{role}: {file!r} is not a .json, .jsonl, .csv or "
                ".parquet file inside the repository; write its path"
            )
    return {
        role: (f"{repository}/{file}", _download(name, repository, revision, file))
        for role, file in files.items()
    }


def _download(name: str, repository: str, revision: str, file: str) -> list[dict[str, Any]]:
    """Download one file, as a list of rows."""
    import datasets  # not at module level: it takes seconds to import

    # One file at a time: datasets asks all files of one call to have the same columns.
    try:
        loaded: Iterable[Any] = datasets.load_dataset(
            repository, data_files=file, revision=revision
        ).values()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"dataset {name}: cannot load {file} of {repository} at {revision} "
            f"({reason}); check the names and the network, or use source: folder"
        ) from error
    return [row for split in loaded for row in split.to_list()]
