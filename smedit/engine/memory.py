"""Memory of this process, and of the machine."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch


def memory_mb(device: torch.device) -> float:
    """Memory of this process now in MB: of the GPU where one is used, else resident.

    Where the system does not tell the resident memory (it is not Linux), the peak so far.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e6
    now = _status("VmRSS")
    return peak_memory_mb(device) if now is None else now


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process so far in MB: of the GPU where one is used, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # Not ru_maxrss: a process started by a large one begins with that one's peak.
    known = _status("VmHWM")
    if known is not None:
        return known
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def available_mb() -> float:
    """Memory in MB that this process can still get: of the machine, its container or its job."""
    limits = [psutil.virtual_memory().available / 1e6]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(Path(path).read_text()) / 1e6)
    with suppress(KeyError, ValueError):
        limits.append(float(os.environ["SLURM_MEM_PER_NODE"]))
    return min(limits)


def _status(name: str) -> float | None:
    """One of Linux's figures of this process in MB; None elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(x for x in status.read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6
