import pytest

from smedit.facts import EditRequest, Prompt, disjoint_and_shuffled, split_pool, subject_key


def request_about(subject: str, fact: int = 0) -> EditRequest:
    prompt = Prompt(f"Question {fact} about {subject}?", "answer")
    return EditRequest(subject, prompt, (prompt,), (prompt,), None)


@pytest.fixture
def pool() -> list[EditRequest]:
    """Two hundred subjects, every fifth with a second fact in other capitals and spacing."""
    requests = [request_about(f"Subject {i}") for i in range(200)]
    return requests + [request_about(f"SUBJECT  {i}", 1) for i in range(0, 200, 5)]


def subjects(requests) -> set[str]:
    return {subject_key(request.subject) for request in requests}


def test_a_pool_is_split_by_subject_in_the_stated_shares(pool):
    splits = split_pool(pool, seed=3)
    parts = [subjects(part) for part in (splits.train, splits.tune, splits.eval)]
    assert [len(part) for part in parts] == [120, 20, 60]
    assert set.union(*parts) == subjects(pool)
    assert sum(map(len, vars(splits).values())) == len(pool)


def test_splits_depend_on_the_seed_alone(pool):
    assert split_pool(pool, 3) == split_pool(pool, 3)
    assert split_pool(pool, 3) != split_pool(pool, 4)


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
    assert [len(part) for part in vars(splits).values()] == [1, 1, 1]


def test_a_request_cannot_be_changed():
    with pytest.raises(AttributeError):
        request_about("a").subject = "b"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_pool_that_is_too_small_loses_no_request(count):
    splits = split_pool([request_about(name) for name in "ab"[:count]], seed=0)
    assert sum(map(len, vars(splits).values())) == count


def test_a_scored_locality_prompt_is_never_trained_on():
    def about(subject, text):
        prompt = Prompt(text, "a")
        return EditRequest(subject, Prompt(f"{subject} is", "b"), (prompt,), (prompt,), None)

    train = [about("a", "same"), about("b", "own")]
    splits = disjoint_and_shuffled(train, [about("c", "other")], [about("d", "same")], seed=0)
    assert [request.subject for request in splits.train] == ["b"]
    assert len(splits.tune) == len(splits.eval) == 1


def test_the_seed_orders_but_never_moves_a_row_to_another_split(pool):
    first, second = split_pool(pool, 3), split_pool(pool, 4)
    for part in ("train", "tune", "eval"):
        assert subjects(getattr(first, part)) == subjects(getattr(second, part))
    assert first.eval != second.eval
