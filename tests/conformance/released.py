"""What the authors' released code computed, under this project's names (docs/method.md).

``SMEDIT_CONFORMANCE`` names further folders of the same form (separated like PATH).
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from smedit.data.formats.counterfact import counterfact_request
from smedit.data.formats.zsre import zsre_request
from smedit.engine.batches import edit_batch
from smedit.engine.editor import Editor
from smedit.engine.language_model import LanguageModel
from smedit.methods import load_method

FOLDERS = [Path(__file__).parent / "cases"]
FOLDERS += [Path(f) for f in os.environ.get("SMEDIT_CONFORMANCE", "").split(os.pathsep) if f]
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
METHODS = {
    "mend": "MEND",
    "malmen": "MALMEN",
    "emsedit": "SMEdit",
    "rledit": "RLEdit",
    "ultraedit": "UltraEdit",
}
PARAMETERS = {
    "lr.weight": "step_size",
    "lamda.weight": "log_lambda",
    "scale.weight": "scale",
    "shift.weight": "shift",
    "normalizer.var": "normalizer.squares",
}


def cases():
    """Parameters of a fixture: every case on every device."""
    kinds = ("batch", "sequential")
    found = sorted(case for f in FOLDERS for kind in kinds for case in f.glob(f"{kind}-*"))
    assert found
    return {
        "params": [(case, device) for case in found for device in DEVICES],
        "ids": lambda p: f"{p[0].name}-{p[1]}",
    }


class Released:
    """A case's settings, inputs and expected numbers, and the model and editor it starts from."""

    def __init__(self, folder, device):
        self.folder = folder
        self.device = device
        self.expected = json.loads((folder / "expected.json").read_text())
        self.settings = self.expected["case"]
        self._rows = json.loads((folder.parent / "rows.json").read_text())[self.settings["dataset"]]
        path = folder.parent / self.settings["model"]
        self.model = LanguageModel(
            AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(device),
            AutoTokenizer.from_pretrained(path),
            self.expected["edit_modules"],
        )

    def requests(self, split, n_batches):
        rows = self._rows[split][: self.settings["n_edits"] * n_batches]
        if self.settings["dataset"] == "zsre":
            return [zsre_request(row, "ans", f"row {i}") for i, row in enumerate(rows)]
        return [counterfact_request(row, f"row {i}") for i, row in enumerate(rows)]

    def batches(self, split, n_batches):
        n, requests = self.settings["n_edits"], self.requests(split, n_batches)
        return [
            edit_batch(requests[i : i + n], self.model.tokenizer, self.settings["minibatch"])
            for i in range(0, len(requests), n)
        ]

    def editor(self, n_networks):
        method = load_method(METHODS[self.settings["method"]])
        if method.n_blocks:
            size = {name: self.settings[name] for name in ("rank", "n_blocks")}
            method = dataclasses.replace(method, **size)
        shapes = {name: self.model.shape(name) for name in self.model.edit_modules}
        lr = self.settings.get("eta_init", self.settings.get("lr"))
        editor = Editor(method, shapes, lr=lr, seed=0, n_networks=n_networks)
        if method.n_blocks:
            editor.load_state_dict(self.state("hypernet_init", n_networks))
        return editor.to(self.device)

    def state(self, name, n_networks):
        """A file of the released code's hypernetworks."""
        state = {}
        stored = load_file(self.folder / f"{name}.safetensors")
        for key, value in stored.items():
            net, rest = key.split(".(")
            shape, parameter = rest.split(").")
            number = int(net.removeprefix("net"))
            if number >= n_networks or parameter == "normalizer.std":
                continue  # one network for all steps in batch editing; std follows from the rest
            for old, new in PARAMETERS.items():
                parameter = parameter.replace(old, new)
            d_in, d_out = shape.split(", ")
            if parameter in ("step_size", "log_lambda"):
                value = value[:, 0]
            elif parameter == "normalizer.n":
                value = value[0]
            elif parameter == "normalizer.squares":
                value = value * stored[key.replace("var", "n")]  # the released one divides by n
            state[f"hypernetworks.{number}.networks.{d_in}x{d_out}.{parameter}"] = value
        return state

    # --- comparisons ------------------------------------------------------------------------------

    def check_trace(self, traced):
        expected = load_file(self.folder / "trace.safetensors")
        for name in self.expected["edit_modules"]:
            for kind, ours in (("keys", traced.keys), ("value_grads", traced.gradients)):
                theirs = expected[f"{kind}.{name}"]
                assert torch.allclose(ours[name].cpu(), theirs, rtol=0, atol=1e-4)

    def check_trained(self, state, n_networks):
        """Trained parameters to a tenth of one update of Adam, which moves them by 1e-3."""
        expected = self.state("hypernet_trained", n_networks)
        untrained = self.state("hypernet_init", n_networks)
        assert expected.keys() == state.keys()
        moved = [n for n in untrained if (untrained[n] - expected[n]).abs().max() > 5e-4]
        assert any(name.endswith(".B") for name in moved)
        for name, value in expected.items():
            # Sums of squares grow with the rows seen; their std is what the network uses.
            if name.endswith("squares"):
                n = expected[name.replace("squares", "n")] - 1 + 1e-8
                assert torch.allclose((state[name] / n).sqrt(), (value / n).sqrt(), atol=1e-5)
            else:
                assert torch.allclose(state[name], value, rtol=0, atol=1e-4), name

    def check_editing_shifts(self, totals):
        previous = dict.fromkeys(self.expected["edit_modules"], 0.0)
        for total, expected in zip(totals, self.expected["evaluate"], strict=True):
            norms = {name: (total[name] - previous[name]).norm().item() for name in total}
            assert norms == pytest.approx(expected["shift_fro"], rel=1e-3)
            previous = total

    def check_weight_change(self, total):
        expected = load_file(self.folder / "weight_change.safetensors")
        assert len(total) == len(expected)
        for name, shift in total.items():
            change = self.model.edited_weight(name, shift) - self.model.edit_modules[name].weight
            theirs = expected[f"shift.{name}"]
            assert (change.cpu() - theirs).norm() <= 2e-4 * theirs.norm()

    def check_scores(self, rows, stage):
        scores = {}
        for row in rows:
            if row.score not in ("accuracy", "token_success", "sequence_success"):
                continue  # the released code has none such
            scores.setdefault(row.metric, {}).setdefault(row.score, []).append(row.value)
        means = {m: {s: float(np.mean(v)) for s, v in by.items()} for m, by in scores.items()}
        for metric in ("efficacy", "generalization", "specificity"):
            if self.settings["dataset"] == "zsre":
                released = self.expected[f"scores_{stage}"][metric]
                assert means[metric] == {"accuracy": pytest.approx(released, abs=1e-6)}
            else:
                row_scores = self.expected[f"row_scores_{stage}"][metric]
                assert means[metric] == pytest.approx(row_scores, abs=1e-6)
