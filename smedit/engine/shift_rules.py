"""Hypernetwork output → the shift Δ of one edit module.

Every rule takes, for one module and the N answer tokens of an edit batch, keys (N, d_in),
pseudo-keys (N, d_in), pseudo-gradients (N, d_out), the step size η and log λ (scalars), and gives
Δ (d_in, d_out). Gradients flow back to all but the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from smedit.errors import UserError, nearest, shown
from smedit.methods import BUILT_IN_RULES, shift_rule

ShiftRule = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor
]


def shift_rule_of(name: str) -> ShiftRule:
    """Find a shift rule: one of this module by its name, another as ``MODULE:FUNCTION``.

    Raises
    ------
    UserError
        If there is none.
    """
    module, _, function = name.rpartition(":")
    try:
        found = vars(import_module(module or BUILT_IN_RULES))
    except ImportError as error:
        raise UserError(f"shift rule {shown(name)}: {error}; correct it") from error
    rules = {key: value for key, value in found.items() if getattr(value, "is_shift_rule", False)}
    if function not in rules:
        raise UserError(f"unknown shift rule {shown(name)}{nearest(function, rules)}")
    return rules[function]


@shift_rule
def outer_product(
    keys: torch.Tensor,
    pseudo_keys: torch.Tensor,
    pseudo_gradients: torch.Tensor,
    step_size: torch.Tensor,
    log_lambda: torch.Tensor,
) -> torch.Tensor:
    """Δ = −η K̂ᵀĜ (MEND, arXiv 2110.11309); keys and λ play no part."""
    del keys, log_lambda
    return -step_size * pseudo_keys.T @ pseudo_gradients


@shift_rule
def least_squares(
    keys: torch.Tensor,
    pseudo_keys: torch.Tensor,
    pseudo_gradients: torch.Tensor,
    step_size: torch.Tensor,
    log_lambda: torch.Tensor,
) -> torch.Tensor:
    """Δ = (KᵀK + e^λ I)⁻¹ KᵀV with v = −η (k·k̂) ĝ (MALMEN, arXiv 2311.04661).

    Solved in whichever of the two equal forms is the smaller: d_in × d_in (primal) or, with
    fewer tokens than inputs, N × N (dual).
    """
    inner = (keys * pseudo_keys).sum(-1, keepdim=True)
    values = -step_size * inner * pseudo_gradients
    return _ridge(keys, values, log_lambda)


@shift_rule
def standardized_least_squares(
    keys: torch.Tensor,
    pseudo_keys: torch.Tensor,
    pseudo_gradients: torch.Tensor,
    step_size: torch.Tensor,
    log_lambda: torch.Tensor,
) -> torch.Tensor:
    """Δ = (KᵀK + e^λ I)⁻¹ KᵀV with v = −η ‖k̂‖² ĝ (UltraEdit, arXiv 2505.14679).

    There k̂ and ĝ are what the normalizer gives, η is the learning rate, and λ stays 0.
    """
    values = -step_size * pseudo_keys.square().sum(-1, keepdim=True) * pseudo_gradients
    return _ridge(keys, values, log_lambda)


def _ridge(keys: torch.Tensor, values: torch.Tensor, log_lambda: torch.Tensor) -> torch.Tensor:
    solve = dual if keys.shape[0] < keys.shape[1] else primal
    return solve(keys, values, log_lambda)


def primal(keys: torch.Tensor, values: torch.Tensor, log_lambda: torch.Tensor) -> torch.Tensor:
    """(KᵀK + e^λ I)⁻¹ KᵀV by one Cholesky factorization of a d_in × d_in matrix."""
    return _solve(keys.T @ keys, log_lambda.exp(), keys.T @ values)


def dual(keys: torch.Tensor, values: torch.Tensor, log_lambda: torch.Tensor) -> torch.Tensor:
    """Kᵀ(KKᵀ + e^λ I)⁻¹ V by one Cholesky factorization of an N × N matrix."""
    return keys.T @ _solve(keys @ keys.T, log_lambda.exp(), values)


def _solve(gram: torch.Tensor, ridge: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(G + r I)⁻¹ R for a constant G, with gradients to r and R.

    The factor is a constant for autograd, so that the backward pass takes two triangular solves
    with it instead of differentiating the factorization. The residual's second term is 0; its
    gradient, −X dr, is what d((G + r I) X) = dR asks of the right-hand side.
    """
    with torch.no_grad():
        system = gram.clone()
        system.diagonal().add_(ridge)
        factor = torch.linalg.cholesky(system)
        solution = torch.cholesky_solve(right, factor)
    if not (ridge.requires_grad or right.requires_grad):
        return solution
    return torch.cholesky_solve(right - (ridge - ridge.detach()) * solution, factor)
