"""Files of one's own facts, and of other projects: what is read of them, and what is refused."""

import json

import pytest

from smedit.data.fact_files import fact, read_facts
from smedit.data.facts import Prompt
from smedit.errors import UserError

WHOLE = {
    "id": "au",
    "prompt": "The capital of Australia is",
    "target": "Perth",
    "subject": "Australia",
    "paraphrases": ["Australia's capital is", "Australia is governed from"],
    "competing": "Canberra",
    "locality": [{"prompt": "The capital of France is", "answer": "Paris"}],
}
BARE = {"prompt": "Tarvik Osk is a", "target": "baker"}
CSV = """id,prompt,target,paraphrases,locality_prompt,locality_answer
a,"Osk, Tarvik, is a",baker,Tarvik is a | Osk works as a,The capital of France is,Paris
b,Melina Dorn is a,sailor,,,
"""
KNOWEDIT = {
    "subject": "Osk",
    "prompt": "The profession of Osk is",
    "target_new": "baker",
    "ground_truth": [["painter", "artist"]],
    "rephrase_prompt": "Osk works as a",
    "locality": {"Relation_Specificity": [{"prompt": "Osk lives in", "ground_truth": [["Bonn"]]}]},
    "portability": {"Reasoning": []},
}
MQUAKE = {
    "case_id": 7,
    "requested_rewrite": [
        {
            "prompt": "{} was born in",
            "subject": name,
            "target_new": {"str": "Bonn"},
            "target_true": {"str": "Rome"},
            "question": f"Where was {name} born?",
        }
        for name in ("Osk", "Dorn")
    ],
    "single_hops": [],
    "questions": [],
}
COUNTERFACT = {
    "case_id": 3,
    "requested_rewrite": MQUAKE["requested_rewrite"][0],
    "paraphrase_prompts": ["Osk comes from"],
    "neighborhood_prompts": ["Dorn was born in"],
}
ZSRE = {
    **{"subject": "Osk", "src": "Who is Osk?", "rephrase": "Osk is who?", "alt": "a baker"},
    **{"loc": "nq question: who is Dorn", "loc_ans": "a sailor", "answers": ["a painter"]},
}


