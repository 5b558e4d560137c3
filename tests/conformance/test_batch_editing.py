"""Batch training and editing against the numbers of the authors' released code."""

from functools import cache

import pytest
import torch
from released import Released, cases

from smedit.engine.meta_training import TrainingSettings, meta_train
from smedit.engine.scores import Scorer
from smedit.engine.tracing import trace


class Run(Released):
    """One case, run once; the tests look at what it gave."""

    def __init__(self, folder, device):
        super().__init__(folder, device)
        batches = self.batches("train", self.settings["n_train_batches"])
        (self.eval_batch,) = self.batches("eval", 1)
        self.first_trace = trace(self.model, batches[0].edit, {})
        editor, bp_steps = self.editor(n_networks=1), self.settings["bp_steps"]
        shared = ("meta_lr", "loc_coef", "reg_coef", "adam_repeats")
        training = TrainingSettings(
            **{name: self.settings[name] for name in shared},
            max_grad_norm=1.0,
            train_from="original",
        )
        self.steps = meta_train(editor, self.model, batches, bp_steps, training)
        self.trained = {k: v.cpu().clone() for k, v in editor.state_dict().items()}
        scorer = Scorer(self.requests("eval", 1), self.model.tokenizer)
        self.before = scorer.score(self.model, {})
        self.totals = list(editor.edit(self.model, self.eval_batch.edit, bp_steps))
        self.after = scorer.score(self.model, self.totals[-1])


run_case = cache(Run)


@pytest.fixture(**cases("batch"))
def case(request):
    torch.set_num_threads(1)
    return run_case(*request.param)


def test_tokens(case):
    expected = case.expected["first_eval_edit_minibatch"]
    sequences = case.eval_batch.edit.sequences[: case.settings["minibatch"]]
    for sequence, ids, labels in zip(
        sequences, expected["input_ids"], expected["labels"], strict=True
    ):
        n = len(sequence.input_ids)
        assert list(sequence.input_ids) == ids[:n]
        assert [t for t in labels if t != -100] == list(sequence.answer_ids)
        assert labels[n - len(sequence.answer_ids) : n] == list(sequence.answer_ids)


def test_trace(case):
    case.check_trace(case.first_trace)


def test_training_steps(case):
    expected = case.expected["train"]
    assert [s.bp_step for s in case.steps] == [e["bp_step"] for e in expected]
    for ours, theirs in zip(case.steps, expected, strict=True):
        assert ours.shift_norms == pytest.approx(theirs["shift_fro"], rel=1e-3)
        assert ours.gradient_norm == pytest.approx(theirs["hypernet_grad_norm"], rel=1e-3)


def test_trained_hypernetwork(case):
    case.check_trained(case.trained, n_networks=1)


def test_editing_shifts(case):
    case.check_editing_shifts(case.totals)


def test_weight_change(case):
    case.check_weight_change(case.totals[-1])


@pytest.mark.parametrize("stage", ["before", "after"])
def test_scores(case, stage):
    case.check_scores(getattr(case, stage), stage)
