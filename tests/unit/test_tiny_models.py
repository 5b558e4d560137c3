import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tiny_models import MAX_BYTES, MODEL_TYPES, CannotBuildError, build

PROJECTION_OF = {
    "llama": "mlp.down_proj",
    "gpt2": "mlp.c_proj",
    "opt": "fc2",
    "bert": "output.dense",
    "bart": "fc2",
    "qwen2_moe": "shared_expert.down_proj",
    "gemma3_text": "mlp.down_proj",
    "qwen3_5_text": "mlp.down_proj",
    "mamba": "mixer.out_proj",  # blocks without a feed-forward part
    "mixtral": "self_attn.o_proj",  # its experts are stacked in one tensor
    "zamba2": "mamba.out_proj",  # its feed-forward parts share one weight
}
TOKEN_IDS = torch.tensor([[5, 17, 80, 33, 2, 61, 9, 44, 23, 70]])


@pytest.mark.parametrize("model_type", PROJECTION_OF)
def test_a_tiny_model_runs_and_its_edits_count(model_type):
    tiny = build(model_type)
    model, modules = tiny.model, dict(tiny.model.named_modules())

    def logits():
        return model(input_ids=TOKEN_IDS, use_cache=False).logits

    before = logits()
    assert before.isfinite().all()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert sum(p.nbytes for p in model.parameters()) < MAX_BYTES
    assert len(set(tiny.edit_modules)) == 2
    for name in tiny.edit_modules:
        assert name.endswith(PROJECTION_OF[model_type])
        assert isinstance(modules[name], nn.Linear | Conv1D)
        weight = modules[name].weight
        original = weight.clone()
        weight.copy_(original.flip(0))
        assert (logits() - before).abs().max() > 1e-2
        weight.copy_(original)


def test_both_kinds_of_blocks_are_there():
    assert build("qwen3_5_text").model.config.layer_types == [
        *["linear_attention", "full_attention"] * 2
    ]
    assert set(build("gemma3_text").model.config.layer_types) == {
        "sliding_attention",
        "full_attention",
    }


def test_a_type_gives_the_same_weights_at_every_call_and_leaves_the_generator():
    state = torch.get_rng_state()
    first, second = (build("gpt2").model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("gemma4_assistant", "keys and values of another model"), ("jetmoe", "Linear")],
)
def test_a_class_that_cannot_says_why(model_type, reason):
    assert model_type in MODEL_TYPES
    with pytest.raises(CannotBuildError, match=reason):
        build(model_type)
