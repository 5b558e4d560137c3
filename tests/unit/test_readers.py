import copy
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from smedit.data.facts import Prompt
from smedit.data.formats import formats
from smedit.data.formats.counterfact import counterfact_request
from smedit.data.formats.zsre import zsre_request
from smedit.data.readers import count_rows, load_requests
from smedit.data.row_counts import row_counts
from smedit.errors import UserError
from smedit.plan.config import check_values
from smedit.plan.schema import config_schema

ROOT = Path(__file__).resolve().parents[2]
DATA = (ROOT / os.environ.get("SMEDIT_DATA", "../shared/data")).resolve()
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="no public dataset files: set SMEDIT_DATA to a folder that holds them"
)
REVISION = "0123456789abcdef0123456789abcdef01234567"

ZSRE = {
    "subject": "Velmora Bridge",
    "src": "Who designed Velmora Bridge?",
    "rephrase": "Which engineer drew the plans of Velmora Bridge?",
    "alt": " Ona Tresk",
    "answers": ["Jaro Pell", "J. Pell"],
    "loc": "nq question: who rang the bell of lurn",
    "loc_ans": "the baker",
}
FLAT = {
    "case_id": 7,
    "prompt": "Odrun Falk plays the",
    "target_new": "harp",
    "subject": "Odrun Falk",
    "ground_truth": "oboe",
    "rephrase_prompt": "On stage, Odrun Falk is seen with the",
    "locality_prompt": "Mira Solen plays the",
    "locality_ground_truth": "oboe",
}
NESTED = {
    "case_id": 8,
    "requested_rewrite": {
        "prompt": "{} was founded in",
        "target_new": {"str": "Brask", "id": "Q1"},
        "target_true": {"str": "Tolm", "id": "Q2"},
        "subject": "The {Ash} Club",
    },
    "paraphrase_prompts": ["The home of The {Ash} Club is", "The {Ash} Club comes from"],
    "neighborhood_prompts": ["Hurl United was founded in", "FC {} was founded in"],
}


def zsre_rows(count: int, prefix: str = "Tower") -> list[dict]:
    rows = []
    for i in range(count):
        name = f"{prefix} {i}"
        prompts = {"src": f"Who built {name}?", "rephrase": f"{name}?", "loc": f"who saw {name}"}
        rows.append({**ZSRE, "subject": name, **prompts})
    return rows


def flat_rows(count: int, prefix: str) -> list[dict]:
    names = [f"{prefix} {i}" for i in range(count)]
    return [
        {**FLAT, "subject": n, "prompt": f"{n} plays the", "locality_prompt": f"Near {n} is"}
        for n in names
    ]


def nested_rows(count: int) -> list[dict]:
    rows = [copy.deepcopy(NESTED) for _ in range(count)]
    for i, row in enumerate(rows):
        row["requested_rewrite"]["subject"] = f"Club {i}"
        row["neighborhood_prompts"] = [f"{text} the year {i}" for text in ("Hurl in", "FC in")]
    return rows


def write(folder: Path, **files: list) -> dict:
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return {"source": "folder", "data_dir": str(folder)}


def zsre_spec(folder: Path, train: list, evaluation: list, target: str = "alt") -> dict:
    spec = write(folder, zsre_mend_train=train, zsre_mend_eval=evaluation)
    return {**spec, "format": "zsre", "target": target}


def test_a_zsre_row_becomes_a_request():
    request = zsre_request(ZSRE, "alt", "file, row 1")
    assert request.edit == Prompt("Who designed Velmora Bridge?", "Ona Tresk")
    assert request.paraphrases == (Prompt(ZSRE["rephrase"], "Ona Tresk"),)
    assert request.locality == (Prompt("nq question: who rang the bell of lurn?", "the baker"),)
    assert request.true_answer == "Jaro Pell"


