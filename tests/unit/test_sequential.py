"""Training on a stream, editing one, fine-tuning, and the text that no edit touches."""

import dataclasses
import re
from math import nan

import pytest
import torch
from torch.nn.functional import cross_entropy

from conftest import make_model, make_requests
from smedit.data.worldfacts import load_facts
from smedit.engine.batches import edit_batch
from smedit.engine.editor import Editor, add_shifts
from smedit.engine.fine_tuning import FineTuner
from smedit.engine.held_out import HarmText, HeldOutText, paragraphs
from smedit.engine.locality import kl_divergence, squared_norm
from smedit.engine.losses import accumulate_edit_loss
from smedit.engine.sequential_training import (
    SequenceSettings,
    SequenceTrainer,
    looked_back_on,
    train_in_sequence,
)
from smedit.engine.shift_rules import standardized_least_squares
from smedit.engine.tracing import answer_loss, trace
from smedit.errors import DivergedError
from smedit.methods import load_method

SETTINGS = SequenceSettings(
    meta_lr=1e-3,
    loc_coef=0.6,
    reg_coef=0.1,
    reg_power=2,
    max_grad_norm=1e9,
    back_depth=3,
    time_decay=0.5,
)


def make_editor(model, method="SMEdit", steps=2, **changes):
    method = load_method(method)
    if method.n_blocks:
        method = dataclasses.replace(method, rank=6, n_blocks=2, **changes)
    shapes = {n: model.shape(n) for n in model.edit_modules}
    return Editor(method, shapes, lr=0.01, seed=0, n_networks=steps)


def make_batches(model, n_batches, n=4):
    return [
        edit_batch(make_requests(n, start=n * i), model.tokenizer, minibatch=4)
        for i in range(n_batches)
    ]


def gradients(editor):
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in editor.parameters()]
    )


def whole_loss(model, batch, shifts, reference):
    (chunk,) = model.chunks(batch.paraphrase)
    loss = answer_loss(model.logits(chunk, shifts), chunk.labels, chunk.weights)
    if reference is None:
        return loss
    (chunk,) = model.chunks(batch.locality)
    with torch.no_grad():
        before = model.logits(chunk, reference)
    return loss + 0.6 * kl_divergence(before, model.logits(chunk, shifts), chunk.weights)


