"""A measurement in a process of its own, and what it measures there: peak memory, operations.

Peak memory never falls within a process, and memory-mapped weights stay resident: so each
measured number comes from a process that did nothing else.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from smedit.benchmark.pieces import (
    Evaluation,
    Variant,
    Work,
    paths,
    run,
    seconds_by_phase,
    train_batch,
)
from smedit.data.facts import EditRequest
from smedit.data.readers import load_requests
from smedit.engine.execution import Execution
from smedit.engine.language_model import LanguageModel
from smedit.engine.memory import peak_memory_mb
from smedit.errors import UserError
from smedit.run.opening import open_model

FLOPS = {
    **flop_registry,
    # Attention's kernels on the CPU, which PyTorch's registry lacks; counted as those of a GPU.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
"""Operation → how many floating-point operations it takes."""

WARM_UP = 8
"""Edits of the untimed batch that a process runs first."""


def in_new_process(function: Callable[..., Any], job: Mapping[str, Any], *arguments: Any) -> Any:
    """Call ``function(job, *arguments)``, a function of a module, in a process that ends with it.

    Raises
    ------
    UserError
        If the process was killed.
    """
    # A server that has only imported PyTorch saves each process the import; what a process knows
    # of a GPU does not survive a fork.
    start = multiprocessing.get_context("forkserver" if job["device"] == "cpu" else "spawn")
    start.set_forkserver_preload([__name__])
    try:
        with ProcessPoolExecutor(1, mp_context=start) as pool:
            return pool.submit(function, job, *arguments).result()
    except BrokenProcessPool as error:
        raise UserError(
            "a measuring process was killed, most likely for its memory; use a smaller n_edits"
        ) from error


class OperationCount(TorchDispatchMode):
    """Counts floating-point operations of matrix products and attention that run inside it.

    `torch.utils.flop_counter.FlopCounterMode` would count alike, but it also follows modules with
    hooks, which `torch.autograd.grad` with respect to a module's output does not allow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and add what it takes."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = FLOPS.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out


@dataclass(frozen=True)
class Task:
    """One unit of measuring, with a rough cost in edits × steps on the fast path."""

    what: str
    cost: float
    do: Callable[[], None]


def device_name(device: torch.device) -> str:
    """The GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def opened(job: Mapping[str, Any], states: Path | None = None) -> LanguageModel:
    """Open a part's model: a job has ``model``, ``model_folder``, ``edit_modules``, ``precision``,
    ``device`` and ``threads``.
    """  # noqa: D205
    return open_model({**job, "settings": job}, states)


def make_work(job: Mapping[str, Any], model: LanguageModel, variant: Variant, n_edits: int) -> Work:
    """Make the training batch of a variant from the first rows of the ``train`` split."""
    requests = _requests(job, "train", n_edits)
    return Work(model, variant, requests, job["hyperparameters"], job["seed"])


def make_evaluation(job: Mapping[str, Any], model: LanguageModel, n_edits: int) -> Evaluation:
    """Make the batch to edit and score from the first rows of the ``eval`` split."""
    requests = _requests(job, "eval", n_edits)
    return Evaluation(model, requests, job["hyperparameters"]["minibatch"])


def _requests(job: Mapping[str, Any], split: str, count: int) -> Sequence[EditRequest]:
    splits = load_requests(job["dataset"], job["dataset_spec"], job["seed"])
    rows = splits.parts[split]
    if len(rows) < count:
        raise UserError(
            f"benchmark: dataset {job['dataset']} has {len(rows)} {split} rows"
            f"{splits.why(split)}, {count} are needed; use a smaller n_edits"
        )
    return rows[:count]


# --- what runs in new processes; arguments and results can be pickled -----------------------------


def open_fast(job: Mapping[str, Any], states: Path | None = None) -> LanguageModel:
    """Open a model that allows the fast way, which the benchmark compares with the plain one.

    Raises
    ------
    UserError
        If it does not.
    """
    model = opened(job, states)
    if model.execution != Execution():
        raise UserError(
            f"benchmark: {job['model']} does not allow the fast way to run it; name another model"
        )
    return model


def save_states(job: Mapping[str, Any], variant: Variant, n_edits: int, states: Path) -> None:
    """Write the frozen states of all sequences of up to n training requests."""
    model = open_fast(job)
    model.freeze(make_work(job, model, variant, n_edits).sequences)
    model.states.save(states)


def measure_path(
    job: Mapping[str, Any], states: Path, variant: Variant, n_edits: int, path: str
) -> dict[str, Any]:
    """Run both pieces once on a path, untimed.

    Returns
    -------
    dict
        ``memory_mb``: peak after loading and after both pieces; ``operations``: piece → count.
    """
    execution = paths(job["hyperparameters"]["minibatch"])[path]
    model = open_fast(job, states if execution.frozen_once else None)
    work = make_work(job, model, variant, n_edits)
    evaluation = make_evaluation(job, model, n_edits)
    memory = {"load": peak_memory_mb(model.device)}
    operations: dict[str, int] = {}

    @contextmanager
    def counted(piece: str) -> Iterator[None]:
        with OperationCount() as count:
            yield
        operations[piece] = count.total
        memory["total"] = peak_memory_mb(model.device)

    run(model, work, evaluation, execution, counted)
    return {"memory_mb": memory, "operations": operations}


def measure_point(
    job: Mapping[str, Any], states: Path, variant: Variant, n_edits: int, repetitions: int
) -> dict[str, Any]:
    """Time training batches on the fast path, after a small untimed one.

    Returns
    -------
    dict
        ``seconds``: per repetition, phase → seconds; ``memory_mb``: peak after loading and after
        training; ``device``: its name.
    """
    model = open_fast(job, states)
    work = make_work(job, model, variant, n_edits)
    memory = {"load": peak_memory_mb(model.device)}
    small = make_work(job, model, variant, min(n_edits, WARM_UP))
    train_batch(model, small, small.editor(model))
    seconds = []
    for _ in range(repetitions):
        editor = work.editor(model)
        seconds.append(seconds_by_phase(train_batch(model, work, editor)))
    memory["total"] = peak_memory_mb(model.device)
    return {"seconds": seconds, "memory_mb": memory, "device": device_name(model.device)}