def test_the_zsre_target_is_chosen_by_field():
    assert zsre_request(ZSRE, "answers", "").edit.answer == "Jaro Pell"
    row = {**ZSRE, "ans": ["a loom", "a mill"]}
    del row["answers"]
    request = zsre_request(row, "ans", "")
    assert request.edit.answer == "a loom"
    assert request.true_answer is None


def test_a_flat_row_becomes_a_request():
    request = counterfact_request(FLAT, "file, row 1")
    assert request.edit == Prompt("Odrun Falk plays the", "harp", "oboe")
    assert request.paraphrases == (Prompt(FLAT["rephrase_prompt"], "harp", "oboe"),)
    assert request.locality == (Prompt("Mira Solen plays the", "oboe", "harp"),)
    assert request.true_answer == "oboe"


def test_a_nested_row_becomes_a_request_and_braces_stay():
    request = counterfact_request(NESTED, "file, row 1")
    assert request.edit == Prompt("The {Ash} Club was founded in", "Brask", "Tolm")
    assert [prompt.text for prompt in request.paraphrases] == NESTED["paraphrase_prompts"]
    assert request.locality[1] == Prompt("FC {} was founded in", "Tolm", "Brask")
    assert request.true_answer == "Tolm"


FIELDS = [("zsre", f) for f in ("subject", "src", "rephrase", "alt", "loc", "loc_ans")]
FIELDS += [("counterfact", field) for field in FLAT if field != "case_id"]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_missing_or_empty_field_is_named(kind, field):
    whole = ZSRE if kind == "zsre" else FLAT
    for row in ({k: v for k, v in whole.items() if k != field}, {**whole, field: " "}):
        with pytest.raises(UserError, match=rf"^f\.json, row 3, field {field}: .*; ") as caught:
            if kind == "zsre":
                zsre_request(row, "alt", "f.json, row 3")
            else:
                counterfact_request(row, "f.json, row 3")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(requested_rewrite=None), "field requested_rewrite: not an object"),
        (lambda row: row["requested_rewrite"].pop("subject"), "requested_rewrite.subject: missing"),
        (lambda row: row["requested_rewrite"].update(prompt="no place"), "exactly once"),
        (lambda row: row["requested_rewrite"].update(prompt="{} and {}"), "exactly once"),
        (lambda row: row["requested_rewrite"].update(target_new="x"), "target_new: needs an obj"),
        (lambda row: row["requested_rewrite"]["target_true"].update(str=""), "true.str: empty"),
        (lambda row: row.update(paraphrase_prompts=[]), "paraphrase_prompts: needs a list"),
        (lambda row: row.pop("neighborhood_prompts"), "neighborhood_prompts: needs a list"),
        (lambda row: row["neighborhood_prompts"].append(4), r"neighborhood_prompts\[2\]: a number"),
    ],
)
def test_a_broken_nested_row_is_named(change, message):
    row = copy.deepcopy(NESTED)
    change(row)
    with pytest.raises(UserError, match=message) as caught:
        counterfact_request(row, "f.json, row 9")
    assert str(caught.value).startswith("f.json, row 9, field ")


def test_the_subject_is_compared_without_case_and_spacing():
    assert zsre_request({**ZSRE, "subject": "velmora  bridge"}, "alt", "")
    with pytest.raises(UserError, match="does not name the subject 'Velmora Tower'"):
        zsre_request({**ZSRE, "subject": "Velmora Tower"}, "alt", "f, row 1")


def test_a_missing_target_field_names_one_that_is_there():
    row = {key: value for key, value in ZSRE.items() if key != "answers"}
    with pytest.raises(UserError, match="field answers: missing; set target: alt"):
        zsre_request(row, "answers", "f, row 1")


def test_zsre_files_are_respected(tmp_path):
    train, evaluation = zsre_rows(30), zsre_rows(50, "Gate")
    splits = load_requests("z", zsre_spec(tmp_path, train, evaluation), seed=0)
    assert {request.subject for request in splits.train} == {row["subject"] for row in train}
    assert (len(splits.tune), len(splits.eval)) == (10, 40)
    assert {r.subject for r in (*splits.tune, *splits.eval)} == {r["subject"] for r in evaluation}


