"""JSON files that carry checksums: of what they hold, and of the settings that they stand for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from smedit.errors import UserError
from smedit.store.files import refuse, replacing

CHECKSUMS = "checksums"

EARLIER = ".earlier"
"""Suffix of a result that was set aside while its run is asked for more."""


def checksum(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several kinds in one mapping, in order.

    Raises
    ------
    UserError
        If two parts have the same name, as one value would silently stand for both.
    """
    whole: dict[str, Any] = {}
    for part in parts:
        twice = sorted(set(whole) & set(part))
        if twice:
            raise UserError(
                f"the setting {twice[0]!r} stands among {sorted(whole)} and among {sorted(part)}; "
                "leave it out of one"
            )
        whole |= part
    return whole


def write_result(
    result: Mapping[str, Any], out: Path, job: Mapping[str, Any] | None = None
) -> None:
    """Write a result with the checksums of itself and of the job that it is the result of.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    sums = {"content": checksum(result)}
    if job is not None:
        sums["job"] = checksum(job)
    text = json.dumps({**result, CHECKSUMS: sums}, indent=1, allow_nan=False)
    with replacing(out) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_result(
    path: Path, job: Mapping[str, Any] | None = None, part_of: Path | None = None
) -> dict[str, Any]:
    """Read what `write_result` wrote.

    Parameters
    ----------
    path
        The file.
    job
        The settings that its place stands for; by default any will do.
    part_of
        The folder to refuse instead of the file, if it can only be made anew as a whole.

    Raises
    ------
    UserError
        If the file is missing, damaged, altered or of another job. All but a missing one are
        marked, so that the next run makes them anew; see `smedit.store.files.refuse`.
    """

    def refused(why: str) -> NoReturn:
        refuse(part_of or path, f"its file {path.name}: {why}" if part_of else why)

    try:
        result = json.loads(path.read_bytes())
        sums = result.pop(CHECKSUMS)
    except OSError as error:
        reason = error.strerror
        raise UserError(
            f"{path}: cannot be read ({reason}); the same command makes it anew"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        refused("not a whole result file")
    if not isinstance(sums, dict) or sums.get("content") != checksum(result):
        refused("was altered after it was written")
    if job is not None and sums.get("job") != checksum(job):
        refused("the result of other settings than its place stands for")
    return result


def result_with(key: str, path: Path) -> dict[str, Any]:
    """Read a result of the kind that has the key; a `UserError` if it is of another kind."""
    result = read_result(path)
    if key not in result:
        raise UserError(f"{path}: has no {key!r}, so another command wrote it; name the right file")
    return result
