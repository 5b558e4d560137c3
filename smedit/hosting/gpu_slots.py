"""Each job of a run on one machine gets GPUs of its own.

``python -m smedit.hosting.gpu_slots 1 COMMAND …`` waits until a GPU is free, sets
``CUDA_VISIBLE_DEVICES`` and becomes the command. A GPU is taken by locking a file. The command
inherits the open file, so the lock goes with it, however it ends. Imports nothing heavy.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from smedit.errors import INTERRUPTED, UserError, with_status

GPUS = "SMEDIT_GPUS"
"""The environment variable that says how many GPUs a run may use (``--resources gpu=N``)."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
FOLDER = Path(tempfile.gettempdir(), f"smedit-gpus-{os.getuid()}")
"""A file per GPU of this machine, for all runs of this user."""

PAUSE = 0.5
"""Seconds between two looks for a free GPU."""


def gpus() -> list[str]:
    """The GPUs that the run may use.

    Those that its user has made visible, else as many as ``--resources gpu=N`` says, else all that
    Linux lists.
    """
    if VISIBLE in os.environ:
        return list(dict.fromkeys(name for name in os.environ[VISIBLE].split(",") if name))
    known = os.environ.get(GPUS) or str(len(list(Path("/dev").glob("nvidia[0-9]*"))))
    if not known.isdecimal():
        raise UserError(f"--resources gpu={known}: not a number of GPUs; write one")
    return [str(number) for number in range(int(known))]


def take(n: int, names: Sequence[str], folder: Path = FOLDER) -> dict[str, int]:
    """Take GPUs that no other job has; wait until there are enough.

    Parameters
    ----------
    n
        How many.
    names
        Those there are.
    folder
        Where the files are locked.

    Returns
    -------
    dict
        GPU → the descriptor that holds it, which a command inherits.

    Raises
    ------
    UserError
        If there are fewer than ``n``.
    """
    if len(names) < n:
        raise UserError(
            f"gpus_per_job is {n}, this run has {len(names)} ({', '.join(names) or 'none'}); give "
            f"--resources gpu=N, set {VISIBLE}, or lower gpus_per_job"
        )
    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        # One job looks at a time: two that need several would each hold what the other lacks.
        looking = _open(folder / "looking")
        fcntl.flock(looking, fcntl.LOCK_EX)
        held: dict[str, int] = {}
        for name in names:
            file = _open(folder / name.replace("/", "-"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held[name] = file
            except BlockingIOError:
                os.close(file)
            if len(held) == n:
                break
        os.close(looking)
        if len(held) == n:
            for file in held.values():
                os.set_inheritable(file, True)
            return held
        for file in held.values():
            os.close(file)
        if not waiting:
            print("waiting for a GPU that no other job has", file=sys.stderr, flush=True)
        waiting = True
        time.sleep(PAUSE)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


@with_status
def main() -> None:
    """Take GPUs and become the command."""
    n, *command = sys.argv[1:]
    names = gpus()
    if names or VISIBLE not in os.environ:  # else the user has hidden all
        os.environ[VISIBLE] = ",".join(take(int(n), names))
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]}: there is no such command") from error


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)