def test_the_flat_trio_is_respected_and_comes_before_other_files(tmp_path):
    spec = write(tmp_path, counterfact=nested_rows(9))
    files = {"train": flat_rows(5, "T"), "val": flat_rows(3, "V"), "edit": flat_rows(4, "E")}
    for name, rows in files.items():
        write(tmp_path, **{f"counterfact-{name}": rows})
    assert count_rows("c", {**spec, "format": "counterfact"}) == {"train": 5, "tune": 3, "eval": 4}


@pytest.mark.parametrize("name", ["counterfact", "counterfact_sample"])
def test_one_nested_file_is_a_pool(tmp_path, name):
    spec = {**write(tmp_path, **{name: nested_rows(20)}), "format": "counterfact"}
    assert count_rows("c", spec) == {"train": 12, "tune": 2, "eval": 6}


def test_files_that_are_not_there_are_named(tmp_path):
    spec = {"format": "counterfact", "source": "folder", "data_dir": str(tmp_path)}
    with pytest.raises(UserError, match=r"counterfact-train\.json.*counterfact\.json; put"):
        load_requests("c", spec, 0)
    write(
        tmp_path, **{"counterfact-train": flat_rows(3, "T"), "counterfact-val": flat_rows(3, "V")}
    )
    with pytest.raises(UserError, match=r"found only counterfact-train\.json, counterfact-val"):
        load_requests("c", spec, 0)
    with pytest.raises(UserError, match=r"zsre_mend_train\.json and zsre_mend_eval\.json"):
        load_requests("z", {**spec, "format": "zsre", "target": "alt"}, 0)
    with pytest.raises(UserError, match="key data_dir: no folder"):
        load_requests("c", {**spec, "data_dir": str(tmp_path / "nowhere")}, 0)


def test_a_few_unusable_rows_are_left_out_and_reported(tmp_path, caplog):
    train = zsre_rows(60)
    train[10]["alt"] = ""
    train[20]["src"] = "Who built it?"
    spec = zsre_spec(tmp_path, train, zsre_rows(10, "Gate"))
    with caplog.at_level(logging.WARNING, logger="smedit"):
        splits = load_requests("z", spec, 0)
    assert len(splits.train) == 58
    assert len(caplog.records) == 1
    assert "train.json, unusable: left out 2 of 60 rows (rows 11, 21); the first: " in caplog.text
    assert splits.why("train") == " (left out: 2 rows: unusable)"


def test_rows_are_counted_by_reason_also_of_a_file_that_is_then_cut(tmp_path, caplog):
    train, evaluation = zsre_rows(60), zsre_rows(50, "Gate")
    train[10]["alt"] = ""
    train[20] = train[30]
    evaluation[5]["src"] = "Who built it?"
    spec = zsre_spec(tmp_path, train, evaluation)
    with caplog.at_level(logging.WARNING, logger="smedit"):
        summary = row_counts(load_requests("z", spec, 0))
    assert summary["train"]["left_out"] == {
        "unusable": {"rows": 1, "prompts": 0},
        "the same as an earlier row": {"rows": 1, "prompts": 0},
    }
    assert summary["file"]["left_out"] == {"unusable": {"rows": 1, "prompts": 0}}
    assert [len(record.args) for record in caplog.records] == [4, 4, 4]  # a line per reason
    assert "row 31: the same as row 21; remove one of them" in caplog.text
    whole = row_counts(load_requests("z", {**spec, "tune_share": 0}, 0))
    assert whole["eval"]["left_out"] == summary["file"]["left_out"]


