"""Which version of the suite computed something, by its sources. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files


@cache
def engine_checksum() -> str:
    """SHA-256 of the sources that compute a result's numbers."""
    digest = hashlib.sha256()
    for path in sorted(files("smedit.engine").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def frozen_checksum() -> str:
    """SHA-256 of the sources, and of the prose, that decide what `freeze` computes."""
    prose = files("smedit.data").joinpath("prose.txt").read_bytes()
    return hashlib.sha256(engine_checksum().encode() + prose).hexdigest()
