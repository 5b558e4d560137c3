"""One's own facts in one's own model: edited, asked, scored, kept and opened again."""

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Tokenizer

import smedit
from conftest import ARCHITECTURES, make_model, make_requests, tiny_tokenizer
from smedit.cli import main
from smedit.editing import editors, scoring, step_size
from smedit.editing.card import licence_of, model_card
from smedit.engine.tokenization import tokenize
from smedit.errors import DivergedError, UserError
from smedit.methods import rule_checksum
from smedit.models.architectures import last_mlp_outputs
from smedit.plan.catalogue import catalogue
from smedit.store.files import exchange
from smedit.store.results import read_result

LETTERS = [*"w0123456789", "Ġ", "Ġw"]
"""What the tests' words are made of: transformers gives a folder of Qwen2 a tokenizer that joins
letters, and reads no list of words."""

FACTS = make_requests(6)
SMALL = {"rank": 4, "n_blocks": 1, "lr": 1e-3, "meta_lr": 1e-3}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, short_text):
    """Models are prepared in the folder of the test."""
    monkeypatch.chdir(tmp_path)


def save_model(folder, architecture="llama", dtype=torch.float32, seed=0):
    model = make_model(architecture, dtype=dtype).model
    if seed:
        with torch.no_grad():
            next(model.parameters()).add_(1)
    model.save_pretrained(folder)
    vocabulary = {letter: number for number, letter in enumerate(LETTERS)}
    joining = Qwen2Tokenizer(vocab=vocabulary, merges=[("Ġ", "w")])
    (joining if architecture == "qwen2" else tiny_tokenizer()).save_pretrained(folder)
    return folder


def opened(tmp_path, architecture="llama", **options):
    return smedit.load_model(save_model(tmp_path / architecture, architecture), **options)