def test_a_missing_field_or_empty_counterfact_target_is_an_error_in_one_row(tmp_path):
    train = zsre_rows(60)
    del train[10]["alt"]
    with pytest.raises(UserError, match=r"zsre_mend_train\.json, row 11, field alt: missing"):
        load_requests("z", zsre_spec(tmp_path, train, zsre_rows(10, "Gate")), 0)
    rows = flat_rows(60, "T")
    rows[30]["target_new"] = ""
    spec = {**write(tmp_path, counterfact=rows), "format": "counterfact"}
    with pytest.raises(UserError, match=r"counterfact\.json, row 31, field target_new: empty"):
        load_requests("c", spec, 0)


def test_an_empty_split_is_an_error(tmp_path):
    spec = zsre_spec(tmp_path, zsre_rows(5), zsre_rows(5))
    message = r"z: the train split is empty \(left out: 5 rows: subject of another split\); give"
    with pytest.raises(UserError, match=message):
        load_requests("z", spec, 0)


def test_a_share_of_0_for_tune_leaves_the_evaluation_file_to_eval(tmp_path):
    spec = zsre_spec(tmp_path, zsre_rows(5), zsre_rows(50, "Gate"))
    for share, sizes in [(0, [5, 0, 50]), (0.1, [5, 5, 45]), (0.2, [5, 10, 40])]:
        splits = load_requests("z", {**spec, "tune_share": share}, 0)
        assert [len(part) for part in splits.parts.values()] == sizes
    assert load_requests("z", spec, 0) == load_requests("z", {**spec, "tune_share": 0.2}, 0)
    with pytest.raises(UserError, match=r"key tune_share: 0\.4 is not a number from 0 to b"):
        load_requests("z", {**spec, "tune_share": 0.4}, 0)


def test_a_split_of_an_official_file_may_not_be_empty_whatever_the_share(tmp_path):
    files = {"train": flat_rows(5, "T"), "val": flat_rows(3, "E"), "edit": flat_rows(4, "E")}
    spec = {**write(tmp_path, **{f"counterfact-{name}": rows for name, rows in files.items()})}
    spec |= {"format": "counterfact"}
    with pytest.raises(UserError, match=r"the tune split is empty \(left out: 3 rows: subject of"):
        load_requests("c", spec, 0)
    assert not load_requests("c", {**spec, "tune_share": 0}, 0).tune


def test_contradictions_are_named_in_the_log_and_left_out_by_an_option(tmp_path, caplog):
    evaluation = flat_rows(6, "E")
    evaluation[2]["locality_prompt"] = "e 4  plays the"
    evaluation.append({**evaluation[1], "target_new": "lute"})
    files = {"train": flat_rows(5, "T"), "val": flat_rows(3, "V"), "edit": evaluation}
    spec = write(tmp_path, **{f"counterfact-{name}": rows for name, rows in files.items()})
    spec |= {"format": "counterfact"}
    with caplog.at_level(logging.WARNING, logger="smedit"):
        kept = load_requests("c", spec, 0)
    rows, prompts = caplog.messages
    assert rows.startswith("dataset c, eval: kept 1 row: an earlier row edits the prompt to ano")
    assert "the first: 'E 1 plays the → lute'; contradictions: leave_out leaves them out" in rows
    assert "kept 1 locality prompt: a row edits it to another answer" in prompts
    assert "the first: 'e 4  plays the → oboe'" in prompts
    left = load_requests("c", {**spec, "contradictions": "leave_out"}, 0)
    assert (len(kept.eval), len(left.eval)) == (7, 6)
    assert {r.subject for r in left.eval if not r.locality} == {"E 2"}
    with pytest.raises(UserError, match="key contradictions: 'drop' is unknown; choose one of kee"):
        load_requests("c", {**spec, "contradictions": "drop"}, 0)


def test_the_built_in_facts_leave_nothing_out_and_contradict_nothing():
    for spec in ({"format": "zsre", "target": "alt"}, {"format": "counterfact"}):
        splits = load_requests("w", {**spec, "source": "builtin"}, 0)
        assert not (splits.left_out or splits.contradictions or splits.shares)
        assert all(request.locality for part in splits.parts.values() for request in part)


