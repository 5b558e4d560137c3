import dataclasses
import json

import pytest

from smedit.data.facts import EditRequest, Prompt, Splits, Tally, text_key
from smedit.data.row_counts import naming_an_edited_subject, row_counts
from smedit.data.splits import cut_by_subject, cut_off_tune, disjoint_and_shuffled, split_pool


def request_about(subject: str, fact: int = 0) -> EditRequest:
    prompt = Prompt(f"Question {fact} about {subject}?", "answer")
    return EditRequest(subject, prompt, (prompt,), (prompt,), None)


@pytest.fixture
def pool() -> list[EditRequest]:
    """Two hundred subjects, every fifth with a second fact in other capitals and spacing."""
    requests = [request_about(f"Subject {i}") for i in range(200)]
    return requests + [request_about(f"SUBJECT  {i}", 1) for i in range(0, 200, 5)]


def subjects(requests) -> set[str]:
    return {text_key(request.subject) for request in requests}


def test_a_pool_is_split_by_subject_in_the_stated_shares(pool):
    splits = split_pool(pool, seed=3)
    parts = [subjects(part) for part in (splits.train, splits.tune, splits.eval)]
    assert [len(part) for part in parts] == [120, 20, 60]
    assert set.union(*parts) == subjects(pool)
    assert sum(map(len, splits.parts.values())) == len(pool)


def test_the_draw_is_the_same_on_every_machine(pool):
    splits = split_pool(pool, 0)
    assert [request.subject for request in splits.eval[:3]] == [
        "Subject 103",
        "Subject 85",
        "Subject 124",
    ]


def test_splits_are_shuffled(pool):
    order = [pool.index(request) for request in split_pool(pool, 3).train]
    assert order != sorted(order)


def test_a_shared_subject_stays_in_eval_first_then_tune():
    train = [request_about(name) for name in ("a", "b", "c")]
    tune = [request_about(name) for name in ("B", "d", "e")]
    evaluation = [request_about(name) for name in ("C", "e", "f")]
    splits = disjoint_and_shuffled(train, tune, evaluation, seed=0)
    assert subjects(splits.train) == {"a"}
    assert subjects(splits.tune) == {"b", "d"}
    assert subjects(splits.eval) == {"c", "e", "f"}


def test_the_smallest_pool_has_a_subject_in_every_split():
    splits = split_pool([request_about(name) for name in "abc"], seed=0)
    assert [len(part) for part in splits.parts.values()] == [1, 1, 1]
    with pytest.raises(AttributeError):  # a request cannot be changed
        splits.train[0].subject = "b"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_pool_that_is_too_small_loses_no_request(count):
    splits = split_pool([request_about(name) for name in "ab"[:count]], seed=0)
    assert sum(map(len, splits.parts.values())) == count


def about(subject: str, *locality: str, prompt: str = "", answer: str = "b") -> EditRequest:
    """A request whose locality prompts have the answer "a"."""
    edit = Prompt(prompt or f"{subject} is", answer)
    return EditRequest(subject, edit, (edit,), tuple(Prompt(text, "a") for text in locality), None)


def test_a_scored_locality_prompt_is_never_trained_on_and_no_fact_goes():
    train = [about("a", "Same  is"), about("b", "own"), about("c", "same is", "second", "third")]
    splits = disjoint_and_shuffled(train, [about("d", "third")], [about("e", "same is")], seed=0)
    left = {request.subject: [p.text for p in request.locality] for request in splits.train}
    assert left == {"a": [], "b": ["own"], "c": ["second"]}
    assert [len(part[0].locality) for part in (splits.tune, splits.eval)] == [1, 1]
    assert splits.left_out == (Tally("train", "held by another split", prompts=3),)


def test_facts_of_a_shared_subject_are_counted():
    splits = disjoint_and_shuffled(
        [about("a"), about("a", prompt="a was"), about("b"), about("c")],
        [about("A"), about("d")],
        [about("D"), about("e")],
        seed=0,
    )
    reason = "subject of another split"
    assert splits.left_out == (Tally("tune", reason, rows=1), Tally("train", reason, rows=2))


CONTRADICTING = [
    about("a", "b is", "x", prompt="A is", answer="1"),
    about("a", "A  is", prompt="a is", answer="2"),
    about("a", "x", prompt="a  is", answer="1"),
    about("b", "a is", answer="A"),
]