def edited(model, **options):
    return smedit.train_editor(model, FACTS, batches=1, n_edits=4, **SMALL).edit(
        model, FACTS[4:], **options
    )


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def logits_of(model, text="w1 w2 w3"):
    ids = tiny_tokenizer()(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_model_is_the_edited_one_without_this_suite(architecture, tmp_path):
    model = opened(tmp_path, architecture)
    before = logits_of(model.language_model.model)
    found = edited(model, step_size=0.05)
    with model.language_model.edited(found.shifts):
        expected = logits_of(model.language_model.model)
    assert not torch.equal(before, expected)
    found.save_pretrained(tmp_path / "edited")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    assert torch.equal(logits_of(plain), expected)
    scores = found.score(FACTS[4:])  # while saving, the edit must not count as its own start
    assert str(found.score()) == str(scores)
    assert plain.config.use_cache
    before_it, after_it = (
        AutoTokenizer.from_pretrained(tmp_path / name)("w1 w20").input_ids
        for name in (architecture, "edited")
    )
    assert before_it == after_it != []
    assert [path.name for path in (tmp_path / "edited").glob("*.safetensors")] == [
        "model.safetensors"
    ]
    assert torch.equal(logits_of(model.language_model.model), before)  # undone by dropping it
    again = smedit.load_edited(tmp_path / "edited")
    with again.base.language_model.edited(again.shifts):
        assert torch.equal(logits_of(again.base.language_model.model), expected)
    assert again.facts == tuple(FACTS[4:])


def test_many_facts_are_scored_in_parts(tmp_path, monkeypatch, caplog):
    model = opened(tmp_path, "llama")
    found = edited(model, step_size=0.05)
    whole = found.score(FACTS).table
    caplog.set_level("INFO", "smedit")
    monkeypatch.setattr(scoring, "PART", 3)
    kept = len(model.language_model.states)
    parts = found.score([*FACTS, smedit.fact("w9 w8 w7 w6 w5 w4", "w3")]).table
    assert len(model.language_model.states) == kept  # what was frozen for a part is dropped
    pd.testing.assert_frame_equal(parts[:-1], whole, check_exact=False, atol=1e-9)
    assert f"scored 3 of {len(FACTS) + 1} facts, about" in caplog.text


def test_in_bfloat16_too(tmp_path):
    folder = save_model(tmp_path / "half", dtype=torch.bfloat16)
    model = smedit.load_model(folder, precision="bfloat16")
    found = edited(model, step_size=0.05)
    found.save_pretrained(tmp_path / "edited")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    assert plain.dtype == torch.bfloat16
    with model.language_model.edited(found.shifts):
        assert torch.equal(logits_of(plain), logits_of(model.language_model.model))


def test_the_facts_come_back_whole_and_score_as_before(tmp_path):
    """Competing answers and all."""
    model, facts = opened(tmp_path), make_requests(3, competing=True)
    editor = smedit.train_editor(model, FACTS, batches=1, n_edits=4, **SMALL)
    found = editor.edit(model, facts, step_size=0.05)
    found.save(tmp_path / "edited")
    again = smedit.load_edited(tmp_path / "edited")
    assert again.facts == tuple(facts)
    assert str(again.score()) == str(found.score())


def test_a_step_size_that_fails_does_not_keep_from_saving(tmp_path, monkeypatch):
    monkeypatch.setattr(step_size, "CANDIDATES", (1e-3, 1e30))
    found = edited(opened(tmp_path))
    assert None in [tried["harm"] for tried in found.how["tried"]]
    found.save(tmp_path / "edited")


def test_the_older_folder_stays_until_the_new_one_is_in_place(tmp_path, monkeypatch):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mark").write_text(name)
    renamed = Path.rename

    def stopped(path, target):
        if path.name == "new":
            raise KeyboardInterrupt
        return renamed(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", stopped)
        exchange(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "old/mark").read_text() == "old"
    exchange(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "old/mark").read_text() == "new"
    assert names_in(tmp_path) == ["old"]


def test_a_folder_named_as_a_model_of_the_catalogue_takes_no_place_of_it(tmp_path):
    (tmp_path / "resources/models/tiny-llama").mkdir(parents=True)
    smedit.load_model(save_model(tmp_path / "tiny-llama"))
    assert not names_in(tmp_path / "resources/models/tiny-llama")


def test_a_model_is_asked_by_greedy_decoding_whatever_its_folder_says(tmp_path):
    folder = save_model(tmp_path / "llama")
    plain = smedit.load_model(folder).generate("w1 w2 w3", 12)
    path = folder / "generation_config.json"
    settings = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    assert smedit.load_model(folder).generate("w1 w2 w3", 12) == plain


def test_the_change_alone_is_small_and_needs_the_base(tmp_path):
    found = edited(opened(tmp_path), step_size=0.05)
    found.save(tmp_path / "edited")
    assert names_in(tmp_path / "edited") == ["README.md", "smedit"]
    again = smedit.load_edited(tmp_path / "edited")
    for name, shift in found.shifts.items():
        assert torch.equal(again.shifts[name], shift)
    assert again.generate("w1 w2", 4) == found.generate("w1 w2", 4)
    (tmp_path / "llama").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"edited: its base model .*llama is no longer at .*name"):
        smedit.load_edited(tmp_path / "edited")
    moved = smedit.load_edited(tmp_path / "edited", base=tmp_path / "moved")
    assert moved.generate("w1 w2", 4) == found.generate("w1 w2", 4)
    assert call("ask", "--edited", "edited", "--model", "moved", "w1 w2") == 0
    save_model(tmp_path / "llama", seed=1)
    with pytest.raises(
        UserError, match=r"was made of llama; the model llama has another model\.safetensors than"
    ):
        smedit.load_edited(tmp_path / "edited")


def test_what_is_no_fact_and_ids_that_do_not_fit_are_refused_before_any_work(tmp_path):
    model = opened(tmp_path)
    editor = smedit.train_editor(model, method="UltraEdit")
    with pytest.raises(UserError, match=r"^'w1 w2': no fact; make one with smedit\.fact\("):
        editor.edit(model, ["w1 w2"])
    with pytest.raises(UserError, match="1 ids for 6 facts; give one for each"):
        editor.edit(model, FACTS, ids=["a"])
    found = editor.edit(model, FACTS, step_size=1e-3)
    assert repr(found) == "<EditedModel: 6 facts by UltraEdit in llama>"
    with pytest.raises(UserError, match="'w1': no fact"):
        found.score(["w1"])


def test_what_a_card_says_was_measured(tmp_path):
    found = edited(opened(tmp_path))
    found.save(tmp_path / "edited")
    card = (tmp_path / "edited/README.md").read_text()
    assert "edited 2 facts into **" in card
    assert f"Harm: {found.harm:.2f} nats per token" in card
    means = found.score().means.set_index("score")
    assert f"| efficacy | {means.before.efficacy:.1f} | {means.after.efficacy:.1f} | 2 |" in card
    assert f"| {FACTS[4].edit.text} | {FACTS[4].edit.answer} |" in card


def test_the_card_of_a_catalogue_s_model_names_the_repository_that_it_comes_from(tmp_path):
    found = edited(opened(tmp_path))
    found.save(tmp_path / "edited")
    notes = read_result(tmp_path / "edited/smedit/edit.json")
    assert "base_model:" not in model_card(notes)
    spec = {k: v for k, v in catalogue("models")["smollm2-135m"].items() if k != "edit_modules"}
    card = model_card({**notes, "base": {**notes["base"], "name": "smollm2-135m", "spec": spec}})
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\nlicense: apache-2.0\n---" in card
    assert "(HuggingFaceTB/SmolLM2-135M-Instruct, from 4-bit weights)" in card


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\nwords", "mit"),
        ("---\nlicense: [a\n---\n", ""),
        ("license: mit\n---\n---\n", ""),
        ("", ""),
    ],
)
def test_the_card_has_the_licence_that_the_base_s_own_card_names(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card)
    assert licence_of("mine", {"source": "path", "path": str(tmp_path)}) == licence
    # A folder may have the name of a model of the catalogue.
    assert licence_of("gemma-3-270m", {"source": "path", "path": str(tmp_path)}) == licence
    assert licence_of("mine", {"source": "hub"}) == ""
    known = {k: v for k, v in catalogue("models")["gemma-3-270m"].items() if k != "edit_modules"}
    assert licence_of("gemma-3-270m", known) == "gemma"


