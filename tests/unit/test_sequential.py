"""Training on a stream, editing one, fine-tuning, and the text that no edit touches."""

import dataclasses
import re
from math import nan

import pytest
import torch

from conftest import make_batches, make_editor, make_model, parameters
from smedit.data.worldfacts import load_facts
from smedit.engine.fine_tuning import FineTuner
from smedit.engine.held_out import HarmText, HeldOutText, paragraphs
from smedit.engine.losses import accumulate_edit_loss
from smedit.engine.sequential_training import (
    SequenceSettings,
    SequenceTrainer,
    looked_back_on,
    train_in_sequence,
)
from smedit.errors import DivergedError
from smedit.methods import load_method

IN_SEQUENCE = SequenceSettings(
    meta_lr=1e-3,
    loc_coef=0.6,
    reg_coef=0.1,
    reg_power=2,
    max_grad_norm=1e9,
    back_depth=3,
    time_decay=0.5,
)


def test_reg_coef_once_or_twice():
    model = make_model()
    batches = make_batches(model, 1)
    losses = []
    for coefficient, power in ((0.5, 2), (0.25, 1)):
        settings = dataclasses.replace(IN_SEQUENCE, reg_coef=coefficient, reg_power=power)
        (step,) = train_in_sequence(make_editor(model, steps=2), model, batches, 2, settings)
        losses.append(step.locality_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


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
    changes = []
    for passes in (1, 2):
        editor = make_editor(model, steps=2)
        start = parameters(editor)
        batches = make_batches(model, 3)
        steps = train_in_sequence(editor, model, batches, 2, IN_SEQUENCE, passes=passes)
        changes.append((parameters(editor) - start).abs().max().item())
    assert [(s.training_pass, s.batch) for s in steps] == [
        (p, t) for p in (1, 2) for t in (1, 2, 3)
    ]
    assert changes[0] == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is meta_lr long
    assert changes[1] > changes[0]


@pytest.mark.parametrize("method", ["SMEdit", "RLEdit"])
def test_a_fork_is_the_editor_trained_on_less(method):
    """And the training that it was forked from goes on as if nothing had happened."""
    model = make_model()
    batches = make_batches(model, 3)
    trainer = SequenceTrainer(make_editor(model, method, steps=2), model, 2, IN_SEQUENCE)
    for t in range(2):
        trainer.train_on(looked_back_on(batches, t, IN_SEQUENCE.back_depth))
    fork = trainer.forked()
    trainer.train_on(looked_back_on(batches, 2, IN_SEQUENCE.back_depth))
    trainer.end_pass()
    for n, trained in ((2, fork), (3, trainer.editor)):
        alone = make_editor(model, method, steps=2)
        train_in_sequence(alone, model, batches[:n], 2, IN_SEQUENCE)
        for ours, theirs in zip(
            trained.state_dict().values(), alone.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_divergence_in_training_names_pass_and_batch():
    model = make_model()
    editor = make_editor(model, steps=2)
    with torch.no_grad():
        next(iter(editor.hypernetworks[0].networks.values())).step_size.fill_(float("nan"))
    with pytest.raises(DivergedError, match="SMEdit, training pass 1, batch 1: non-finite"):
        train_in_sequence(editor, model, make_batches(model, 1), 2, IN_SEQUENCE)


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


def log_likelihoods(model, sequence, shifts):
    """Of the answer tokens' places, by a plain forward pass on the changed weights."""
    weights = {f"{n}.weight": model.edited_weight(n, s) for n, s in shifts.items()}
    inputs, n = torch.tensor([sequence.input_ids]), len(sequence.answer_ids)
    with torch.no_grad():
        logits = torch.func.functional_call(model.model, weights, inputs).logits[0, -n:]
    return logits.log_softmax(-1)


def test_losses_harm_and_drift_are_those_of_the_plain_model(short_text):
    model = make_model()
    edits = {n: 0.1 * torch.randn(model.shape(n)) for n in model.edit_modules}
    texts = [HeldOutText(model), HarmText(model, "tune"), HarmText(model, "eval")]
    for text in texts:
        for shifts in ({}, edits):
            measured = text.measure(shifts) if isinstance(text, HarmText) else text.losses(shifts)
            for found, sequence in zip(measured, text.sequences, strict=True):
                before, after = (log_likelihoods(model, sequence, s) for s in ({}, shifts))
                answers = torch.tensor(sequence.answer_ids)[:, None]
                loss = -after.gather(1, answers).sum().item()
                assert (found[0], found[-1]) == (pytest.approx(loss, rel=1e-4), len(answers))
                if isinstance(text, HarmText):
                    drift = (before.exp() * (before - after)).sum().item()
                    assert found[1] == pytest.approx(drift, rel=1e-3)
                    assert (found[1] > 0) == bool(shifts)


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
