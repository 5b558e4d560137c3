"""Editing and meta-training: the properties that make them exact."""

import dataclasses

import pytest
import torch

from conftest import make_model, make_requests
from smedit.engine.batches import edit_batch
from smedit.engine.editor import Editor, part_of
from smedit.engine.execution import Execution, plain
from smedit.engine.locality import kl_divergence, squared_norm
from smedit.engine.meta_training import TrainingSettings, meta_train
from smedit.engine.tracing import answer_loss, trace
from smedit.errors import UserError
from smedit.methods import load_method

SETTINGS = TrainingSettings(
    meta_lr=1e-3,
    loc_coef=0.6,
    reg_coef=0.01,
    max_grad_norm=1.0,
    adam_repeats=1,
    train_from="original",
)


def make_editor(model, method="SMEdit", lr=0.01, **changes):
    method = dataclasses.replace(load_method(method), rank=6, n_blocks=2, **changes)
    return Editor(method, {n: model.shape(n) for n in model.edit_modules}, lr=lr, seed=0)


def make_batches(model, n_batches=2, n=6):
    return [
        edit_batch(make_requests(n, start=n * i), model.tokenizer, minibatch=4)
        for i in range(n_batches)
    ]


def parameters(editor):
    return torch.cat([p.detach().flatten() for p in editor.parameters()])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_keys_and_value_gradients_are_those_of_autograd(architecture):
    """Against a zero that is added to each module's output in the model's plain forward pass."""
    model = make_model(architecture)
    batch = make_batches(model, 1)[0].edit
    traced = trace(model, batch, {})
    done = 0
    for sequence in batch.sequences:
        n, added, keys, hooks = len(sequence.answer_ids), {}, {}, []
        for name, module in model.edit_modules.items():

            def add_zero(_, args, output, name=name, added=added, keys=keys):
                added[name] = torch.zeros_like(output, requires_grad=True)
                keys[name] = args[0]
                return output + added[name]

            hooks.append(module.register_forward_hook(add_zero))
        logits = model.model(input_ids=torch.tensor([sequence.input_ids])).logits[0, -n:]
        weights = batch.weights[done : done + n]
        loss = answer_loss(logits, torch.tensor(sequence.answer_ids), weights)
        gradients = torch.autograd.grad(loss, list(added.values()))
        for name, gradient in zip(added, gradients, strict=True):
            ours = slice(done, done + n)
            assert torch.allclose(traced.gradients[name][ours], gradient[0, -n:], atol=1e-5)
            assert torch.allclose(traced.keys[name][ours], keys[name][0, -n:], atol=1e-4)
        for hook in hooks:
            hook.remove()
        done += n
    assert done == len(batch.weights)


@pytest.mark.parametrize("method", ["MEND", "MALMEN", "SMEdit"])
def test_two_halves_are_the_gradient_of_one_graph(method):
    model = make_model()
    (batch,) = make_batches(model, 1)
    editor = make_editor(model, method)
    settings = dataclasses.replace(SETTINGS, max_grad_norm=1e9)
    (step,) = meta_train(editor, model, [batch], 1, settings)
    halves = torch.cat(
        [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in editor.parameters()
        ]
    )

    whole = make_editor(model, method)
    shifts = whole.predict(trace(model, batch.edit, {}), 1)
    (chunk,) = model.chunks(batch.paraphrase)
    loss = answer_loss(model.logits(chunk, shifts), chunk.labels, chunk.weights)
    if whole.method.locality == "kl":
        (chunk,) = model.chunks(batch.locality)
        edited, reference = model.logits(chunk, shifts), model.unedited_logits(chunk)
        loss = loss + 0.6 * kl_divergence(reference, edited, chunk.weights)
    else:
        loss = loss + 0.01 * squared_norm(shifts.values())
    gradients = torch.autograd.grad(
        loss, list(whole.parameters()), allow_unused=True, materialize_grads=True
    )
    expected = torch.cat([g.flatten() for g in gradients])
    assert expected.norm() > 0
    assert torch.allclose(halves, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    assert step.gradient_norm == pytest.approx(expected.norm().item(), rel=1e-4)
    assert step.edit_loss + step.locality_loss == pytest.approx(loss.item(), rel=1e-4)


def test_without_a_locality_loss_the_edit_loss_trains_alone():
    """As the norm with weight 0 does; with its own weight, the norm trains something else."""
    model = make_model()
    trained = []
    for locality, coefficient in (("none", 0.5), ("norm", 0.0), ("norm", 0.5)):
        editor = make_editor(model, locality=locality)
        settings = dataclasses.replace(SETTINGS, reg_coef=coefficient)
        steps = meta_train(editor, model, make_batches(model), 2, settings)
        trained.append((parameters(editor), [step.locality_loss for step in steps]))
    (none, losses), (weightless, _), (weighted, _) = trained
    assert losses == [0.0] * 4
    assert torch.equal(none, weightless)
    assert not torch.equal(none, weighted)


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


def test_each_step_of_mbps_traces_on_the_weights_as_they_stand():
    model = make_model()
    batch = make_batches(model, 1)[0].edit
    first, second = make_editor(model).edit(model, batch, 2)
    editor = make_editor(model)
    by_hand = editor.predict(trace(model, batch, {}), 1)
    for name in first:
        assert torch.equal(first[name], by_hand[name])
    by_hand = editor.predict(trace(model, batch, first), 2)
    for name in second:
        assert torch.allclose(second[name], first[name] + by_hand[name], atol=1e-6)
        assert not torch.allclose(second[name], first[name], atol=1e-4)


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


def test_adam_repeats_applies_a_gradient_several_times():
    model = make_model()
    changes = []
    for repeats in (1, 2):
        editor = make_editor(model)
        start = parameters(editor)
        settings = dataclasses.replace(SETTINGS, adam_repeats=repeats)
        meta_train(editor, model, make_batches(model, 1), 1, settings)
        changes.append(parameters(editor) - start)
    # Adam's first steps with one and the same gradient are of the same length.
    assert torch.allclose(changes[1], 2 * changes[0], atol=1e-5)


def test_same_seed_same_numbers():
    model = make_model()
    trained = []
    for _ in range(2):
        editor = make_editor(model)
        meta_train(editor, model, make_batches(model), 2, SETTINGS)
        trained.append(parameters(editor))
    assert torch.equal(*trained)


def test_modules_of_two_shapes_and_conv1d_at_once():
    from smedit.engine.language_model import LanguageModel

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