@pytest.mark.parametrize("method", ["SMEdit", "MALMEN", "MEND", "RLEdit", "UltraEdit", "FT-L"])
def test_every_method_edits(method, tmp_path):
    model = opened(tmp_path)
    settings = {} if method in ("UltraEdit", "FT-L") else SMALL
    editor = smedit.train_editor(model, FACTS, method, batches=1, n_edits=4, **settings)
    found = editor.edit(model, FACTS[4:])
    assert all(shift.isfinite().all() for shift in found.shifts.values())
    assert any(shift.norm() > 0 for shift in found.shifts.values())


def test_an_editor_that_was_kept_edits_alike_and_knows_its_model(tmp_path, monkeypatch):
    model = opened(tmp_path)
    editor = smedit.train_editor(model, FACTS, batches=1, n_edits=4, **SMALL)
    first = editor.edit(model, FACTS[4:], step_size=0.05)
    editor.edit(model, FACTS[:2])  # it learns nothing while it edits
    editor.save(tmp_path / "editor")
    again = smedit.load_editor(tmp_path / "editor", model).edit(model, FACTS[4:], step_size=0.05)
    for name, shift in first.shifts.items():
        assert torch.equal(again.shifts[name], shift)
    with monkeypatch.context() as patch:
        patch.setattr(editors, "rule_checksum", lambda rule: "another")
        with pytest.raises(UserError, match="shift rule least_squares has changed since; train it"):
            smedit.load_editor(tmp_path / "editor", model)
    other = smedit.load_model(save_model(tmp_path / "other", seed=1))
    with pytest.raises(
        UserError,
        match=r"the editor was made for .*llama, and other has another model\.safetensors",
    ):
        smedit.load_editor(tmp_path / "editor", other)
    deeper = opened(tmp_path, "gpt2")
    with pytest.raises(UserError, match=r"edits model\.layers\.3.* has transformer\.h\.3"):
        editor.edit(deeper, FACTS[4:])


def test_scores_stand_per_fact_and_those_without_prompts_are_left_out(tmp_path):
    model = opened(tmp_path)
    bare = [smedit.EditRequest("w1", smedit.Prompt("w1 w2", "w3"), (), (), None)]
    scores = edited(model, step_size=0.05).score([*FACTS[:2], *bare])
    assert list(scores.table["generalization"].isna()) == [False, False, True]
    means = scores.means.set_index("score")
    assert (means.facts.efficacy, means.facts.generalization) == (3, 2)
    assert means.before.agreement == 100
    sequence = tokenize(tiny_tokenizer(), FACTS[0].edit.text, FACTS[0].edit.answer)
    with torch.no_grad():
        logits = model.language_model.model(torch.tensor([sequence.input_ids])).logits[0]
    best = logits[-len(sequence.answer_ids) :].argmax(-1)
    right = (best == torch.tensor(sequence.answer_ids)).float().mean().item()
    assert scores.table["efficacy_before"][0] == pytest.approx(100 * right)


