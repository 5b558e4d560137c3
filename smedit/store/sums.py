"""Checksums of tables, in the format of ``sha256sum``, so that a cut or altered one is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from smedit.errors import UserError
from smedit.store.files import fingerprint, refuse, replacing


def write_sums(path: Path, files: Iterable[Path]) -> None:
    """Write the SHA-256 of files that lie beside ``path``; ``sha256sum -c`` checks them, too."""
    with replacing(path) as part:
        lines = [f"{fingerprint(file)['sha256']}  {file.name}\n" for file in files]
        part.write_text("".join(lines), encoding="utf-8")


def check_sums(path: Path, names: Iterable[str]) -> None:
    """Check tables that `write_sums` listed.

    Parameters
    ----------
    path
        The file of the checksums.
    names
        The tables to check, without suffix.

    Raises
    ------
    UserError
        If a table is missing or differs, or the file of the checksums does not list it. What is
        damaged is refused, and made anew by the next run.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; the same command makes it anew") from error
    sums = {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}
    for file in (path.with_name(f"{name}.csv") for name in names):
        if file.name not in sums:
            refuse(path, f"does not list {file.name}")
        if not file.is_file():
            raise UserError(f"{file}: is missing; the same command makes it anew")
        if fingerprint(file)["sha256"] != sums[file.name]:
            refuse(file, "was cut or altered after it was written")
