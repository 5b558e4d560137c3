import dataclasses

import pytest
import torch

from conftest import ARCHITECTURES, make_model, make_requests
from smedit.data.facts import Prompt
from smedit.engine.batches import edit_batch, token_batch, tokenize
from smedit.engine.execution import Execution, plain
from smedit.engine.frozen_states import FrozenStates
from smedit.engine.tracing import answer_loss, trace
from smedit.errors import UserError


def full_forward(model, sequence):
    """Logits at the answer tokens by the model's plain forward pass of one sequence."""
    logits = model.model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
    return logits[-len(sequence.answer_ids) :]


def edit_tokens(model, n=6):
    return edit_batch(make_requests(n), model.tokenizer, minibatch=4).edit


EXECUTIONS = [
    Execution(),
    Execution(answers_only=False),
    Execution(frozen_once=False),
    plain(minibatch=6),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layers", [(2, 3), (0, 3), (3,)])
def test_every_execution_gives_the_full_forward_and_differentiates_alike(architecture, layers):
    model = make_model(architecture, layers)
    batch = edit_tokens(model)
    full = torch.cat([full_forward(model, s) for s in batch.sequences])
    torch.manual_seed(1)
    shifts = {name: 0.1 * torch.randn(model.shape(name)) for name in model.edit_modules}
    found = []
    for execution in EXECUTIONS:
        model.execution, model.states = execution, FrozenStates(model.owner)
        (chunk,) = model.chunks(batch)
        with torch.no_grad():
            assert torch.allclose(model.logits(chunk, {}), full, atol=1e-4, rtol=1e-4)
            assert torch.allclose(model.unedited_logits(chunk), full, atol=1e-4, rtol=1e-4)
        traced = trace(model, batch, shifts)
        leaves = {name: shift.clone().requires_grad_() for name, shift in shifts.items()}
        answer_loss(model.logits(chunk, leaves), chunk.labels, chunk.weights).backward()
        gradients = [leaf.grad for leaf in leaves.values()]
        found.append([*traced.keys.values(), *traced.gradients.values(), *gradients])
    for other in found[:-1]:
        for tensor, expected in zip(other, found[-1], strict=True):
            assert expected.norm() > 0
            assert torch.allclose(tensor, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


def test_prompts_of_one_token_and_answers_of_many():
    model = make_model()
    prompts = [("w1", "w2 w3 w4"), ("w5 w6 w7 w8 w9", "w1"), ("w2", "w3")]
    sequences = [tokenize(model.tokenizer, *prompt) for prompt in prompts]
    batch = token_batch(sequences, minibatch=3)
    (chunk,) = model.chunks(batch)
    expected = torch.cat([full_forward(model, s) for s in batch.sequences])
    with torch.no_grad():
        assert torch.allclose(model.logits(chunk, {}), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shift_is_the_weight_change(architecture):
    model = make_model(architecture)
    batch = edit_tokens(model)
    torch.manual_seed(1)
    shifts = {name: torch.randn(model.shape(name)) for name in model.edit_modules}
    (chunk,) = model.chunks(batch)
    with torch.no_grad():
        before = model.logits(chunk, {})
        shifted = model.logits(chunk, shifts)
        assert torch.equal(model.logits(chunk, {}), before)  # nothing was changed in place
        for name, module in model.edit_modules.items():
            module.weight.copy_(model.edited_weight(name, shifts[name]))
        expected = torch.cat([full_forward(model, s) for s in batch.sequences])
    assert not torch.allclose(shifted, before, atol=1e-2)
    assert torch.allclose(shifted, expected, atol=1e-4, rtol=1e-4)


def test_states_are_the_same_from_a_file(tmp_path):
    model = make_model()
    batch = edit_tokens(model)
    model.freeze(batch.sequences)
    model.states.save(tmp_path / "states.safetensors")
    opened = FrozenStates.open(tmp_path / "states.safetensors", model.owner)
    assert len(opened) == len(model.states) > 0
    for sequence in batch.sequences:
        assert torch.equal(opened[sequence].entering, model.states[sequence].entering)
        assert torch.equal(opened[sequence].final, model.states[sequence].final)
    model.states = opened
    assert model.freeze(batch.sequences) == 0


def test_states_of_another_model_are_refused(tmp_path):
    model = make_model()
    model.freeze(edit_tokens(model).sequences)
    path = tmp_path / "states.safetensors"
    model.states.save(path)
    with pytest.raises(UserError, match=r"states.safetensors: made for another model"):
        FrozenStates.open(path, "another")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("model.layers.9.mlp.down_proj", "has no such module"),
        ("model.layers.1.mlp", "is a LlamaMLP, not Linear or Conv1D"),
        ("lm_head", "lies outside the blocks"),
    ],
)
def test_wrong_edit_modules(module, message):
    from smedit.engine.language_model import LanguageModel

    model = make_model()
    with pytest.raises(UserError, match=message):
        LanguageModel(model.model, model.tokenizer, [module])


def test_a_prompt_longer_than_the_context_is_an_error():
    model = make_model("gpt2")
    prompt = Prompt(" ".join(["w1"] * 65), "w2", None)
    requests = [dataclasses.replace(make_requests(1)[0], edit=prompt)]
    batch = edit_batch(requests, model.tokenizer, minibatch=1)
    with pytest.raises(UserError, match=r"has 65 tokens, more than the model's context of 64;"):
        trace(model, batch.edit, {})