# --- the step size --------------------------------------------------------------------------------


class Known:
    """Measures a change of the weights that is its own step size, by a known curve."""

    def __init__(self, curve):
        self.measure = curve


def choose(monkeypatch, efficacy, harm, bound=0.5):
    monkeypatch.setattr(step_size, "Scored", lambda *_: Known(lambda s: {"efficacy": efficacy(s)}))
    monkeypatch.setattr(step_size, "Harm", lambda *_: Known(harm))
    return step_size.choose_step_size(None, [], lambda size: size or 2e-6, bound)


def test_the_best_scores_within_the_bound_are_chosen(monkeypatch):
    chosen, tried = choose(monkeypatch, lambda s: min(100, s * 2e5), lambda s: s * 1e3)
    assert chosen.harm <= 0.5 < min(t.harm for t in tried if t.harm > chosen.harm)
    assert 4e-4 < chosen.step_size < 5e-4  # between two candidates, where the bound is met
    assert chosen.objective == max(t.objective for t in tried if t.harm <= 0.5)


def test_what_the_bound_cost_is_told(monkeypatch):
    chosen, tried = choose(monkeypatch, lambda s: min(100, s * 2e5), lambda s: s * 1e4)
    assert step_size.lost_to_the_bound(tried, chosen).objective == 100
    chosen, tried = choose(monkeypatch, lambda s: min(100, s * 2e5), lambda _: 0.0)
    assert step_size.lost_to_the_bound(tried, chosen) is None


def test_doing_nothing_is_not_the_best_choice(monkeypatch):
    def scores(size):
        edits = size > 1e-4
        return {"efficacy": 40.0 * edits, "generalization": 5.0, "agreement": 100 - 75 * edits}

    monkeypatch.setattr(step_size, "Scored", lambda *_: Known(scores))
    monkeypatch.setattr(step_size, "Harm", lambda *_: Known(lambda _: 0.0))
    chosen, _ = step_size.choose_step_size(None, [], lambda size: size or 2e-6)
    assert chosen.step_size > 1e-4


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((50, 0, 10), (10, 5, 35)),
        ((5.8, 0, 35), (5.8, 5.8, 2.5)),
        ((100, 0, 100), (100, 6.7, 10)),
        ((80, 43, 100), (100, 80, 0)),
        ((45, 5, 25), (0, 5, 100)),
    ],
)
def test_neither_one_paraphrase_nor_doing_nothing_decides(better, worse):
    first, second = (
        step_size.Tried(1e-3, dict(zip(scoring.Scored.NAMES, scores, strict=True)), 0.0)
        for scores in (better, worse)
    )
    assert first.objective > second.objective


def test_where_the_largest_step_size_does_no_harm_larger_ones_are_tried(monkeypatch):
    chosen, tried = choose(monkeypatch, lambda s: s * 100, lambda s: s)
    assert max(t.step_size or 0 for t in tried) > 0.5 > chosen.step_size > 0.3
    _, tried = choose(monkeypatch, lambda s: s * 100, lambda _: 0.0)
    assert max(t.step_size or 0 for t in tried) <= 1


def test_of_equals_the_least_harmful_is_chosen(monkeypatch):
    chosen, _ = choose(monkeypatch, lambda _: 50.0, lambda s: s)
    assert chosen.step_size is None


def test_if_nothing_is_within_the_bound_the_least_harmful_is_taken(monkeypatch, caplog):
    chosen, _ = choose(monkeypatch, lambda s: 1e6 * s, lambda s: 1 + s)
    assert chosen.step_size is None
    assert "no step size keeps harm within 0.5; the least harmful one is taken" in caplog.text


def test_step_sizes_that_fail_are_passed_over(monkeypatch):
    def harm(size):
        if size > 1e-5:
            raise DivergedError("non-finite")
        return 0.0

    chosen, tried = choose(monkeypatch, lambda s: s * 1e6, harm)
    assert chosen.step_size == 1e-5
    assert any(t.harm == math.inf for t in tried)
    with pytest.raises(DivergedError, match="no step size gives finite numbers"):
        choose(monkeypatch, lambda s: s, lambda s: harm(1))


