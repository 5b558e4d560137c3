"""Variables that every job of a run finds in its environment.

They are set before the first job starts, in the process that leads the run: jobs inherit them, on
this machine and by way of SLURM.
"""

from __future__ import annotations

import os

from smedit.hosting.gpu_slots import GPUS

MEMORY = "GLIBC_TUNABLES"
KEPT_MEMORY = (
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864"
)
"""Large tensors come and go. By default each one is mapped anew from the system and its pages are
filled again; with this, glibc keeps them."""


def machine_memory_mb() -> int:
    """All memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6


def prepare(gpus: int | str | None) -> None:
    """Set the variables; what the user has set for memory stays.

    Parameters
    ----------
    gpus
        How many GPUs the run was given, None if that was not said.
    """
    os.environ.setdefault(MEMORY, KEPT_MEMORY)
    os.environ[GPUS] = "" if gpus is None else str(gpus)
