"""Ranges of modules, and what is said of one that does not exist."""

import pytest

from smedit.models.module_names import expand_modules, problem_of

KNOWN = [f"model.layers.{i}.mlp.{part}_proj" for i in range(30) for part in ("up", "down")]
KNOWN += ["lm_head", *[f"model.layers.{i}.moe.gate" for i in (1, 3)]]


def test_ranges():
    assert expand_modules(["h.{2..4}.fc", "x"]) == ["h.2.fc", "h.3.fc", "h.4.fc", "x"]
    assert expand_modules(["h.{10..14..2}.fc"]) == ["h.10.fc", "h.12.fc", "h.14.fc"]


@pytest.mark.parametrize(
    "pattern", ["lm_head", "model.layers.{24..29}.mlp.up_proj", "model.layers.{1..3..2}.moe.gate"]
)
def test_what_exists_has_no_problem(pattern):
    assert problem_of(pattern, KNOWN) == ""


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("model.layers.{24..29}.mlp.down_prj", "; did you mean 'model.layers.{24..29}.mlp.down_p"),
        ("model.layers.{0..8..2}.mlp.u_proj", "; did you mean 'model.layers.{0..8..2}.mlp.up_proj"),
        ("model.layers.7.mlp.down", "; did you mean 'model.layers.7.mlp.down_proj'?"),
        ("model.layers.{24..40}.mlp.down", "; did you mean 'model.layers.{0..29}.mlp.down_proj'?"),
        ("model.layers.{24..40}.mlp.up_proj", " (there is 'model.layers.{0..29}.mlp.up_proj')"),
        ("model.layers.30.mlp.up_proj", " (there is 'model.layers.{0..29}.mlp.up_proj')"),
        ("model.layers.{1..3}.moe.gate", " (there is 'model.layers.{1..3..2}.moe.gate')"),
        ("model.layers.mlp.up_proj", "; did you mean 'model.layers.{0..29}.mlp.up_proj'?"),
        ("lm_heads", "; did you mean 'lm_head'?"),
        ("model.layers.{24,25}.mlp.up_proj", "; did you mean 'model.layers.{0..29}.mlp.up_proj'?"),
    ],
)
def test_a_wrong_one_is_named_once_with_the_nearest(pattern, hint):
    assert problem_of(pattern, KNOWN).startswith(f"{pattern!r}{hint}")