def test_a_choice_goes_by_all_scores_that_the_facts_have(tmp_path):
    """Of facts without paraphrases and locality prompts, by efficacy alone."""
    model = opened(tmp_path)
    bare = [smedit.EditRequest("w1", smedit.Prompt("w1 w2", "w3"), (), (), None)]
    editor = smedit.train_editor(model, FACTS, batches=1, n_edits=4, **SMALL)
    every = ["efficacy", "generalization", "agreement"]
    for facts, names in ((FACTS[4:], every), (bare, every[:1])):
        how = editor.edit(model, facts).how
        assert all(list(tried["scores"]) == names for tried in how["tried"])
        chosen = next(t for t in how["tried"] if t["step_size"] == how["step_size"])
        assert chosen["harm"] <= 0.5


# --- what is edited -------------------------------------------------------------------------------


def test_the_usual_modules_of_a_model_nobody_has_described(tmp_path):
    for architecture, (_, pattern) in ARCHITECTURES.items():
        config = save_model(tmp_path / architecture, architecture) / "config.json"
        last = pattern.format(3)
        for narrow in ("up_proj", "gate_proj"):
            last = last.replace(narrow, "down_proj")
        assert last_mlp_outputs(config) == [last]


def test_modules_may_be_named(tmp_path):
    model = opened(tmp_path, edit_modules=["model.layers.{1..2}.mlp.up_proj"])
    assert list(model.language_model.edit_modules) == [
        "model.layers.1.mlp.up_proj",
        "model.layers.2.mlp.up_proj",
    ]
    with pytest.raises(UserError, match=r"has no such module; nearest: model\.layers\.3"):
        smedit.load_model(tmp_path / "llama", edit_modules=["model.layers.3.mlp.up_prj"])


def test_more_facts_than_memory_holds_are_refused_before_any_work(tmp_path, monkeypatch):
    model = opened(tmp_path)
    monkeypatch.setattr(editors, "COPIES", 1e9)
    with pytest.raises(UserError, match=r"^6 facts at once need about .* edit at most 0 at once"):
        editors.check_facts(model.language_model, FACTS)


def test_a_fact_that_does_not_fit_the_context(tmp_path):
    model = opened(tmp_path, "gpt2")
    long = smedit.EditRequest("w1", smedit.Prompt("w1 " * 300, "w2"), (), (), None)
    editor = smedit.train_editor(model, method="UltraEdit")
    with pytest.raises(UserError, match="has 300 tokens, more than the model's context of 64"):
        editor.edit(model, [long])
    with pytest.raises(UserError, match="there are no facts to edit; give at least one"):
        editor.edit(model, [])
    short, long = smedit.Prompt("w1", "w2"), smedit.Prompt("w1 " * 300, "w2")
    for prompts in ({"paraphrases": (long,)}, {"locality": (long,)}):
        given = {"paraphrases": (), "locality": (), "true_answer": None, **prompts}
        with pytest.raises(UserError, match="has 300 tokens, more than"):
            editor.edit(model, [smedit.EditRequest("w1", short, **given)])