@pytest.mark.parametrize("method", ["SMEdit", "RLEdit"])
def test_the_accumulated_gradient_is_that_of_one_graph_per_batch(method):
    """Two batches of two steps; each batch's trace and weights before it are constants."""
    model = make_model()
    batches = make_batches(model, 2)
    editor = make_editor(model, method)
    depth = 1 if method == "SMEdit" else SETTINGS.back_depth
    settings = dataclasses.replace(SETTINGS, meta_lr=0.0, back_depth=depth)
    train_in_sequence(editor, model, batches, 2, settings)

    whole = make_editor(model, method)
    total, loss = {}, 0.0
    for t, batch in enumerate(batches):
        first = whole.predict(trace(model, batch.edit, total), 1)
        middle = add_shifts(total, {n: s.detach() for n, s in first.items()})
        second = whole.predict(trace(model, batch.edit, middle), 2)
        shifts = add_shifts(add_shifts(total, first), second)
        if method == "SMEdit":
            loss += whole_loss(model, batch, shifts, None) + 0.1**2 * squared_norm(shifts.values())
        else:
            for age, old in enumerate(reversed(batches[: t + 1])):
                loss += 0.5**age * whole_loss(model, old, shifts, middle)
        total = {n: s.detach() for n, s in shifts.items()}
    loss.backward()
    expected = gradients(whole)
    assert expected.norm() > 0
    ours = gradients(editor)
    assert torch.allclose(ours, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


def test_reg_coef_once_or_twice():
    model = make_model()
    batches = make_batches(model, 1)
    losses = []
    for coefficient, power in ((0.5, 2), (0.25, 1)):
        settings = dataclasses.replace(SETTINGS, reg_coef=coefficient, reg_power=power)
        (step,) = train_in_sequence(make_editor(model), model, batches, 2, settings)
        losses.append(step.locality_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("method", ["SMEdit", "RLEdit"])
def test_without_a_locality_loss_the_edit_loss_trains_alone(method):
    """As the norm with weight 0 does, also in a method that looks back and has KL by default."""
    model = make_model()
    trained = []
    for locality, coefficient in (("none", 0.5), ("norm", 0.0), ("norm", 0.5)):
        editor = make_editor(model, method, locality=locality)
        settings = dataclasses.replace(SETTINGS, reg_coef=coefficient)
        steps = train_in_sequence(editor, model, make_batches(model, 3), 2, settings)
        trained.append((gradients(editor), [step.locality_loss for step in steps]))
    (none, losses), (weightless, _), (weighted, _) = trained
    assert losses == [0.0] * 3
    assert torch.equal(none, weightless)
    assert not torch.equal(none, weighted)


def test_every_step_has_its_own_network_and_rank():
    editor = make_editor(make_model(), steps=3)
    ranks = [
        block.A.shape[1]
        for hypernetwork in editor.hypernetworks
        for block in next(iter(hypernetwork.networks.values())).blocks
    ]
    assert ranks == [6, 6, 3, 3, 2, 2]
    first, second = (
        next(iter(h.networks.values())).blocks[0].A for h in list(editor.hypernetworks)[:2]
    )
    assert not torch.equal(first[:, :3], second)


def test_each_pass_ends_with_one_update():
    model = make_model()
    editor = make_editor(model)
    steps = train_in_sequence(editor, model, make_batches(model, 3), 2, SETTINGS, passes=2)
    assert [(s.training_pass, s.batch) for s in steps] == [
        (p, t) for p in (1, 2) for t in (1, 2, 3)
    ]
    untouched = make_editor(model)
    once = make_editor(model)
    train_in_sequence(once, model, make_batches(model, 3), 2, SETTINGS)
    step = [
        (a - b).abs().max().item()
        for a, b in zip(once.parameters(), untouched.parameters(), strict=True)
    ]
    assert max(step) == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is meta_lr long


@pytest.mark.parametrize("method", ["SMEdit", "RLEdit"])
def test_a_fork_is_the_editor_trained_on_less(method):
    """And the training that it was forked from goes on as if nothing had happened."""
    model = make_model()
    batches = make_batches(model, 3)
    trainer = SequenceTrainer(make_editor(model, method), model, 2, SETTINGS)
    for t in range(2):
        trainer.train_on(looked_back_on(batches, t, SETTINGS.back_depth))
    fork = trainer.forked()
    trainer.train_on(looked_back_on(batches, 2, SETTINGS.back_depth))
    trainer.end_pass()
    for n, trained in ((2, fork), (3, trainer.editor)):
        alone = make_editor(model, method)
        train_in_sequence(alone, model, batches[:n], 2, SETTINGS)
        for ours, theirs in zip(
            trained.state_dict().values(), alone.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_divergence_in_training_names_pass_and_batch():
    model = make_model()
    editor = make_editor(model)
    with torch.no_grad():
        next(iter(editor.hypernetworks[0].networks.values())).step_size.fill_(float("nan"))
    with pytest.raises(DivergedError, match="SMEdit, training pass 1, batch 1: non-finite"):
        train_in_sequence(editor, model, make_batches(model, 1), 2, SETTINGS)


@pytest.mark.parametrize(("n", "d_in"), [(5, 9), (9, 5)])
def test_ultraedit_rule_is_its_formula(n, d_in):
    torch.manual_seed(0)
    keys, pseudo = torch.randn(2, n, d_in, dtype=torch.float64)
    gradients = torch.randn(n, 4, dtype=torch.float64)
    eta, log_lambda = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.0).double()
    shift = standardized_least_squares(keys, pseudo, gradients, eta, log_lambda)
    values = -0.3 * pseudo.square().sum(1, keepdim=True) * gradients
    expected = torch.linalg.solve(keys.T @ keys + torch.eye(d_in).double(), keys.T @ values)
    assert torch.allclose(shift, expected, atol=1e-9)


# --- fine-tuning ----------------------------------------------------------------------------------


def test_fine_tuning_lowers_the_loss_within_its_bound():
    model = make_model()
    (batch,) = make_batches(model, 1)
    tuner = FineTuner(load_method("FT-L"), lr=0.01, bound=0.05)
    *_, shifts = tuner.edit(model, batch.edit, 25)
    (name,) = shifts
    assert name == next(iter(model.edit_modules))
    assert shifts[name].abs().max() <= 0.05

    def loss(shifts):
        shifts = {n: s.clone().requires_grad_() for n, s in shifts.items()}
        return accumulate_edit_loss(model, batch.edit, shifts)

    assert loss(shifts) < loss({name: torch.zeros_like(shifts[name])})
    *_, more = tuner.edit(model, batch.edit, 25, start=shifts)
    assert more[name].abs().max() <= 0.05  # around W₀, not around where it starts
    assert not torch.equal(more[name], shifts[name])


def test_fine_tuning_ends_when_the_loss_is_low(monkeypatch):
    monkeypatch.setattr("smedit.engine.fine_tuning.ENOUGH", 1e9)
    model = make_model()
    (batch,) = make_batches(model, 1)
    (shifts,) = FineTuner(load_method("FT-L"), lr=0.01, bound=1).edit(model, batch.edit, 3)
    assert not any(shift.any() for shift in shifts.values())


@pytest.mark.parametrize(("loss", "gradient", "what"), [(nan, 0, "loss"), (1, nan, "change")])
def test_fine_tuning_that_diverges_says_so(monkeypatch, loss, gradient, what):
    def accumulate(_model, _batch, shifts):
        for shift in shifts.values():
            shift.grad = torch.full_like(shift, gradient)
        return loss

    monkeypatch.setattr("smedit.engine.fine_tuning.accumulate_edit_loss", accumulate)
    model = make_model()
    (batch,) = make_batches(model, 1)
    tuner = FineTuner(load_method("FT-L"), lr=0.01, bound=1)
    with pytest.raises(
        DivergedError, match=f"FT-L, by step 1: non-finite {what}; try a smaller lr"
    ):
        list(tuner.edit(model, batch.edit, 1))


# --- the text that no edit touches ----------------------------------------------------------------


def test_held_out_losses_are_those_of_the_plain_model(short_text):
    model = make_model()
    text = HeldOutText(model)
    shifts = {n: 0.1 * torch.randn(model.shape(n)) for n in model.edit_modules}
    for losses, edited in ((text.losses({}), {}), (text.losses(shifts), shifts)):
        weights = {f"{n}.weight": model.edited_weight(n, s) for n, s in edited.items()}
        for (loss, n), sequence in zip(losses, text.sequences, strict=True):
            inputs = torch.tensor([sequence.input_ids])
            logits = torch.func.functional_call(model.model, weights, inputs).logits[0, -n:]
            expected = cross_entropy(logits, torch.tensor(sequence.answer_ids), reduction="sum")
            assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_harm_and_drift_are_those_of_the_plain_model(short_text):
    model = make_model()
    shifts = {n: 0.1 * torch.randn(model.shape(n)) for n in model.edit_modules}
    weights = {f"{n}.weight": model.edited_weight(n, s) for n, s in shifts.items()}
    for part in ("tune", "eval"):
        text = HarmText(model, part)
        (sequence,) = text.sequences
        inputs, n = torch.tensor([sequence.input_ids]), len(sequence.answer_ids)
        with torch.no_grad():
            before = model.model(inputs).logits[0, -n:].log_softmax(-1)
            after = torch.func.functional_call(model.model, weights, inputs).logits[0, -n:]
        after = after.log_softmax(-1)
        answers = torch.tensor(sequence.answer_ids)[:, None]
        ((loss, drift, count),) = text.measure(shifts)
        assert count == n
        assert loss == pytest.approx(-after.gather(1, answers).sum().item(), rel=1e-4)
        assert drift == pytest.approx((before.exp() * (before - after)).sum().item(), rel=1e-3)
        ((loss, drift, _),) = text.measure({})
        assert drift == 0
        assert loss == pytest.approx(-before.gather(1, answers).sum().item(), rel=1e-4)


def test_what_chooses_and_what_is_reported_see_different_paragraphs():
    words = [{line for line, _ in paragraphs(2)[start::2]} for start in (0, 1)]
    assert [len(part) for part in words] == [20, 20]
    assert not words[0] & words[1]


def test_the_text_holds_no_edited_fact():
    text = " ".join(line for paragraph in paragraphs() for line in paragraph)
    assert len(paragraphs()) == 40
    assert not re.search(r"\d", text)
    for fact in load_facts():
        assert not re.search(rf"\b{re.escape(fact.subject)}\b", text), fact
