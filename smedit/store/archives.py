"""Results that a repository keeps: compressed archives, from which a fresh clone goes on.

``RESULTS/kept/NNN.tar.xz`` holds results of runs. An archive is written once and never changed, so
the history of a repository holds each result once.
"""

from __future__ import annotations

import io
import json
import logging
import lzma
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smedit.store.files import fingerprint, refuse, replacing
from smedit.store.results import checksum, read_result

log = logging.getLogger("smedit")

ARCHIVES = "kept/[0-9][0-9][0-9].tar.xz"
DATA = "data.json"
"""In each archive: the checksums of the files that its results' datasets were read from."""

NO_TIME = 0
"""When files in archives were changed: nothing that tells of the machine that packed them."""


def pack(
    results: Path, files_of: Callable[[Mapping[str, Any]], Iterable[Path]] = lambda _: ()
) -> tuple[Path | None, int]:
    """Write an archive of the results that no archive holds as they are, or with more.

    Parameters
    ----------
    results
        The folder of ``runs`` and ``kept``.
    files_of
        Result → the files on this machine that its dataset is read from. Their checksums are kept,
        too: who has other files has other results.

    Returns
    -------
    Path or None, int
        The archive, and how many results it holds; None if there are no new ones.

    Raises
    ------
    UserError
        If a result or an archive is damaged, or the new one cannot be written.
    """
    known = dict(_archived(results))
    new: list[Path] = []
    data: dict[str, dict[str, str]] = {}
    for path in sorted((results / "runs").glob("*.json")):
        result = read_result(path)
        kept = known.get(path.name)
        if kept is None or _content(kept) != _content(path.read_bytes()):
            more = len(json.loads(kept)["asked"]) if kept else 0
            if len(result["asked"]) < more:
                log.warning("%s: left out, as an archive has more of this run", path)
                continue
            new.append(path)
            spec = result.get("dataset_spec")
            data.setdefault(checksum(spec), described(files_of(result)))
    if not new:
        return None, 0
    number = 1 + max((int(p.name[:3]) for p in results.glob(ARCHIVES)), default=0)
    out = results / f"kept/{number:03}.tar.xz"
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part, tarfile.open(part, "w:xz", preset=9) as archive:
        for path in new:
            archive.add(path, path.name, filter=_nobody)
        text = json.dumps(data, indent=1).encode()
        member = tarfile.TarInfo(DATA)
        member.size = len(text)
        archive.addfile(_nobody(member), io.BytesIO(text))
    return out, len(new)


def unpack(results: Path, wanted: Callable[[str], bool]) -> int:
    """Write the results that archives hold and the folder lacks, with the time that is given there.

    What comes from an older archive, and stands in a newer one with more, is written anew.

    Parameters
    ----------
    results
        The folder of ``runs`` and ``kept``.
    wanted
        Whether to write the result of a run, by its name.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    UserError
        If an archive is damaged, or a result cannot be written.
    """
    folder, written = results / "runs", 0
    latest = dict(_archived(results))
    for name, text in latest.items():
        out = folder / name
        stale = unpacked(out) and out.read_bytes() != text
        if (stale or not out.exists()) and wanted(out.stem):
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(out) as part:
                part.write_bytes(text)
                os.utime(part, (NO_TIME, NO_TIME))
            written += 1
    return written


def described(files: Iterable[Path]) -> dict[str, str]:
    """Name of a file → SHA-256 of its content; with its folder's, where two have one name."""
    listed = list(files)
    names = Counter(path.name for path in listed)
    return {
        "/".join(path.parts[-1 if names[path.name] == 1 else -2 :]): fingerprint(path)["sha256"]
        for path in listed
    }


def data_of(results: Path) -> dict[str, dict[str, str]]:
    """Checksum of a dataset's source → its files, as they were when results were packed.

    A source whose files have changed from one archive to another has none that fit.
    """
    found: dict[str, dict[str, str]] = {}
    for _, text in _members(results, data=True):
        for spec, files in json.loads(text).items():
            same = found.setdefault(spec, files) == files
            found[spec] = files if same else {"": ""}
    return found


def unpacked(result: Path) -> bool:
    """Whether a result comes from an archive."""
    return result.exists() and result.stat().st_mtime == NO_TIME


def _archived(results: Path) -> Iterator[tuple[str, bytes]]:
    """File name and content of every result in the archives, the oldest first."""
    return _members(results, data=False)


def _members(results: Path, data: bool) -> Iterator[tuple[str, bytes]]:
    for path in sorted(results.glob(ARCHIVES)):
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    plain = Path(member.name).name == member.name
                    if file is not None and plain and (member.name == DATA) == data:
                        yield member.name, file.read()
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            refuse(path, f"not a whole archive ({error}); restore it")


def _content(text: bytes) -> str:
    return json.loads(text)["checksums"]["content"]


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner and the time of the machine that packs."""
    member.uid = member.gid = 0
    member.mtime = NO_TIME
    member.uname = member.gname = ""
    return member