BAD_TRAINING = {
    "the model's": ({"edit_modules": ["x"]}, "unknown setting 'edit_modules'"),
    "no weights": ({"method": "In context"}, "In context changes no weights, so there is nothing"),
    "method": ({"method": "SMEdt"}, "unknown method 'SMEdt'; did you mean 'SMEdit'?"),
    "setting": ({"meta_Lr": 1}, "unknown setting 'meta_Lr'; did you mean 'meta_lr'?"),
    "value": ({"meta_lr": -1}, "meta_lr: -1 is less than or equal to the minimum of 0"),
    "rows": ({"batches": 5}, "own requests: 20 rows are needed, there are 6; use fewer or smaller"),
    "dataset": ({"dataset": "world"}, "there is no dataset and no file 'world'; known: counter"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_bad_training_is_refused(changes, message, tmp_path):
    model = opened(tmp_path)
    with pytest.raises(UserError) as error:
        smedit.train_editor(model, **{"dataset": FACTS, "batches": 1, "n_edits": 4, **changes})
    assert message in str(error.value)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def facts(tmp_path):
    rows = [
        {
            **{"prompt": f.edit.text, "target": f.edit.answer, "subject": f.subject},
            "paraphrases": [p.text for p in f.paraphrases],
            "locality": [{"prompt": p.text, "answer": p.answer} for p in f.locality],
        }
        for f in make_requests(8)
    ]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(rows))
    return str(path)


def call(*arguments):
    return main([str(argument) for argument in arguments])


def test_from_facts_to_answers(facts, tmp_path, capsys):
    model = save_model(tmp_path / "mine", "gpt2")
    train = ("train", "--dataset", facts, "--batches", 2, "--n-edits", 4)
    assert call(*train, "--model", model, "--out", "editor") == 0
    edit = ("edit", "--model", model, "--facts", facts, "--editor", "editor", "--out", "edited")
    assert call(*edit) == 0
    output = capsys.readouterr().out
    assert "8 facts by SMEdit, step size" in output
    assert "nats per token, on prose that no choice has seen" in output
    none = ("edit", "--model", model, "--facts", facts, "--editor", "none", "--out", "other")
    assert call(*none) == 2
    assert "none/editor.safetensors: there is no editor; make one" in capsys.readouterr().err
    assert call(*edit) == 2
    assert "edited: an earlier one is there; --force replaces it" in capsys.readouterr().err
    assert call(*edit, "--only-changes", "--force") == 0
    assert call("ask", "--edited", "edited", "w1 w2", "w3") == 0
    output = capsys.readouterr().out
    assert output.count("  before ") == output.count("  after  ") == 2
    score = ("score", "--facts", facts, "--generate", 2, "--table", "scores.csv")
    assert call(*score, "--edited", "edited") == 0
    assert "efficacy" in capsys.readouterr().out
    header, *rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert header.startswith("id,prompt,target,efficacy_before,efficacy,") and len(rows) == 8
    assert header.endswith("says_before,generated_before,says,generated")
    assert call(*score, "--edited", "edited", "--precision", "float32") == 2
    assert "--precision: an edited model keeps its own; leave it out" in capsys.readouterr().err
    assert call(*score, "--model", model) == 0
    output = capsys.readouterr().out
    assert "→" not in output and "agree" not in output  # as it is, there is no before
    assert output.count("  says   ") == 2
    header, *_ = (tmp_path / "scores.csv").read_text().splitlines()
    assert header == (
        "id,prompt,target,efficacy,exact_match,generalization,specificity,says,generated"
    )


REFUSED = {
    "no facts": (
        ["--facts", "none.json"],
        "none.json: No such file or directory; correct the path",
    ),
    "no model": (["--model", "smollm"], "unknown model 'smollm'; did you mean 'smollm2-135m'?"),
    "no commit": (
        ["--model", "a/b@main"],
        "model 'a/b@main': there is no such folder, and a",
    ),
    "a device": (["--device", "gpu"], "device: 'gpu' is unknown; use cpu, cuda or auto"),
    "a precision": (["--precision", "int8"], "--precision: 'int8' is unknown; use float32 or bfl"),
    "a number": (["--step-size", "0"], "--step-size: use a number above 0"),
    "one folder": (
        ["--keep-editor", "edited"],
        "--keep-editor: the folder of --out, or one",
    ),
    "one in the other": (
        ["--keep-editor", "edited/e"],
        "--keep-editor: the folder of --out, or one",
    ),
    "both": (["--editor", "x"], "--editor: an editor that was trained; leave --method out"),
    "nothing to train": (
        ["--batches", "3"],
        "--batches: UltraEdit needs no training; leave",
    ),
    "no value": (["--set", "lr"], "--set lr: write KEY=VALUE"),
    "another option": (["--set", "seed=1"], "--set seed: --seed says that; leave it out"),
    "the rule": (["--set", "shift_rule=x"], "unknown setting 'shift_rule'"),
    "no setting": (["--set", "lrr=1"], "unknown setting 'lrr'; did you mean 'lr'?"),
    "an idle one": (["--set", "rank=4"], "rank: has no effect on UltraEdit here; leave it out"),
    "a bad value": (["--set", "lr=high"], "lr: 'high' is not of type 'number'"),
    "no step size": (["--step-size", "1", "--method", "FT-L"], "FT-L has no step size; leave it"),
    "the base": (["--out", "mine/edited"], "there is the model that is edited; name another"),
    "another folder": (
        ["--out", "mine"],
        "mine is there and holds no smedit/edit.json; move it or",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_one_line(changes, message, facts, tmp_path, capsys):
    model = save_model(tmp_path / "mine")
    given = {"--model": model, "--facts": facts, "--out": "edited", "--method": "UltraEdit"}
    given |= dict(zip(changes[::2], changes[1::2], strict=True))
    status = call("edit", *[part for pair in given.items() for part in pair])
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert (status, message in line) == (2, True), line
    assert not (tmp_path / "edited").exists()


def test_a_full_disk_leaves_nothing_and_the_same_command_works(
    facts, tmp_path, capsys, monkeypatch
):
    model = save_model(tmp_path / "mine")
    edit = ("edit", "--model", model, "--facts", facts, "--method", "UltraEdit", "--out", "edited")
    with monkeypatch.context() as patch:

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("smedit.editing.edited.save_tensors", full)
        assert call(*edit) == 2
    assert "edited: cannot be written" in capsys.readouterr().err
    assert names_in(tmp_path) == ["facts.json", "mine", "resources"]
    assert call(*edit) == 0


def test_an_interruption_while_training_writes_nothing(facts, tmp_path, capsys, monkeypatch):
    model = save_model(tmp_path / "mine")
    train = ("train", "--model", model, "--dataset", facts, "--batches", 2, "--n-edits", 4)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("smedit.engine.meta_training.BatchTrainer.train_on", interrupted)
        assert call(*train, "--out", "editor") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted; nothing was written"
    assert not (tmp_path / "editor").exists()
    assert call(*train, "--out", "editor") == 0


def test_an_interruption_of_an_edit_writes_no_editor(facts, capsys, tmp_path, monkeypatch):
    model = save_model(tmp_path / "mine")
    edit = ("edit", "--model", model, "--facts", facts, "--method", "UltraEdit", "--out", "edited")
    edit = (*edit, "--keep-editor", "kept")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("smedit.editing.editors.choose_step_size", interrupted)
        assert call(*edit) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted; nothing was written"
    assert names_in(tmp_path) == ["facts.json", "mine", "resources"]
    assert call(*edit) == 0
    assert names_in(tmp_path) == ["edited", "facts.json", "kept", "mine", "resources"]


def test_an_edit_that_does_little_is_told(facts, capsys, tmp_path):
    model = save_model(tmp_path / "mine")
    edit = ("edit", "--model", model, "--facts", facts, "--method", "UltraEdit", "--out", "edited")
    assert call(*edit, "--step-size", 1e-9) == 0
    assert "warning: the edit does little; name a larger --step-size" in capsys.readouterr().out


def test_settings_of_training_may_be_named(facts, tmp_path, capsys):
    train = ("train", "--model", save_model(tmp_path / "mine"), "--dataset", facts)
    for method, said in (
        ("UltraEdit", "UltraEdit needs no training; smedit edit --method UltraEdit edits at once"),
        ("In context", "In context changes no weights, so there is nothing to train"),
    ):
        assert call(*train, "--method", method, "--out", "none") == 2
        assert said in capsys.readouterr().err
    small = ("--batches", 1, "--n-edits", 4, "--set", "rank=4", "--set", "lr=1e-4")
    assert call(*train, *small, "--out", "editor") == 0
    settings = smedit.load_editor("editor", smedit.load_model("mine")).settings
    assert (settings["rank"], settings["lr"]) == (4, 1e-4)


def test_a_table_that_cannot_be_written_is_told_first(facts, capsys, tmp_path):
    score = ("score", "--model", "none", "--facts", facts, "--table", "nowhere/x.csv")
    assert call(*score) == 2
    assert "--table: there is no folder nowhere; make it first" in capsys.readouterr().err


def test_the_values_of_the_study_are_those_of_its_own_model(tmp_path, monkeypatch):
    monkeypatch.setattr(editors, "studied", lambda *_: {"lr": 0.125})
    mine = smedit.load_model(save_model(tmp_path / "gemma-3-270m"))
    settings = {"batches": 0}
    assert smedit.train_editor(mine, FACTS, **settings).settings["lr"] == editors.LR
    with monkeypatch.context() as patch:
        patch.setattr(editors, "is_of_catalogue", lambda *_: True)
        assert smedit.train_editor(mine, FACTS, **settings).settings["lr"] == 0.125


def test_a_folder_and_a_model_of_the_catalogue_are_told_apart(tmp_path):
    save_model(tmp_path / "gemma-3-270m")
    with pytest.raises(UserError, match=r"in the catalogue, and a folder here; write \./gemma-3-2"):
        smedit.load_model("gemma-3-270m")
    assert smedit.load_model("./gemma-3-270m").spec["source"] == "path"


def test_a_method_for_streams_says_how_it_is_trained_here(tmp_path, caplog):
    smedit.train_editor(opened(tmp_path), FACTS, "RLEdit", batches=1, n_edits=4, **SMALL)
    assert "RLEdit looks back on a stream while it is trained; here it is" in caplog.text


def test_an_edited_folder_that_is_none_or_damaged(tmp_path, capsys):
    assert call("ask", "--edited", "none", "w1") == 2
    assert "none: there is no edited model; make one with smedit edit" in capsys.readouterr().err
    edited(opened(tmp_path), step_size=0.05).save("edited")
    assert call("ask", "--edited", "edited", "--device", "gpu", "w1") == 2
    assert "device: 'gpu' is unknown; use cpu, cuda or auto" in capsys.readouterr().err
    path = tmp_path / "edited/smedit/shifts.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert call("ask", "--edited", "edited", "w1") == 2
    assert "shifts.safetensors: not a whole safetensors file" in capsys.readouterr().err


def test_everything_there_is_can_be_listed(capsys):
    for kind, name in {
        **{"models": "smollm2-135m", "datasets": "worldfacts-qa", "methods": "MALMEN"},
        **{"metrics": "harm", "experiments": "published"},
    }.items():
        assert call("list", kind) == 0
        assert name in capsys.readouterr().out
    assert call("list", "model") == 2
    assert "'model' is not one of 'models', 'datasets'" in capsys.readouterr().err


def test_a_configuration_is_checked_without_running_it(tmp_path, capsys):
    mine = {"models": ["smollm2-135m"], "datasets": ["worldfacts-qa"]}
    mine["experiments"] = {"mine": {"methods": ["SMEdit"], "n_edits": 2}}
    (tmp_path / "mine.yaml").write_text(json.dumps(mine))
    assert call("check", "mine.yaml") == 0
    assert "mine " in capsys.readouterr().out
    (tmp_path / "more.yaml").write_text("experiments: {mine: {n_edit: 2}}")
    assert call("check", "mine.yaml", "more.yaml") == 2
    assert "error: more.yaml: experiments.mine: unknown key 'n_edit'" in capsys.readouterr().err


# --- a method of one's own ------------------------------------------------------------------------


def test_a_method_in_a_package_of_its_own(tmp_path, monkeypatch, capsys):
    """Written by the suite, installed as people install packages, and never named in the suite."""
    assert call("new-method", "Own-of-Tests") == 0
    assert "smedit-own_of_tests/own_of_tests.py" in capsys.readouterr().out
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", "site", "./smedit-own_of_tests"], check=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert call("list", "methods") == 0
    listed = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["Own-of-Tests", "own_of_tests_shift,"] for line in listed)
    model = opened(tmp_path)
    settings = {"batches": 1, "n_edits": 4, **SMALL}
    own = smedit.train_editor(model, FACTS, "Own-of-Tests", **settings)
    same = smedit.train_editor(model, FACTS, "MEND", bp_steps=2, locality="norm", **settings)
    for editor in (own, same):
        editor.found = editor.edit(model, FACTS[4:], step_size=0.05).shifts
    for name, shift in own.found.items():
        assert torch.equal(shift, same.found[name])
    # A changed rule is another run.
    assert len(rule_checksum("own_of_tests:own_of_tests_shift")) == 64
    assert call("new-method", "Own-of-Tests") == 2
    assert "smedit-own_of_tests is there; name another folder" in capsys.readouterr().err
    for name in ("1", "MEND", "torch"):
        assert call("new-method", name, "--out", "x") == 2
    assert "there is a method or a module of that name" in capsys.readouterr().err
    for name in ("Größe", "A\\B"):
        assert call("new-method", name, "--out", "x") == 2
    assert "use the letters A to Z" in capsys.readouterr().err
