import re

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from check_architectures import BEGIN, DOCS, END, check
from conftest import ARCHITECTURES, make_model
from smedit.engine import self_test
from smedit.engine.batches import token_batch
from smedit.engine.execution import Execution
from smedit.engine.language_model import LanguageModel
from smedit.engine.self_test import WAYS, relative_difference
from smedit.engine.tokenization import TokenizedPrompt
from smedit.engine.tracing import trace
from smedit.errors import UserError
from tiny_models import MODEL_TYPES, build


def opened(model_type, **options):
    tiny = build(model_type)
    return LanguageModel(tiny.model, None, tiny.edit_modules, model_type, **options)


def rows(lengths=(3, 5, 9, 14), answers=(1, 2, 3, 2)):
    generator = torch.Generator().manual_seed(2)
    parts = []
    for n, a in zip(lengths, answers, strict=True):
        ids = torch.randint(12, 48, (n + a,), generator=generator).tolist()
        parts.append(TokenizedPrompt(tuple(ids[:-1]), tuple(ids[n:])))
    return token_batch(parts, 4)


def own_logits(model, batch):
    """The model's own, one row at a time."""
    with torch.no_grad():
        parts = [
            model.model(input_ids=torch.tensor([s.input_ids]), use_cache=False).logits[0]
            for s in batch.sequences
        ]
    return torch.cat([p[-len(s.answer_ids) :] for p, s in zip(parts, batch.sequences, strict=True)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_right_all_along_stays_on_the_fast_way(architecture):
    model = make_model(architecture)
    tested = LanguageModel(model.model, None, list(model.edit_modules)).tested
    assert (tested.way, tested.refused) == ("fast", {})
    assert tested.difference < 1e-5


@pytest.mark.parametrize(
    ("model_type", "way"),
    [
        ("opt", "fast"),  # its feed-forward layers see (tokens, width)
        ("qwen2_moe", "fast"),  # so do its shared experts
        ("qwen3_5_text", "without prompt cache"),  # recurrent states
        ("lfm2", "without prompt cache"),  # convolutions
        ("mamba", "without prompt cache"),  # no attention at all
        ("gemma4_text", "whole model"),  # keys and values shared between blocks
        ("bart", "equal lengths"),  # learned positions that start at the first column
        ("roberta", "equal lengths"),  # positions that start behind the padding id
        ("rwkv", "equal lengths"),  # no mask
        ("xlnet", "row by row"),  # its states are (tokens, rows, width)
    ],
)
def test_each_architecture_runs_in_the_fastest_way_that_is_right(model_type, way, caplog):
    model = opened(model_type)
    assert model.tested.way == way
    assert model.execution == WAYS[way].execution
    batch = rows()
    with torch.no_grad():
        found = torch.cat([model.logits(chunk, {}) for chunk in model.chunks(batch)])
    assert relative_difference(found, own_logits(model, batch)) < 1e-5
    traced = trace(model, batch, {})
    for name in model.edit_modules:
        assert traced.keys[name].shape == (8, model.shape(name)[0])
    said = f"{model_type}: this architecture does not allow the fast path" in caplog.text
    assert said == (way != "fast")


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("hrm_text", r"'.*down_proj' runs twice in a pass"),
        ("prophetnet", r"depends on later tokens .* is no causal language model"),
        ("cpmant", r"depends on later tokens .* is no causal language model"),
        ("reformer", r"a plain forward and backward pass of a few tokens fails"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line(model_type, message):
    with pytest.raises(UserError, match=message) as caught:
        opened(model_type)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_looks_ahead_is_refused():
    config = AutoConfig.for_model(
        "bert",
        **{"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "is_decoder": False},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64},
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    with pytest.raises(UserError, match="an encoder needs is_decoder: true"):
        LanguageModel(model, None, ["bert.encoder.layer.1.output.dense"], "bert")


class InPlace(nn.Module):
    """Goes on with a module's output in place, as some blocks do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, states):
        states = self.inner(states)
        states *= 0.5
        return states.add_(0.1)


def test_blocks_may_change_an_edit_modules_output_in_place():
    model = make_model("llama").model
    for layer in (2, 3):
        model.model.layers[layer].mlp = InPlace(model.model.layers[layer].mlp)
    names = [f"model.layers.{layer}.mlp.inner.down_proj" for layer in (2, 3)]
    assert LanguageModel(model, None, names).tested.way == "fast"


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_a_quantized_weight_is_refused_by_name(dtype):
    model = make_model("llama").model
    module = model.model.layers[3].mlp.down_proj
    module.weight = nn.Parameter(module.weight.data.to(dtype), requires_grad=False)
    with pytest.raises(UserError, match=r"layers.3.mlp.down_proj' .* quantized, packed"):
        LanguageModel(model, None, ["model.layers.3.mlp.down_proj"])


@pytest.mark.parametrize("edited", [(2, 3), (3,)])
def test_a_weight_that_stands_in_two_places_is_refused(edited):
    model = make_model("llama").model
    layers = model.model.layers
    layers[3].mlp.down_proj.weight = layers[2].mlp.down_proj.weight
    names = [f"model.layers.{i}.mlp.down_proj" for i in edited]
    with pytest.raises(UserError, match=r"shares its weight with 'model.layers.[23].mlp"):
        LanguageModel(model, None, names)


def test_a_weight_that_is_computed_is_refused():
    model = make_model("llama").model
    nn.utils.parametrizations.weight_norm(model.model.layers[3].mlp.down_proj)
    with pytest.raises(UserError, match=r"quantized, packed or computed \(Tensor"):
        LanguageModel(model, None, ["model.layers.3.mlp.down_proj"])


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_too_little_memory_is_no_reason_for_another_way(error, monkeypatch):
    def no_memory(*_):
        raise error("no memory")

    monkeypatch.setattr(self_test, "trace", no_memory)
    with pytest.raises(error):
        opened("llama")


def test_only_ways_that_float32_allows_are_tried_again():
    tiny = build("roformer")  # in bfloat16, rounding hides what is wrong with the fast way
    model = LanguageModel(tiny.model, None, tiny.edit_modules)
    assert model.tested.way == "equal lengths"
    again = LanguageModel(tiny.model.bfloat16(), None, tiny.edit_modules, fastest=model.tested.way)
    assert again.tested.way == "equal lengths"


def test_masked_logits_do_not_hide_a_difference():
    expected = torch.tensor([[1.0, 2.0, -1e9], [3.0, 4.0, -torch.inf]])
    found = expected.clone()
    assert relative_difference(found, expected) == 0
    found[0, 0] = 1.1
    assert relative_difference(found, expected) == pytest.approx(0.1, rel=1e-5)
    assert relative_difference(found, expected, of_median_token=True) == 0
    found[1, 0] = torch.nan
    assert relative_difference(found, expected) == torch.inf
    assert relative_difference(found[:1], expected) == torch.inf


def test_a_context_too_short_to_edit_is_named():
    model = make_model("gpt2").model
    model.config.n_positions = 4
    with pytest.raises(UserError, match="its context of 4 tokens is too short to edit"):
        LanguageModel(model, None, ["transformer.h.3.mlp.c_proj"])


class LastTokens(nn.Module):
    """Runs on some tokens only, as an expert of a mixture does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, states):
        return torch.cat([states[:, :1], self.inner(states[:, 1:])], dim=1)


def test_a_module_that_sees_some_tokens_only_is_refused():
    model = make_model("llama").model
    model.model.layers[3].mlp = LastTokens(model.model.layers[3].mlp)
    with pytest.raises(UserError, match=r"sees \d+ of \d+ tokens \(an expert of a mixture\?\)"):
        LanguageModel(model, None, ["model.layers.3.mlp.inner.down_proj"])


@pytest.mark.parametrize("broken", ["keys", "gradients"])
def test_a_wrong_trace_is_noticed(broken, monkeypatch):
    def wrong(model, batch, shifts):
        traced = trace(model, batch, shifts)
        for values in getattr(traced, broken).values():
            values[-1] *= 1.01
        return traced

    monkeypatch.setattr(self_test, "trace", wrong)
    with pytest.raises(UserError, match="no way to run it gives its own numbers"):
        opened("llama")


def test_a_wrong_shift_is_noticed(monkeypatch):
    right = LanguageModel.edited_weight
    monkeypatch.setattr(
        LanguageModel, "edited_weight", lambda self, name, shift: right(self, name, 1.01 * shift)
    )
    with pytest.raises(UserError, match="logits after a shift differ"):
        opened("llama")


def test_a_model_in_bfloat16_is_tried_with_what_rounding_allows():
    tiny = build("llama")
    model = LanguageModel(tiny.model.bfloat16(), None, tiny.edit_modules)
    assert model.tested.way == "fast"
    assert 1e-4 < model.tested.difference < 0.05


def test_a_given_execution_is_taken_untried():
    assert opened("bart", execution=Execution()).tested is None


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("llama", "max_position_embeddings"), ("mpt", "max_seq_len"), ("gemma3", "text_config")],
)
def test_the_context_has_many_names(model_type, name):
    model = opened(model_type)
    assert hasattr(model.model.config, name)
    assert model.context == 64


def test_the_table_in_the_docs_is_of_every_type_and_of_this_engine():
    table = DOCS.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows_of_table = dict(re.findall(r"(?m)^\| `([\w-]+)` \| ([\w ]+) \|", table))
    fast = re.findall(r"`([\w-]+)`", table.partition("**Fast**")[2].partition("\n")[0])
    listed = {**rows_of_table, **dict.fromkeys(fast, "fast")}
    assert set(listed) == set(MODEL_TYPES)
    for model_type in ("llama", "gemma3n_text", "falcon_h1", "xglm", "xlnet", "jetmoe"):
        assert check(model_type).runs == listed[model_type]