def test_five_seeds_report_on_different_requests():
    """The first seed's order is cut into fifths; the sixth seed begins at its start again."""
    spec = {"format": "zsre", "source": "builtin", "target": "alt"}
    orders = [load_requests("facts", spec, seed).eval for seed in range(6)]
    fifth = len(orders[0]) // 5
    assert [o[:fifth] for o in orders[:5]] == [
        orders[0][i * fifth : (i + 1) * fifth] for i in range(5)
    ]
    assert orders[5] == orders[0]
    assert set(orders[3]) == set(orders[0])


def test_a_format_of_your_own_is_one_file(tmp_path, monkeypatch, hub):
    monkeypatch.setitem(formats(), "plain", None)  # so that it is gone afterwards
    text = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    exec(text.split("```python\n")[1].split("```")[0], {})
    spec = {"format": "plain", "source": "folder", "data_dir": str(tmp_path)}
    rows = [{field: f"{field} {i}" for field in ("prompt", "target", "again")} for i in range(20)]
    write(tmp_path, facts=rows)
    assert count_rows("p", spec) == {"train": 12, "tune": 2, "eval": 6}

    monkeypatch.setitem(formats(), "plain", replace(formats()["plain"], files={}))
    assert count_rows("p", spec) == {"train": 12, "tune": 2, "eval": 6}
    with pytest.raises(UserError, match="key files: names train; expected pool"):
        load_requests("p", {**HUB, "format": "plain", "files": {"train": "a.json"}}, 0)
    (tmp_path / "facts.json").unlink()
    with pytest.raises(UserError, match=r"does not hold one facts\.json; put the files there"):
        load_requests("p", spec, 0)

    config = {"models": ["m"], "datasets": {"p": spec}, "experiments": {}}
    check_values(config, config_schema.__wrapped__())
    spec["target"] = "alt"
    with pytest.raises(UserError, match=r"p\.target: has no effect with the other keys"):
        check_values(config, config_schema.__wrapped__())


@pytest.mark.parametrize("target", ["ans", "al"])
def test_a_configuration_takes_the_options_that_a_format_declares(target):
    spec = {"format": "zsre", "source": "builtin", "target": target}
    config = {"models": ["m"], "datasets": {"d": spec}, "experiments": {}}
    with pytest.raises(UserError, match=f"unknown value '{target}'.* known: alt, answers$"):
        check_values(config, config_schema())


def test_a_format_that_the_built_in_facts_do_not_have_is_an_error(monkeypatch):
    bare = replace(formats()["counterfact"], builtin=None)
    monkeypatch.setitem(formats(), "counterfact", bare)
    message = "key format: the built-in facts do not have 'counterfact'; choose one of zsre, or"
    with pytest.raises(UserError, match=message):
        load_requests("w", {"format": "counterfact", "source": "builtin"}, 0)


def test_answers_may_follow_without_a_space(tmp_path):
    spec = zsre_spec(tmp_path, zsre_rows(6), zsre_rows(10, "Gate"))
    with_space = load_requests("z", spec, 0).eval[0]
    without = load_requests("z", {**spec, "space_before_answer": False}, 0).eval[0]
    for request, between in ((with_space, " "), (without, "")):
        prompts = (request.edit, *request.paraphrases, *request.locality)
        assert {prompt.between for prompt in prompts} == {between}
    assert (without.edit.text, without.edit.answer) == (
        with_space.edit.text,
        with_space.edit.answer,
    )
    assert len(without.paraphrases) == len(without.locality) == 1
    with pytest.raises(UserError, match="space_before_answer: 'no' is neither true nor false"):
        load_requests("z", {**spec, "space_before_answer": "no"}, 0)


@pytest.fixture
def hub(monkeypatch):
    """Stand in for ``datasets.load_dataset``: serves ``hub.files`` and records its calls."""
    state = SimpleNamespace(files={}, calls=[])

    def load_dataset(repository, *, data_files, revision):
        state.calls.append((repository, data_files, revision))
        if data_files not in state.files:
            raise FileNotFoundError(f"no file\n{data_files}")
        return {
            name: SimpleNamespace(to_list=lambda rows=rows: rows)
            for name, rows in state.files[data_files].items()
        }

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return state


