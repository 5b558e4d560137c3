"""What options of the command line take: JSON, and files to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer import BadParameter


def as_json(text: str) -> Any:
    """The value that a text is the JSON of."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadParameter(f"not JSON: {error}") from error


def new_file(text: str) -> Path:
    """The path of a file to write; that it cannot be there is said before the work, not after."""
    path = Path(text)
    if not path.parent.is_dir():
        raise BadParameter(f"there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise BadParameter(f"{path} is a folder; name a file in it")
    return path
