"""The tutorial, word for word, on a tiny model in the place of its own."""

import re
import subprocess
import sys

import pytest
from runs import ENVIRONMENT, ROOT

from smedit.models.model_sources import prepare_model

TEXT = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
MODEL = "smollm2-135m"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def tiny_folder(tmp_path):
    spec = {
        "source": "pretrain",
        "architecture": str(ROOT / "config/architectures/tiny-llama.json"),
    }
    prepare_model("tiny", {**spec, "steps": 1, "seed": 0}, tmp_path / "tiny")
    return tmp_path


def test_every_step_of_the_tutorial_runs(tiny_folder):
    (facts,) = blocks("json")
    (tiny_folder / "facts.json").write_text(facts)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert [line.split()[1] for line in commands] == ["train", "edit", "ask", "score"]
    for line in commands:
        subprocess.run(
            line.replace(f"--model {MODEL}", "--model ./tiny"),
            **{"shell": True, "check": True, "cwd": tiny_folder, "env": ENVIRONMENT},
        )
    assert (tiny_folder / "scores.csv").read_text().count("\n") > 5
    for block in blocks("python"):
        code = block.replace(f'"{MODEL}"', '"./tiny"')
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tiny_folder)
