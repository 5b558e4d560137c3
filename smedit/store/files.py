"""Files that are complete or not there, and that say when they were altered."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from smedit.errors import UserError

log = logging.getLogger("smedit")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; flush and rename it if the body succeeds.

    Else it is removed, and what was at ``path`` is still there. If two processes write the same
    file at once, one of them fails.

    Raises
    ------
    UserError
        If the file cannot be written: a full disk, a read-only folder.
    """
    for stale in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        stale.unlink(missing_ok=True)  # a process that was killed left it, or lives and is late
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        flush(part)
        part.replace(path)
        with suppress(OSError):  # some file systems cannot flush a folder; the file is in place
            flush(path.parent)  # the new name, too
        accept(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: its folder is gone, or another process wrote it at the same time; run the "
            "same command again"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); make room or another place "
            "for it, and run the same command again"
        ) from error
    finally:
        with suppress(OSError):  # a read-only folder holds none
            part.unlink(missing_ok=True)


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside ``target``; it is gone at the end, unless it was renamed.

    What a killed process left is removed. A living one holds a lock on its folder; where there are
    no locks on folders, nothing can be known, and nothing is removed.
    """
    for stale in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with suppress(OSError), opened(stale) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stale)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    partial.mkdir(parents=True)
    try:
        with opened(partial) as descriptor:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def overlap(first: Path, second: Path) -> bool:
    """Whether two folders are the same, or one lies in the other."""
    first, second = first.resolve(), second.resolve()
    return first == second or first in second.parents or second in first.parents


def check_replaceable(target: Path, mark: str) -> None:
    """Refuse a folder to write where something else is; one that holds ``mark`` is an older one.

    Raises
    ------
    UserError
        If something else is there.
    """
    if target.exists() and not (target / mark).is_file():
        raise UserError(f"{target} is there and holds no {mark}; move it or name another folder")


def exchange(target: Path, new: Path) -> None:
    """Put a folder in the place of another, which goes only when the new one is there."""
    old = new.with_suffix(".old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing_folder(target: Path, mark: str) -> Iterator[Path]:
    """Yield a new folder beside ``target``, and put it in its place if the body succeeds.

    An older one is replaced only if it holds the file ``mark``, so that nothing else is lost.

    Raises
    ------
    UserError
        If something else is there, or the folder cannot be written.
    """
    check_replaceable(target, mark)
    target = target.resolve()  # of a link, the folder it leads to
    try:
        with partial_folder(target) as partial:
            yield partial
            for path in [path for path in partial.rglob("*") if path.is_file()]:
                path.chmod(0o644)  # safetensors writes files that only their owner can read
                flush(path)
            exchange(target, partial)
    except Exception as error:
        if isinstance(error, UserError) or not disk_failed(error):
            raise
        raise UserError(
            f"{target}: cannot be written ({' '.join(str(error).split())}); make room or another "
            "place for it, and run the same command again"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a file or folder that is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def flush(path: Path) -> None:
    """Have the system write a file or folder to the disk now."""
    with opened(path) as descriptor:
        os.fsync(descriptor)


def disk_failed(error: Exception) -> bool:
    """Whether the system could not read or write, as with a full disk.

    Libraries in Rust (safetensors, tokenizers) have errors of their own for it.
    """
    by_system = isinstance(error, OSError) and error.errno is not None
    return by_system or "(os error " in str(error)


def user_path(text: str) -> Path:
    """A path as a person writes it, with ``~`` for a home; an unknown user's stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails for such a user


SUITE = "SMEDIT_SUITE"
"""The environment variable that names the suite's folder to the jobs of a run."""


def suite_path(text: str) -> Path:
    """A path that the working folder has, else the suite's folder; as written if neither has it.

    A setting keeps the path as it is written: which folder it was found in is no part of a job.
    """
    path = Path(text)
    of_suite = Path(os.environ.get(SUITE) or _checkout(), path)
    return of_suite if of_suite.exists() and not path.exists() else path