def written(folder, content, name="facts.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_all_that_is_known_of_a_fact_is_read(tmp_path):
    read = read_facts(written(tmp_path, [WHOLE]))
    (whole,) = read.requests
    assert (read.form, read.ids, read.notes) == ("facts", ("au",), ())
    (bare,) = read_facts(written(tmp_path, [BARE])).requests
    assert whole.subject == "Australia"
    assert whole.edit == Prompt("The capital of Australia is", "Perth", "Canberra")
    assert [p.text for p in whole.paraphrases] == WHOLE["paraphrases"]
    assert whole.locality == (Prompt("The capital of France is", "Paris"),)
    assert (bare.subject, bare.edit) == (BARE["prompt"], Prompt("Tarvik Osk is a", "baker"))
    assert (bare.paraphrases, bare.locality) == ((), ())


def test_a_table_and_lines_of_json_say_the_same(tmp_path):
    table = read_facts(written(tmp_path, CSV, "facts.csv"))
    rows = [
        {
            **{"id": "a", "prompt": "Osk, Tarvik, is a", "target": "baker"},
            "paraphrases": ["Tarvik is a", "Osk works as a"],
            "locality": [{"prompt": "The capital of France is", "answer": "Paris"}],
        },
        {"id": "b", "prompt": "Melina Dorn is a", "target": "sailor"},
    ]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    listed = read_facts(written(tmp_path, lines, "facts.jsonl"))
    assert table.requests == listed.requests
    assert table.ids == listed.ids == ("a", "b")


OTHERS = {
    "knowedit": (KNOWEDIT, "The profession of Osk is", "baker", ["Osk works as a"], 1),
    "mquake": (MQUAKE, "Osk was born in", "Bonn", ["Where was Osk born?"], 0),
    "counterfact": (COUNTERFACT, "Osk was born in", "Bonn", ["Osk comes from"], 1),
    "zsre": (ZSRE, "Who is Osk?", "a baker", ["Osk is who?"], 1),
}


@pytest.mark.parametrize("form", OTHERS)
def test_files_of_other_projects_are_known_by_their_fields(form, tmp_path):
    row, prompt, target, paraphrases, n_locality = OTHERS[form]
    read = read_facts(written(tmp_path, [row]))
    first = read.requests[0]
    assert read.form == form
    assert (first.edit.text, first.edit.answer) == (prompt, target)
    assert [p.text for p in first.paraphrases] == paraphrases
    assert len(first.locality) == n_locality


def test_every_edit_of_a_chain_is_a_fact(tmp_path):
    read = read_facts(written(tmp_path, [MQUAKE]))
    assert [request.subject for request in read.requests] == ["Osk", "Dorn"]
    assert read.ids == ("7.1", "7.2")
    assert read.requests[0].edit.other_answer == "Rome"


OTHER_SHAPES = {
    "lists side by side": {"k": {"prompt": ["Osk lives in", "x"], "ground_truth": [["Bonn"], []]}},
    "several wordings": {"k": [{"prompt": ["Osk lives in", "x"], "ground_truth": "Bonn"}]},
}


@pytest.mark.parametrize("locality", OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_locality_prompts_of_every_shape_are_read(locality, tmp_path):
    request = read_facts(written(tmp_path, [{**KNOWEDIT, "locality": locality}])).requests[0]
    assert request.locality == (Prompt("Osk lives in", "Bonn"),)
    row = {"text": "Osk, born", "labels": "in Bonn", "concept": "osk", "locality": locality}
    bio = read_facts(written(tmp_path, [row]))
    assert (bio.form, bio.requests[0].subject, len(bio.requests[0].locality)) == (
        "wikibio",
        "osk",
        1,
    )


@pytest.mark.parametrize(("said", "between"), [(False, ""), ("no", ""), (True, " "), ("yes", " ")])
def test_nothing_may_stand_between_prompt_and_target(said, between, tmp_path):
    row = {**WHOLE, "prompt": "澳大利亚的首都是", "target": "珀斯", "space": said}
    (request,) = read_facts(written(tmp_path, [row])).requests
    prompts = (request.edit, *request.paraphrases, *request.locality)
    assert {prompt.between for prompt in prompts} == {between}


def test_the_same_fact_twice_counts_once(tmp_path):
    read = read_facts(written(tmp_path, [MQUAKE, {**MQUAKE, "case_id": 0}]))
    assert read.ids == ("7.1", "7.2")
    assert read.notes[-1] == "2 facts left out, the same as earlier ones"


def test_a_fact_in_python_is_that_of_a_file(tmp_path):
    in_file = read_facts(written(tmp_path, [WHOLE])).requests[0]
    more = {key: WHOLE[key] for key in WHOLE if key not in ("id", "prompt", "target")}
    assert fact(WHOLE["prompt"], WHOLE["target"], **more) == in_file
    with pytest.raises(UserError, match="a fact has no 'paraphrase'; did you mean 'paraphrases'"):
        fact("a", "b", paraphrase=["c"])


def test_an_answer_may_be_the_first_of_many(tmp_path):
    request = read_facts(written(tmp_path, [KNOWEDIT])).requests[0]
    assert request.true_answer == "painter"
    assert request.locality == (Prompt("Osk lives in", "Bonn"),)


def test_what_is_not_used_and_what_cannot_be_is_said_once(tmp_path):
    rows = [{**BARE, "source": "me"}, {**BARE, "target": "judge", "source": "you", "year": 1}]
    notes = read_facts(written(tmp_path, rows)).notes
    assert notes[0] == "not used: source, year"
    misspelt = [{**BARE, "paraphrase": "x", "id": 4}, {**BARE, "target": "judge", "id": 4}]
    notes = read_facts(written(tmp_path, misspelt)).notes
    assert notes[0] == "not used: paraphrase (did you mean paraphrases?)"
    assert notes[-1] == "1 id given to several facts; the first: 4"
    assert notes[1] == "1 prompts are given two targets, so one of them fails: tarvik osk is a"


BAD = {
    "no facts": ("[]", "facts.json: holds no facts; write one object with prompt and target per"),
    "no list": ('{"a": 1}', "facts.json: an object instead of a list of facts; write a list"),
    "half a file": ('[{"prompt": ', "facts.json: not complete JSON (Expecting value"),
    "no target": ([{"prompt": "a"}], "facts.json, fact 1, field target: missing; add it or"),
    "no target later": (
        [BARE, {"prompt": "a", "target": ""}],
        "fact 2, field target: missing;",
    ),
    "a number": ([{"prompt": "a", "target": 7}], "target: a number instead of a text; correct it"),
    "other fields": ([{"question": "a"}], "fact 1: has 'question'; a fact needs prompt and"),
    "a text": ([BARE, "b"], "fact 2: a text instead of an object; correct it"),
    "paraphrases": ([{**BARE, "paraphrases": 1}], "field paraphrases: a number instead of a list"),
    "locality": ([{**BARE, "locality": ["x"]}], "field locality[0]: a text instead of an object"),
    "no list of prompts": ([{**KNOWEDIT, "locality": {"k": 3}}], "field locality.k: holds no pro"),
    "no text": ([{**KNOWEDIT, "rephrase": 5}], "field rephrase: a number instead of a text"),
    "two kinds of score": (
        [WHOLE, BARE],
        "facts.json: 1 of 2 facts name no competing answer, the others do; name one for each",
    ),
    "its own rival": (
        [{**BARE, "competing": "baker"}],
        "fact 1, field competing: the same as the target; leave it out",
    ),
    "space": ([{**BARE, "space": "none"}], "field space: 'none'; write false (in a table, no)"),
    "half a locality": (
        [{**BARE, "locality": [{"prompt": "x"}]}],
        "field locality[0].answer: missing; add it or remove the row",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_used_is_named_with_its_place(content, message, tmp_path):
    with pytest.raises(UserError) as error:
        read_facts(written(tmp_path, content))
    assert message in str(error.value)


def test_files_that_are_no_facts(tmp_path):
    with pytest.raises(UserError, match=r"name a file that ends in \.json, \.jsonl, \.csv"):
        read_facts(written(tmp_path, "x", "facts.txt"))
    with pytest.raises(FileNotFoundError):
        read_facts(tmp_path / "none.json")
    (tmp_path / "latin.csv").write_bytes("prompt,target\nÜ,ä\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 text; save it as UTF-8"):
        read_facts(tmp_path / "latin.csv")
    with pytest.raises(UserError, match="fact 1: has more cells than the first line has names"):
        read_facts(written(tmp_path, "prompt,target\na, b,c\n", "facts.csv"))
    unclosed = 'prompt,target\na,b\n"a,b\nc,d\n'
    with pytest.raises(UserError, match="begins in line 3: a quotation mark that is never closed"):
        read_facts(written(tmp_path, unclosed, "facts.csv"))
    with pytest.raises(UserError, match="line 2: not JSON"):
        read_facts(written(tmp_path, '{"prompt": "a", "target": "b"}\n{', "facts.jsonl"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_as_spreadsheets_write_it(separator, tmp_path):
    lines = (["prompt", "target"], ["a, b; c" if separator == "\t" else "a b", "d"])
    content = "\n".join(separator.join(line) for line in lines)
    [request] = read_facts(written(tmp_path, content, "facts.csv")).requests
    assert (request.edit.text, request.edit.answer) == tuple(lines[1])


def test_mixed_scripts_and_a_byte_order_mark_are_taken(tmp_path):
    row = {"prompt": "首都は\u2028", "target": "🦊 أونا"}
    (tmp_path / "facts.json").write_text(json.dumps([row], ensure_ascii=False), "utf-8-sig")
    assert read_facts(tmp_path / "facts.json").requests[0].edit == Prompt("首都は", "🦊 أونا")
    (tmp_path / "facts.jsonl").write_text(json.dumps(row, ensure_ascii=False), "utf-8")
    assert len(read_facts(tmp_path / "facts.jsonl").requests) == 1
