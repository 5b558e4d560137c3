"""One run at a time in a folder, by a lock that goes with the process, however that ends.

Snakemake's own lock stays behind when Snakemake is killed, and has to be removed by hand.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from io import TextIOWrapper
from pathlib import Path

from smedit.errors import UserError

log = logging.getLogger("smedit")

_held: list[TextIOWrapper] = []
"""Lock files stay open, and so locked, until the process ends."""


def hold(path: Path) -> None:
    """Lock a file for the rest of this process's life.

    Raises
    ------
    UserError
        If another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f"another run is at work in {Path.cwd()} ({file.read().strip()}); wait until it has "
            "ended, or end it"
        ) from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): do not start two runs here", path, error.strerror)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _held.append(file)