def test_contradictions_are_counted_and_named():
    splits = disjoint_and_shuffled([about("t")], [], CONTRADICTING, seed=0)
    assert len(splits.eval) == 4
    assert not splits.left_out
    rows, prompts = splits.contradictions
    assert (rows.split, rows.rows, rows.prompts, rows.first) == ("eval", 1, 0, "a is → 2")
    # "b is" is edited to its own answer, in another case.
    assert (prompts.rows, prompts.prompts, prompts.first) == (0, 2, "A  is → a")


def test_contradictions_are_left_out_if_asked_for():
    splits = disjoint_and_shuffled(
        [about("t", "a is", "x")], [], CONTRADICTING, seed=0, leave_out_contradictions=True
    )
    left = {(r.edit.text, r.edit.answer): [p.text for p in r.locality] for r in splits.eval}
    assert left == {("A is", "1"): ["b is", "x"], ("a  is", "1"): ["x"], ("b is", "A"): []}
    assert not splits.contradictions
    counts = [(t.split, t.rows, t.prompts) for t in splits.left_out]
    # What is not scored may be trained on: of train goes "x" alone.
    assert counts == [("eval", 1, 0), ("eval", 0, 1), ("train", 0, 1)]


def test_no_tune_split_gives_its_share_to_eval(pool):
    splits = split_pool(pool, 0, tune_share=0)
    assert [len(subjects(part)) for part in splits.parts.values()] == [120, 0, 80]
    usual = split_pool(pool, 0)
    assert subjects(splits.train) == subjects(usual.train)
    splits = cut_off_tune([about("t")], pool, 0, tune_share=0)
    assert [len(part) for part in splits.parts.values()] == [1, 0, len(pool)]


def test_a_share_of_0_takes_no_subject_from_the_others():
    parts = cut_by_subject([request_about(name) for name in "ab"], (0.6, 0), seed=0)
    assert [len(part) for part in parts] == [1, 0, 1]


def test_a_message_says_why_a_split_has_no_more_rows():
    left_out = (
        Tally("file", "unusable", rows=1),
        Tally("eval", "held by another split", prompts=2),
        Tally("train", "subject of another split", rows=3),
    )
    splits = Splits((), (), (), left_out=left_out, shares={"tune": 0.2, "eval": 0.8})
    assert splits.why("train") == " (left out: 3 rows: subject of another split)"
    assert splits.why("eval") == (
        " (of the subjects of its file 20 % are tune, 80 % are eval; left out: 1 row: unusable; "
        "2 locality prompts: held by another split)"
    )
    assert Splits((), (), ()).why("eval") == ""


def test_every_count_is_written_down():
    splits = disjoint_and_shuffled(
        [about("t", "x")], [about("u")], [about("v", "x"), about("w", "v is")], seed=0
    )
    splits = dataclasses.replace(splits, left_out=(Tally("file", "unusable", 5), *splits.left_out))
    counts = row_counts(splits)
    assert counts["train"] == {
        "rows": 1,
        "without_locality_prompt": 1,
        "left_out": {"held by another split": {"rows": 0, "prompts": 1}},
        "contradictions": {},
        "naming_an_edited_subject": 0,
    }
    assert counts["eval"]["contradictions"] == {
        "a row edits it to another answer": {"rows": 0, "prompts": 1}
    }
    assert counts["eval"]["naming_an_edited_subject"] == 1
    assert counts["file"] == {"left_out": {"unusable": {"rows": 5, "prompts": 0}}}
    json.dumps(counts)


def test_a_subject_is_named_word_by_word():
    prompts = ("Is ANNA  Bo's here", "Anna Boa", "Bo Anna", "the anna bo", "C. D. is", "C D is")
    requests = [about("Anna Bo"), about("C. D."), about("!"), about("e", *prompts, "! ?")]
    assert naming_an_edited_subject(requests) == 4


def test_the_seed_orders_but_never_moves_a_row_to_another_split(pool):
    first, second = split_pool(pool, 3), split_pool(pool, 4)
    for part in ("train", "tune", "eval"):
        assert subjects(getattr(first, part)) == subjects(getattr(second, part))
    assert first.eval != second.eval
