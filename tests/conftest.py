"""Tiny language models of several architectures, and invented requests, for every test."""

import dataclasses
import shutil
import signal

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from smedit.data.facts import EditRequest, Prompt
from smedit.engine.batches import edit_batch
from smedit.engine.editor import Editor
from smedit.engine.execution import Execution
from smedit.engine.language_model import LanguageModel
from smedit.methods import load_method
from smedit.run import opening

WIDTH = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
GPT = {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 64}
ARCHITECTURES = {
    "llama": ({**WIDTH, **HEADS}, "model.layers.{}.mlp.down_proj"),
    "mistral": ({**WIDTH, **HEADS}, "model.layers.{}.mlp.up_proj"),
    "qwen2": ({**WIDTH, **HEADS}, "model.layers.{}.mlp.gate_proj"),
    "gemma2": ({**WIDTH, **HEADS}, "model.layers.{}.mlp.down_proj"),
    "gemma3_text": ({**WIDTH, **HEADS, "sliding_window": 4}, "model.layers.{}.mlp.down_proj"),
    "gpt2": (GPT, "transformer.h.{}.mlp.c_proj"),
    "gptj": ({**GPT, "rotary_dim": 4}, "transformer.h.{}.mlp.fc_out"),
}
WORDS = [f"w{i}" for i in range(60)]

# Tests interrupt processes; one that a shell started in the background would ignore it, and so
# would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tiny_tokenizer():
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def make_model(architecture="llama", layers=(2, 3), dtype=torch.float32):
    """A random model whose edit modules lie in the given blocks."""
    settings, pattern = ARCHITECTURES[architecture]
    config = AutoConfig.for_model(
        architecture, vocab_size=64, bos_token_id=0, eos_token_id=0, pad_token_id=63, **settings
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # larger weights: differences between positions stand out
    names = [pattern.format(i) for i in layers]
    return LanguageModel(model, tiny_tokenizer(), names, execution=Execution())


def make_requests(n, competing=False, start=0):
    """Invented requests of different lengths; with a competing answer if asked."""

    def prompt(i, length, answer):
        text = " ".join(WORDS[(7 * i + j) % 60] for j in range(length))
        other = " ".join(WORDS[(3 * i + 40 + j) % 60] for j in range(1 + i % 2))
        return Prompt(text, answer, other if competing else None)

    requests = []
    for i in range(start, start + n):
        answer = " ".join(WORDS[(11 * i + j) % 60] for j in range(1 + i % 3))
        requests.append(
            EditRequest(
                subject=f"s{i}",
                edit=prompt(i, 3 + i % 4, answer),
                paraphrases=(prompt(i + 20, 4 + i % 3, answer), prompt(i + 30, 5, answer)),
                locality=(prompt(i + 40, 2 + i % 5, WORDS[i % 60]),),
                true_answer=None,
            )
        )
    return requests


def make_batches(model, n_batches=2, n=6):
    return [
        edit_batch(make_requests(n, start=n * i), model.tokenizer, minibatch=4)
        for i in range(n_batches)
    ]


def make_editor(model, method="SMEdit", lr=0.01, steps=1, **changes):
    """A small one, with so many hypernetworks."""
    method = load_method(method)
    if method.n_blocks:
        method = dataclasses.replace(method, rank=6, n_blocks=2, **changes)
    shapes = {n: model.shape(n) for n in model.edit_modules}
    return Editor(method, shapes, lr=lr, seed=0, n_networks=steps)


def parameters(editor):
    return torch.cat([p.detach().flatten() for p in editor.parameters()])


TEXT = [("w1 w2 w3 w4", "w5 w6 w7"), ("w8 w9", "w10 w11 w12 w13")]


@pytest.fixture
def short_text(monkeypatch):
    """Two short paragraphs in the tiny tokenizer's words instead of the held-out text."""
    monkeypatch.setattr("smedit.engine.held_out.paragraphs", lambda *_: TEXT)


def put_in_place(model, patch):
    """A model in the place of the one that a job names."""
    patch.setattr(opening, "load_model", lambda *_: model.model)
    patch.setattr(opening, "load_tokenizer", lambda _: model.tokenizer)
    patch.setattr(opening, "tried_way", lambda *_: "fast")


@pytest.fixture
def tiny(monkeypatch):
    """A tiny model in the place of the one that a job names."""
    put_in_place(make_model(), monkeypatch)


@pytest.fixture(scope="session")
def frozen_once(tmp_path_factory):
    """What `freeze` writes for the tiny model and the short text."""
    from run_jobs import frozen

    folder = tmp_path_factory.mktemp("frozen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smedit.engine.held_out.paragraphs", lambda *_: TEXT)
        put_in_place(make_model(), patch)
        frozen(folder)
    return folder


@pytest.fixture
def tiny_runs(tiny, short_text, frozen_once, tmp_path):
    """A tiny model, a short text, and what is frozen for a test's runs."""
    shutil.copytree(frozen_once, tmp_path, dirs_exist_ok=True)
