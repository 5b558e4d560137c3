"""What a new process of the benchmark's tests does; it imports nothing else."""

import torch

from smedit.engine.memory import peak_memory_mb


def of(job):
    return peak_memory_mb(torch.device(job["device"]))