def _checkout() -> Path:
    """The folder of the suite that this module belongs to; the working folder if it has none."""
    folder = Path(__file__).parents[2]
    return folder if (folder / "config/models.yaml").is_file() else Path()


OTHER_PLACE = "results_dir and figures_dir in the configuration; resources may be a link"


def check_writable(folders: Iterable[str], how: str = OTHER_PLACE) -> None:
    """Check that files can be made in folders, or that these can be made.

    Raises
    ------
    UserError
        If not; it names the folder.
    """
    for folder in map(Path, folders):
        there = next(f for f in (folder, *folder.absolute().parents) if f.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UserError(
                f"{folder}: nothing can be written there; make {there} a writable folder, or "
                f"choose another place ({how})"
            )


def fingerprint(path: Path) -> dict[str, Any]:
    """Size, time of the last change (in nanoseconds) and SHA-256 of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    stat = path.stat()
    return {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "sha256": sha256}


def what_changed(path: Path, expected: Mapping[str, Any]) -> str:
    """How a file differs from its `fingerprint`; empty if it does not.

    A file whose size and time of change are as expected is not read: a hash of gigabytes would take
    longer than the work on them.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "is missing"
    if stat.st_size != expected["bytes"]:
        return f"has {stat.st_size} bytes instead of {expected['bytes']}"
    same_time = stat.st_mtime_ns == expected.get("modified")
    if not same_time and fingerprint(path)["sha256"] != expected["sha256"]:
        return "was altered"
    return ""


REFUSED, DAMAGED = ".refused", ".damaged"
"""Suffixes: of the mark beside a file that a job refused, and of a file that was set aside."""


def refuse(path: Path, why: str) -> NoReturn:
    """Refuse a damaged file or folder, and mark it for `set_refused_aside`.

    It stays where it is for now: other jobs that wait for it must not find it missing. A folder is
    a prepared model; one outside the working folder is shared and gets no mark, as it is not this
    run's to rename.

    Raises
    ------
    UserError
        Always; it says what is wrong and what to do.
    """
    remedy = "delete it and run the same command again"
    if lies_here(path) or not path.is_dir():
        with suppress(OSError):
            path.with_name(f"{path.name}{REFUSED}").write_text(_state(path), encoding="utf-8")
        remedy += " (a run of the workflow sets it aside by itself)"
    raise UserError(f"{path}: {why}; {remedy}")


def lies_here(path: Path) -> bool:
    """Whether a path, with all links followed, is below the working folder."""
    return path.resolve().is_relative_to(Path.cwd())


def _state(path: Path) -> str:
    """Size and time of the last change of a file, or of every file in a folder, as JSON.

    The time is the one that nobody can set: a backup that is put back has a new one.
    """
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    files = inside if path.is_dir() else [path]
    states = {str(file.relative_to(path)): file.stat() for file in files}
    return json.dumps({name: [s.st_size, s.st_ctime_ns] for name, s in states.items()})


def accept(path: Path) -> None:
    """Take back the mark of `refuse`: the file or folder has been made anew."""
    with suppress(OSError):
        path.with_name(f"{path.name}{REFUSED}").unlink(missing_ok=True)


def set_refused_aside(folders: Iterable[str]) -> list[Path]:
    """Rename what jobs have refused, so that the next run makes it anew; return the new names.

    What has changed since then, restored or made anew, stays and only loses its mark. What cannot
    be renamed keeps its mark, and a warning names it.
    """
    renamed = []
    for mark in [mark for folder in folders for mark in Path(folder).rglob(f"*{REFUSED}")]:
        path = mark.with_suffix("")
        aside = path.with_name(f"{path.name}{DAMAGED}")
        try:
            if path.exists() and mark.read_bytes() == _state(path).encode():
                if aside.is_dir():
                    shutil.rmtree(aside)
                renamed.append(path.replace(aside))
            mark.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be set aside (%s); delete it", path, error.strerror or error)
    return renamed
