"""Keys and value gradients → pseudo-keys and pseudo-gradients (MALMEN's network, MEND's idea).

Source: arXiv 2508.04012, section 3.2; normalizer, initial values and the order of operations as
in the authors' released code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

MAX_VALUES = 2**24
"""Input values of one pass; with four blocks the graph of one pass then takes about 1 GB."""


class Normalizer(nn.Module):
    """Running mean and standard deviation over every row seen, merged by count.

    Parameters
    ----------
    size
        Width of a row.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("squares", torch.zeros(size))

    @torch.no_grad()
    def update(self, rows: torch.Tensor) -> None:
        """Merge rows (N, size) into the statistics."""
        n = rows.shape[0]
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0)
        total = self.n + n
        offset = mean - self.mean
        self.squares += squares + offset.square() * self.n * n / total
        self.mean += offset * n / total
        self.n += n

    @property
    def std(self) -> torch.Tensor:
        """Unbiased standard deviation (size,)."""
        return (self.squares / (self.n - 1 + 1e-8)).sqrt()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Standardize rows (..., size)."""
        return (rows - self.mean) / (self.std + torch.finfo(rows.dtype).eps)


class Block(nn.Module):
    """y ← y + s_m ⊙ relu(y A B + b) + t_m; the identity before any training.

    Parameters
    ----------
    n_modules
        M, the modules that share the block; each has its own scale s and shift t.
    size
        Width d_in + d_out.
    rank
        Width of the bottleneck.
    """

    def __init__(self, n_modules: int, size: int, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(size, rank))
        self.B = nn.Parameter(torch.zeros(rank, size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(n_modules, size))
        self.shift = nn.Parameter(torch.zeros(n_modules, size))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """(M, N, size) → (M, N, size)."""
        # clamp, not relu: at the start every entry is exactly 0, where only clamp has a gradient.
        inner = (y @ self.A @ self.B + self.bias).clamp(min=0)
        return y + self.scale[:, None] * inner + self.shift[:, None]


class ShapeNetwork(nn.Module):
    """The network of all M edit modules of one shape (d_in, d_out).

    Parameters
    ----------
    names
        Names of the M modules.
    d_in, d_out
        Their shape.
    rank, n_blocks
        Size of the network.
    lr
        Initial step size η of every module. λ starts at 0.
    """

    def __init__(
        self, names: list[str], d_in: int, d_out: int, rank: int, n_blocks: int, lr: float
    ) -> None:
        super().__init__()
        self.names = names
        self.split = (d_in, d_out)
        self.normalizer = Normalizer(d_in + d_out)
        self.blocks = nn.Sequential(
            *(Block(len(names), d_in + d_out, rank) for _ in range(n_blocks))
        )
        self.step_size = nn.Parameter(torch.full((len(names),), float(lr)))
        self.log_lambda = nn.Parameter(torch.zeros(len(names)))

    def forward(
        self, keys: torch.Tensor, gradients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (M, N, d_in), gradients (M, N, d_out) → pseudo-keys, pseudo-gradients.

        More tokens than fit into `MAX_VALUES` go through in chunks, which the backward pass
        computes again instead of keeping what the blocks computed in between.
        """
        rows = torch.cat([keys, gradients], dim=-1)
        n_modules, n, size = rows.shape
        step = max(1, MAX_VALUES // (n_modules * size))
        if n <= step:
            y = self.blocks(self.normalizer(rows))
        else:
            y = torch.cat(
                [
                    checkpoint(self.blocks, self.normalizer(part), use_reentrant=False)
                    for part in rows.split(step, dim=1)
                ],
                dim=1,
            )
        pseudo_keys, pseudo_gradients = y.split(self.split, -1)
        return pseudo_keys, pseudo_gradients


class Hypernetwork(nn.Module):
    """One `ShapeNetwork` per distinct module shape.

    Parameters
    ----------
    shapes
        Edit module name → (d_in, d_out). A module's index within its shape is its order here.
    rank, n_blocks, lr
        As in `ShapeNetwork`.
    seed
        Seeds the initial values, drawn on the CPU so that every device starts alike.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        rank: int,
        n_blocks: int,
        lr: float,
        seed: int,
    ) -> None:
        super().__init__()
        groups: dict[tuple[int, int], list[str]] = {}
        for name, shape in shapes.items():
            groups.setdefault(shape, []).append(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.networks = nn.ModuleDict(
                {
                    f"{d_in}x{d_out}": ShapeNetwork(names, d_in, d_out, rank, n_blocks, lr)
                    for (d_in, d_out), names in groups.items()
                }
            )