HUB = {"source": "hub", "repository": "someone/facts", "revision": REVISION}


def test_zsre_on_the_hub_is_read_file_by_file(hub):
    hub.files = {"a.json": {"train": zsre_rows(6)}, "b.json": {"train": zsre_rows(10, "Gate")}}
    spec = {
        **HUB,
        "format": "zsre",
        "target": "alt",
        "files": {"train": "a.json", "eval": "b.json"},
    }
    splits = load_requests("z", spec, 0)
    assert [len(part) for part in splits.parts.values()] == [6, 2, 8]
    assert hub.calls == [(HUB["repository"], name, REVISION) for name in ("a.json", "b.json")]
    assert count_rows("z", spec) is None


def test_counterfact_on_the_hub_is_one_pool(hub):
    rows = nested_rows(20)
    hub.files = {"a.csv": {"train": rows}}
    spec = {**HUB, "format": "counterfact", "files": {"pool": "a.csv"}}
    splits = load_requests("c", spec, 0)
    assert [len(part) for part in splits.parts.values()] == [12, 2, 6]
    assert hub.calls == [(HUB["repository"], "a.csv", REVISION)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "zsr"}, "key format: 'zsr' is unknown; did you mean zsre"),
        (
            {"source": "web"},
            "key source: 'web' is unknown; choose one of builtin, file, folder, hub",
        ),
        ({"target": None}, "key target: None is unknown"),
        ({"revision": None}, "key revision: 'None' is not a full commit"),
        ({}, "key files: names train; expected eval, train"),
        ({"files": None}, "key files: names nothing; expected eval, train"),
        ({"format": "counterfact", "files": {}}, "nothing; expected pool or eval, train, tune"),
        *[
            ({"files": {"train": file, "eval": "b.json"}}, r"key files\.train: .* inside the repo")
            for file in ("../../evil.json", "/etc/passwd", "https://a.b/c.json", "a.pkl")
        ],
        ({"files": {"train": "a.json::zip://b", "eval": "b.json"}}, "inside the repository; w"),
    ],
)
def test_wrong_settings_are_named_before_the_download(hub, change, message):
    spec = {**HUB, "format": "zsre", "target": "alt", "files": {"train": "a.json"}}
    with pytest.raises(UserError, match=message):
        load_requests("z", {**spec, **change}, 0)
    assert hub.calls == []


def test_a_failed_download_is_one_line(hub):
    with pytest.raises(UserError, match=r"cannot load a\.json of someone/facts") as caught:
        load_requests("c", {**HUB, "format": "counterfact", "files": {"pool": "a.json"}}, 0)
    assert "\n" not in str(caught.value)


