"""Training and editing, in batches and in sequence, against the authors' released code.

UltraEdit has nothing to train: its cases hold shifts, weight change and the released scores.
"""

from functools import cache

import pytest
import torch
from released import Released, cases

from smedit.engine.meta_training import TrainingSettings, meta_train
from smedit.engine.scores import Scorer
from smedit.engine.sequential_training import SequenceSettings, train_in_sequence
from smedit.engine.tracing import trace


class Run(Released):
    """One case, run once; the tests look at what it gave."""

    def __init__(self, folder, device):
        super().__init__(folder, device)
        self.in_sequence, n_steps = folder.name.startswith("sequential"), self.settings["bp_steps"]
        self.n_networks = n_steps if self.in_sequence else 1
        n_batches = self.settings["n_sequences"] if self.in_sequence else 1
        editor, self.steps = self.editor(self.n_networks), None
        if "train" in self.expected:
            batches = self.batches("train", self.settings["n_train_batches"])
            self.first_trace = trace(self.model, batches[0].edit, {})
            train = train_in_sequence if self.in_sequence else meta_train
            self.steps = train(editor, self.model, batches, n_steps, self.training(editor.method))
            self.trained = {k: v.cpu().clone() for k, v in editor.state_dict().items()}
        scorer = Scorer(self.requests("eval", n_batches), self.model.tokenizer)
        self.before = scorer.score(self.model, {})
        self.eval_batches, self.totals = self.batches("eval", n_batches), [{}]
        for batch in self.eval_batches:
            self.totals += editor.edit(self.model, batch.edit, n_steps, start=self.totals[-1])
        self.after = scorer.score(self.model, self.totals[-1])

    def training(self, method):
        given = {name: self.settings[name] for name in ("meta_lr", "loc_coef", "reg_coef")}
        given["max_grad_norm"], repeats = 1.0, self.settings["adam_repeats"]
        if not self.in_sequence:
            return TrainingSettings(**given, adam_repeats=repeats, train_from="original")
        assert repeats == 1
        return SequenceSettings(**given, reg_power=2, back_depth=method.back_depth, time_decay=0.95)


run_case = cache(Run)


@pytest.fixture(**cases())
def case(request):
    torch.set_num_threads(1)
    return run_case(*request.param)


@pytest.fixture
def trained(case):
    if case.steps is None:
        pytest.skip("UltraEdit is not trained")
    return case


def test_tokens(trained):
    expected = trained.expected["first_eval_edit_minibatch"]
    sequences = trained.eval_batches[0].edit.sequences[: trained.settings["minibatch"]]
    for sequence, ids, labels in zip(
        sequences, expected["input_ids"], expected["labels"], strict=True
    ):
        n = len(sequence.input_ids)
        assert list(sequence.input_ids) == ids[:n]
        assert [t for t in labels if t != -100] == list(sequence.answer_ids)
        assert labels[n - len(sequence.answer_ids) : n] == list(sequence.answer_ids)


def test_trace(trained):
    trained.check_trace(trained.first_trace)


def test_training_steps(trained):
    """Of training in sequence, a step stands for all of a batch; the norm is the last network's."""
    expected, n_steps = trained.expected["train"], trained.n_networks
    assert len(expected) == n_steps * len(trained.steps)
    for number, ours in enumerate(trained.steps):
        theirs = expected[number * n_steps : (number + 1) * n_steps]
        if trained.in_sequence:
            norms, gradient_norm = ours.shift_norms, ours.gradient_norms[-1]
        else:
            norms, gradient_norm = [ours.shift_norms], ours.gradient_norm
            assert ours.bp_step == theirs[0]["bp_step"]
        assert norms == [pytest.approx(step["shift_fro"], rel=1e-3) for step in theirs]
        assert gradient_norm == pytest.approx(theirs[-1]["hypernet_grad_norm"], rel=1e-3)


def test_trained_hypernetworks(trained):
    trained.check_trained(trained.trained, trained.n_networks)


def test_editing_shifts(case):
    case.check_editing_shifts(case.totals[1:])


def test_weight_change(case):
    case.check_weight_change(case.totals[-1])


@pytest.mark.parametrize("stage", ["before", "after"])
def test_scores(case, stage):
    if case.steps is None and stage == "before":
        pytest.skip("UltraEdit's cases hold the scores after editing only")
    if case.steps is None and case.settings["dataset"] == "counterfact":
        pytest.skip("UltraEdit's CounterFact scores depend on how the released scorer batched rows")
    case.check_scores(getattr(case, stage), stage)
