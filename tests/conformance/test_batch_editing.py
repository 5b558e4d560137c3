"""The engine against the numbers that the authors' released code computed (docs/method.md).

``SMEDIT_CONFORMANCE`` names further folders of the same form (separated like PATH).
"""

import dataclasses
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from smedit.batches import edit_batch
from smedit.editor import Editor
from smedit.language_model import LanguageModel
from smedit.meta_training import TrainingSettings, meta_train
from smedit.method import load_method
from smedit.readers import counterfact_request, zsre_request
from smedit.scores import Scorer
from smedit.tracing import trace

FOLDERS = [Path(__file__).parent / "cases"]
FOLDERS += [Path(f) for f in os.environ.get("SMEDIT_CONFORMANCE", "").split(os.pathsep) if f]
CASES = sorted(case for folder in FOLDERS for case in folder.glob("batch-*"))
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
METHODS = {"mend": "MEND", "malmen": "MALMEN", "emsedit": "SMEdit"}


class Case:
    """One case, run once; the tests look at what it gave."""

    def __init__(self, folder, device):
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.settings = settings = self.expected["case"]
        n, n_train = settings["n_edits"], settings["n_train_batches"]
        rows = json.loads((folder.parent / "rows.json").read_text())[settings["dataset"]]
        train = [self._request(row, i) for i, row in enumerate(rows["train"][: n * n_train])]
        requests = [self._request(row, i) for i, row in enumerate(rows["eval"][:n])]

        path = folder.parent / settings["model"]
        self.model = LanguageModel(
            AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(device),
            AutoTokenizer.from_pretrained(path),
            self.expected["edit_modules"],
        )
        tokenizer, minibatch = self.model.tokenizer, settings["minibatch"]
        batches = [
            edit_batch(train[i : i + n], tokenizer, minibatch) for i in range(0, n * n_train, n)
        ]
        self.eval_batch = edit_batch(requests, tokenizer, minibatch)
        self.first_trace = trace(self.model, batches[0].edit, {})

        method = dataclasses.replace(
            load_method(METHODS[settings["method"]]),
            rank=settings["rank"],
            n_blocks=settings["n_blocks"],
        )
        shapes = {name: self.model.shape(name) for name in self.model.edit_modules}
        self.editor = Editor(method, shapes, lr=settings["eta_init"], seed=settings["seed"])
        self.editor.load_state_dict(self.state("hypernet_init"))
        self.editor.to(device)
        self.steps = meta_train(
            self.editor,
            self.model,
            batches,
            settings["bp_steps"],
            TrainingSettings(
                meta_lr=settings["meta_lr"],
                loc_coef=settings["loc_coef"],
                reg_coef=settings["reg_coef"],
                max_grad_norm=1.0,
                adam_repeats=settings["adam_repeats"],
                train_from="original",
            ),
        )
        self.trained = {k: v.cpu().clone() for k, v in self.editor.state_dict().items()}
        scorer = Scorer(requests, tokenizer)
        self.before = scorer.score(self.model, {})
        self.totals = list(self.editor.edit(self.model, self.eval_batch.edit, settings["bp_steps"]))
        self.after = scorer.score(self.model, self.totals[-1])

    def _request(self, row, number):
        if self.settings["dataset"] == "zsre":
            return zsre_request(row, "ans", f"row {number}")
        return counterfact_request(row, f"row {number}")

    def state(self, name):
        """A file of the released code's hypernetwork under this project's names."""
        renamed = {
            "lr.weight": "step_size",
            "lamda.weight": "log_lambda",
            "scale.weight": "scale",
            "shift.weight": "shift",
            "normalizer.var": "normalizer.squares",
        }
        state = {}
        stored = load_file(self.folder / f"{name}.safetensors")
        for key, value in stored.items():
            net, rest = key.split(".(")
            shape, parameter = rest.split(").")
            if net != "net0" or parameter == "normalizer.std":
                continue  # one network for all steps in batch editing; std follows from the rest
            for old, new in renamed.items():
                parameter = parameter.replace(old, new)
            d_in, d_out = shape.split(", ")
            if parameter in ("step_size", "log_lambda"):
                value = value[:, 0]
            elif parameter == "normalizer.n":
                value = value[0]
            elif parameter == "normalizer.squares":
                value = value * stored[key.replace("var", "n")]  # the released one divides by n
            state[f"hypernetwork.networks.{d_in}x{d_out}.{parameter}"] = value
        return state


run_case = cache(Case)


@pytest.fixture(
    params=[(case, device) for case in CASES for device in DEVICES],
    ids=lambda p: f"{p[0].name}-{p[1]}",
)
def case(request):
    torch.set_num_threads(1)
    return run_case(*request.param)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_every_folder_has_cases(folder):
    assert list(folder.glob("batch-*"))


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
    expected = load_file(case.folder / "trace.safetensors")
    for name in case.expected["edit_modules"]:
        for kind, ours in (
            ("keys", case.first_trace.keys),
            ("value_grads", case.first_trace.gradients),
        ):
            assert torch.allclose(ours[name].cpu(), expected[f"{kind}.{name}"], rtol=0, atol=1e-4)


def test_training_steps(case):
    expected = case.expected["train"]
    assert [s.bp_step for s in case.steps] == [e["bp_step"] for e in expected]
    for ours, theirs in zip(case.steps, expected, strict=True):
        assert ours.shift_norms == pytest.approx(theirs["shift_fro"], rel=1e-3)
        assert ours.gradient_norm == pytest.approx(theirs["hypernet_grad_norm"], rel=1e-3)


def test_trained_hypernetwork(case):
    expected = case.state("hypernet_trained")
    assert expected.keys() == case.trained.keys()
    for name, value in expected.items():
        # Sums of squares grow with the rows seen; their std is what the network uses.
        if name.endswith("squares"):
            n = expected[name.replace("squares", "n")] - 1 + 1e-8
            assert torch.allclose((case.trained[name] / n).sqrt(), (value / n).sqrt(), atol=1e-3)
        else:
            assert torch.allclose(case.trained[name], value, rtol=0, atol=1e-3), name


def test_editing_shifts(case):
    previous = dict.fromkeys(case.expected["edit_modules"], 0.0)
    for total, expected in zip(case.totals, case.expected["evaluate"], strict=True):
        norms = {name: (total[name] - previous[name]).norm().item() for name in total}
        assert norms == pytest.approx(expected["shift_fro"], rel=1e-3)
        previous = total


def test_weight_change(case):
    expected = load_file(case.folder / "weight_change.safetensors")
    for name, shift in case.totals[-1].items():
        change = case.model.edited_weight(name, shift) - case.model.edit_modules[name].weight
        assert torch.allclose(change.cpu(), expected[f"shift.{name}"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_scores(case, stage):
    scores = {}
    for row in getattr(case, stage):
        scores.setdefault(row.metric, {}).setdefault(row.score, []).append(row.value)
    means = {m: {s: float(np.mean(v)) for s, v in by.items()} for m, by in scores.items()}
    for metric in ("efficacy", "generalization", "specificity"):
        if case.settings["dataset"] == "zsre":
            released = case.expected[f"scores_{stage}"][metric]
            assert means[metric] == {"accuracy": pytest.approx(released, abs=1e-6)}
        else:
            row_scores = case.expected[f"row_scores_{stage}"][metric]
            assert means[metric] == pytest.approx(row_scores, abs=1e-6)