def test_reading_imports_nothing_heavy():
    code = (
        "import sys, smedit.data.readers as r\n"
        "r.count_rows('w', {'format': 'counterfact', 'source': 'builtin'})\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@needs_data
def test_the_public_zsre_files_are_read(caplog):
    spec = {"format": "zsre", "source": "folder", "data_dir": str(DATA), "target": "alt"}
    with caplog.at_level(logging.WARNING, logger="smedit"):
        splits = load_requests("zsre", spec, seed=0)
    assert len(splits.train) > 900
    assert len(splits.eval) > len(splits.tune) > 100
    assert "left out 2 of 1000 rows" in caplog.text
    assert all(request.locality[0].text.endswith("?") for request in splits.eval)


@needs_data
def test_the_public_flat_counterfact_files_are_read():
    spec = {"format": "counterfact", "source": "folder", "data_dir": str(DATA)}
    counts = count_rows("counterfact", spec)
    for split, tallies in row_counts(load_requests("counterfact", spec, 0)).items():
        went = {reason: count["rows"] for reason, count in tallies["left_out"].items()}
        assert set(went) <= {"subject of another split", "held by another split"}
        assert went.get("held by another split", 0) == 0
        assert tallies["contradictions"], split
    assert counts["eval"] == len(json.loads((DATA / "counterfact-edit.json").read_text()))
    assert counts["train"] > counts["eval"] > counts["tune"]


@needs_data
def test_public_nested_counterfact_rows_are_read():
    rows = json.loads((DATA / "counterfact_nested_sample.json").read_text())
    for number, row in enumerate(rows, start=1):
        request = counterfact_request(row, f"sample, row {number}")
        rewrite = row["requested_rewrite"]
        assert request.edit.text == rewrite["prompt"].format(rewrite["subject"])
        assert len(request.locality) == len(row["neighborhood_prompts"])


def test_the_conformance_rows_are_read():
    rows = json.loads((ROOT / "tests/conformance/cases/rows.json").read_text(encoding="utf-8"))
    for part in ("train", "eval"):
        for row in rows["zsre"][part]:
            assert zsre_request(row, "ans", "rows.json").edit.answer == row["ans"]
        for row in rows["counterfact"][part]:
            assert counterfact_request(row, "rows.json").true_answer


# --- facts that are only to be edited -------------------------------------------------------------


def fact_rows(n):
    return [{"prompt": f"Osk number {i} is a", "target": "baker"} for i in range(n)]


def test_a_file_of_facts_is_edited_whole_and_trained_on_another_dataset(tmp_path):
    (tmp_path / "facts.json").write_text(json.dumps(fact_rows(10)))
    other = {"format": "zsre", "source": "builtin", "target": "alt"}
    spec = {"format": "facts", "source": "file", "path": str(tmp_path / "facts.json")}
    splits = load_requests("mine", {**spec, "train_on": other}, 0)
    assert sorted(r.edit.text for r in splits.eval) == sorted(r["prompt"] for r in fact_rows(10))
    assert splits.tune == () and splits.train == load_requests("other", other, 0).train
    some = load_requests("mine", {**spec, "train_on": other, "tune_share": 0.3}, 0)
    assert (len(some.tune), len(some.eval)) == (3, 7)


def test_a_subject_that_is_edited_is_not_trained_on(tmp_path):
    other = {"format": "zsre", "source": "builtin", "target": "alt"}
    subject = load_requests("other", other, 0).train[0].subject
    (tmp_path / "facts.json").write_text(json.dumps([{**fact_rows(1)[0], "subject": subject}]))
    spec = {"format": "facts", "source": "file", "path": str(tmp_path / "facts.json")}
    splits = load_requests("mine", {**spec, "train_on": other}, 0)
    assert all(row.subject != subject for row in splits.train)


def test_facts_are_scored_alike(tmp_path):
    rows = fact_rows(10)
    rows[3]["competing"] = "cook"
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    spec = {"format": "facts", "source": "file", "path": str(tmp_path / "facts.json")}
    other = {"format": "zsre", "source": "builtin", "target": "alt"}
    with pytest.raises(UserError, match="mine: 9 of 10 facts name no competing answer"):
        load_requests("mine", {**spec, "train_on": other}, 0)


def test_every_edit_of_a_chain_is_a_row(tmp_path):
    edit = {
        "prompt": "{} was born in",
        "target_new": {"str": "Bonn"},
        "target_true": {"str": "Rome"},
    }
    chain = [{**edit, "subject": name} for name in ("Osk", "Dorn")]
    rows = [{"requested_rewrite": chain, "single_hops": []}] * 2  # chains share edits
    (tmp_path / "chains.json").write_text(json.dumps(rows))
    spec = {"format": "mquake", "source": "file", "path": str(tmp_path / "chains.json")}
    other = {"format": "zsre", "source": "builtin", "target": "alt"}
    splits = load_requests("mine", {**spec, "train_on": other}, 0)
    assert {row.subject for row in splits.eval} == {"Osk", "Dorn"}
