from importlib.metadata import EntryPoint

import pytest
import torch

from smedit import methods
from smedit.engine.locality import kl_divergence, squared_norm
from smedit.engine.shift_rules import dual, least_squares, outer_product, primal
from smedit.errors import UserError


def draw(n, d_in=7, d_out=5):
    torch.manual_seed(n)
    keys, pseudo_keys = torch.randn(2, n, d_in, dtype=torch.float64)
    pseudo_gradients = torch.randn(n, d_out, dtype=torch.float64)
    step_size, log_lambda = torch.tensor([0.3, -0.4], dtype=torch.float64)
    return keys, pseudo_keys, pseudo_gradients, step_size, log_lambda


@pytest.mark.parametrize("n", [3, 7, 12])
def test_primal_is_dual_is_the_plain_inverse(n):
    keys, _, values, _, log_lambda = draw(n)
    system = keys.T @ keys + log_lambda.exp() * torch.eye(7, dtype=torch.float64)
    expected = torch.linalg.inv(system) @ keys.T @ values
    assert torch.allclose(primal(keys, values, log_lambda), expected, atol=1e-10)
    assert torch.allclose(dual(keys, values, log_lambda), expected, atol=1e-10)


def test_least_squares_token_by_token():
    keys, pseudo_keys, pseudo_gradients, step_size, log_lambda = draw(4)
    values = torch.stack(
        [-step_size * (keys[i] @ pseudo_keys[i]) * pseudo_gradients[i] for i in range(4)]
    )
    shift = least_squares(keys, pseudo_keys, pseudo_gradients, step_size, log_lambda)
    assert torch.allclose(shift, primal(keys, values, log_lambda), atol=1e-10)


def test_outer_product_is_a_sum_over_tokens():
    _, pseudo_keys, pseudo_gradients, step_size, _ = arguments = draw(4)
    tokens = zip(pseudo_keys, pseudo_gradients, strict=True)
    expected = -step_size * sum(torch.outer(k, g) for k, g in tokens)
    assert torch.allclose(outer_product(*arguments), expected, atol=1e-12)


@pytest.mark.parametrize("rule", [outer_product, least_squares])
@pytest.mark.parametrize("n", [3, 12])
def test_gradients_in_float64(rule, n):
    keys, *rest = draw(n)
    assert torch.autograd.gradcheck(
        lambda *tensors: rule(keys, *tensors), [tensor.requires_grad_() for tensor in rest]
    )


def test_kl_is_zero_for_the_same_logits_and_weighted_else():
    torch.manual_seed(0)
    logits, other = torch.randn(2, 3, 6)
    weights = torch.tensor([1.0, 0.5, 0.0])
    assert kl_divergence(logits, logits, weights).item() == pytest.approx(0, abs=1e-7)
    p, q = logits.softmax(-1), other.softmax(-1)
    by_hand = ((p * (p / q).log()).sum(-1) * weights).sum()
    assert torch.allclose(kl_divergence(logits, other, weights), by_hand, atol=1e-6)


def test_squared_norm():
    changes = [torch.full((2, 2), 3.0), torch.ones(1, 4)]
    assert squared_norm(changes).item() == 4 * 9 + 4


# --- what packages offer --------------------------------------------------------------------------

OFFERED = {
    "gone": ("no_such_module:METHOD", "cannot be loaded (ModuleNotFoundError"),
    "nothing": ("smedit.methods:METHOD", "cannot be loaded (AttributeError"),
    "other": ("baselines.mend:MEND", "is no Method whose name is 'other'; correct it"),
    "function": ("smedit.methods:load_method", "is no Method whose name is 'function'"),
}


@pytest.mark.parametrize("name", OFFERED)
def test_a_broken_method_is_named_with_what_to_do(name, monkeypatch):
    value, message = OFFERED[name]
    point = EntryPoint(name, value, "smedit.methods")
    monkeypatch.setattr(methods, "_installed", lambda: {name: point})
    with pytest.raises(UserError) as caught:
        methods.load_method.__wrapped__(name)
    assert message in str(caught.value) and value in str(caught.value)


def test_a_choice_that_a_method_does_not_have_is_refused():
    with pytest.raises(UserError, match="Mine: locality 'normm'; did you mean 'norm'"):
        methods.Method("Mine", "least_squares", 2, "normm")


def test_a_function_that_is_not_marked_is_no_shift_rule():
    with pytest.raises(UserError, match="is not marked with @shift_rule; mark it"):
        methods.rule_checksum("smedit.engine.locality:squared_norm")
