"""Editing and meta-training, beside the numbers that tests/conformance compares."""

import dataclasses

import pytest
import torch
from test_sequential import IN_SEQUENCE

from conftest import make_batches, make_editor, make_model, make_requests, parameters
from smedit.engine.batches import edit_batch
from smedit.engine.editor import part_of
from smedit.engine.execution import Execution, plain
from smedit.engine.language_model import LanguageModel
from smedit.engine.meta_training import TrainingSettings, meta_train
from smedit.engine.sequential_training import train_in_sequence
from smedit.errors import UserError

SETTINGS = TrainingSettings(
    meta_lr=1e-3,
    loc_coef=0.6,
    reg_coef=0.01,
    max_grad_norm=1.0,
    adam_repeats=1,
    train_from="original",
)


@pytest.mark.parametrize(
    ("method", "train", "settings"),
    [
        ("SMEdit", meta_train, SETTINGS),
        ("SMEdit", train_in_sequence, IN_SEQUENCE),
        ("RLEdit", train_in_sequence, IN_SEQUENCE),  # which looks back and has KL by default
    ],
)
def test_without_a_locality_loss_the_edit_loss_trains_alone(method, train, settings):
    """As the norm with weight 0 does; with its own weight, the norm trains something else."""
    model = make_model()
    trained = []
    for locality, coefficient in (("none", 0.5), ("norm", 0.0), ("norm", 0.5)):
        editor = make_editor(model, method, steps=2, locality=locality)
        weighted = dataclasses.replace(settings, reg_coef=coefficient)
        steps = train(editor, model, make_batches(model), 2, weighted)
        gradients = [p.grad for p in editor.parameters() if p.grad is not None]
        trained.append((gradients, {step.locality_loss for step in steps}))
    (none, losses), (weightless, _), (weighted, _) = trained
    assert losses == {0.0}
    assert none and all(map(torch.equal, none, weightless))
    assert not all(map(torch.equal, none, weighted))


@pytest.mark.parametrize("method", ["MALMEN", "SMEdit"])
@pytest.mark.parametrize("execution", [Execution(max_tokens=8), Execution(max_rows=2), plain(4)])
def test_execution_does_not_change_what_is_trained(method, execution):
    results = []
    for how in (Execution(), execution):
        model = make_model()
        model.execution = how
        editor = make_editor(model, method)
        meta_train(editor, model, make_batches(model), 2, SETTINGS)
        results.append(parameters(editor))
    assert torch.allclose(*results, atol=1e-4)


def test_train_from_current_differs_from_the_second_step_on():
    model = make_model()
    trained = {}
    for start in ("original", "current"):
        settings = dataclasses.replace(SETTINGS, train_from=start)
        trained[start] = meta_train(make_editor(model), model, make_batches(model), 2, settings)
    original, current = trained["original"], trained["current"]
    assert current[0].shift_norms == original[0].shift_norms
    assert current[0].edit_loss == original[0].edit_loss
    assert current[1].edit_loss != pytest.approx(original[1].edit_loss, rel=1e-3)
    assert current[1].locality_loss > original[1].locality_loss  # the change adds up


def test_modules_of_two_shapes_and_conv1d_at_once():
    plain = make_model("gpt2")
    names = ["transformer.h.1.mlp.c_fc", "transformer.h.2.mlp.c_proj", "transformer.h.3.mlp.c_fc"]
    model = LanguageModel(plain.model, plain.tokenizer, names)
    editor = make_editor(model)
    assert set(editor.hypernetworks[0].networks) == {"16x64", "64x16"}
    meta_train(editor, model, make_batches(model), 2, SETTINGS)
    (total,) = make_editor(model).edit(model, make_batches(model)[0].edit, 1)
    assert {n: tuple(s.shape) for n, s in total.items()} == {n: model.shape(n) for n in names}


@pytest.mark.parametrize("method", ["MEND", "MALMEN", "SMEdit"])
def test_bfloat16_weights_with_a_float32_hypernetwork(method):
    exact, rounded = make_model(), make_model(dtype=torch.bfloat16)
    losses, norms = [], []
    for model in (exact, rounded):
        editor = make_editor(model, method, lr=1e-3)
        steps = meta_train(editor, model, make_batches(model), 2, SETTINGS)
        assert all(p.dtype == torch.float32 for p in editor.parameters())
        *_, total = editor.edit(model, make_batches(model)[0].edit, 2)
        assert all(shift.dtype == torch.float32 for shift in total.values())
        losses.append([step.edit_loss for step in steps])
        norms.append([value for step in steps for value in step.shift_norms.values()])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert norms[1] == pytest.approx(norms[0], rel=0.1, abs=1e-3)


def test_a_non_finite_step_names_method_batch_and_step():
    model = make_model()
    editor = make_editor(model, lr=float("inf"))
    with pytest.raises(UserError, match=r"SMEdit, training batch 1, step 1: non-finite shift of"):
        meta_train(editor, model, make_batches(model), 1, SETTINGS)
    editor = make_editor(model, lr=float("nan"))
    with pytest.raises(UserError, match=r"SMEdit, editing, step 1: non-finite shift"):
        next(editor.edit(model, make_batches(model)[0].edit, 1))
    settings = dataclasses.replace(SETTINGS, reg_coef=float("inf"))
    with pytest.raises(UserError, match=r"batch 1, step 1: non-finite locality loss"):
        meta_train(make_editor(model), model, make_batches(model), 1, settings)


def test_kl_needs_a_locality_prompt_in_every_batch_and_the_norm_needs_none():
    model = make_model()
    bare = [dataclasses.replace(r, locality=()) for r in make_requests(4)]
    batches = [*make_batches(model, 1), edit_batch(bare, model.tokenizer, minibatch=4)]
    (_, step) = meta_train(make_editor(model), model, batches, 1, SETTINGS)
    assert step.locality_loss > 0
    message = r"^training batch 2: no row has a locality prompt, which the KL loss needs; use larg"
    with pytest.raises(UserError, match=message):
        meta_train(make_editor(model, "MEND"), model, batches, 1, SETTINGS)


@pytest.mark.parametrize("part", ["step_size", "ridge", "blocks"])
def test_only_the_parts_that_are_to_be_trained_change(part):
    model = make_model("llama")
    editor, before = make_editor(model), make_editor(model).state_dict()
    editor.train_only({part})
    meta_train(editor, model, make_batches(model), 2, SETTINGS)
    changed = {part_of(n) for n, v in editor.state_dict().items() if not v.equal(before[n])}
    assert changed == {part, "normalizer"}  # which has no gradient and always learns


def test_parts_of_an_untrained_editor_can_take_their_places():
    model = make_model("llama")
    editor, untrained = make_editor(model), make_editor(model)
    meta_train(editor, model, make_batches(model), 2, SETTINGS)
    mixed = editor.with_parts_of(untrained, {"blocks", "normalizer"}).state_dict()
    for name, value in mixed.items():
        source = untrained if part_of(name) in {"blocks", "normalizer"} else editor
        assert value.equal(source.state_dict()[name]), name
