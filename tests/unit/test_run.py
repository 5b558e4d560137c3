"""The one kind of run: trained once, measured on the way, interrupted anywhere, diverged."""

import pytest
from run_jobs import QA, failing_at, make_job, numbers, run_job

from smedit.data.readers import load_requests
from smedit.engine.editor import Editor
from smedit.engine.in_context import in_context
from smedit.engine.scores import Scorer, by_request
from smedit.errors import DivergedError
from smedit.run import checkpoint, evaluate, opening, training
from smedit.run.evaluate import joined, measuring_points, perplexity_points
from smedit.store.results import read_result, write_result

SEQUENTIAL = {"protocol": "sequential", "train_batches": 2}


pytestmark = pytest.mark.usefixtures("tiny_runs")


VARIANTS = [
    ("MEND", {}),
    ("MALMEN", {"bp_steps": 2, "train_from": "current"}),
    ("SMEdit", {"locality": "none"}),
    ("SMEdit", {"training": "in_sequence"}),
    ("UltraEdit", {"bp_steps": 2}),
    ("FT-L", {"bp_steps": 3}),
]


@pytest.mark.parametrize(("method", "changes"), VARIANTS, ids=str)
def test_edits_in_batches(method, changes, tmp_path):
    job = make_job(method, [{"train_batches": 2}, {"rows": "tune"}], **changes)
    status, out = run_job(tmp_path, job)
    assert status == 0
    result = read_result(out)
    reported, searched = result["evaluations"]
    steps = job["settings"]["bp_steps"]
    stages = [3] if method == "FT-L" else list(range(1, steps + 1))
    assert [p["stage"] for p in reported["points"]] == [0, *stages]
    assert [p["stage"] for p in searched["points"]] == [0, steps]
    for point in reported["points"]:
        assert point["batches"] == (2 if point["stage"] else 0)
        assert all(len(score["rows"]) == 8 for score in point["scores"])
        assert len(point["text"]) == (2 if point["stage"] else 1)  # one per edited batch
        assert [len(batch) for batch in point["text"]] == [1] * len(point["text"])
        assert point["perplexity"] == []
    assert reported["points"][-1]["change_norm"] > 0
    assert [len(said) for said in reported["says"].values()] == [8, 8]
    assert [each["request"] for each in reported["generated"]] == [0, 1]
    assert searched["generated"] == []
    trained = job["settings"]["training"] != "none"
    per_batch = 1 if job["settings"]["training"] == "in_sequence" else steps
    assert len(result["training"]) == (2 * per_batch if trained else 0)
    assert [e["diverged"] for e in result["evaluations"]] == [None, None]
    assert not list(tmp_path.glob("*.checkpoint")) and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("method", ["SMEdit", "RLEdit", "MALMEN", "UltraEdit", "FT-L"])
def test_edits_in_sequence(method, tmp_path):
    job = make_job(method, [SEQUENTIAL], protocol="sequential", bp_steps=2)
    status, out = run_job(tmp_path, job)
    assert status == 0
    (found,) = read_result(out)["evaluations"]
    assert [p["batches"] for p in found["points"]] == [0, 3, 5]
    assert [len(p["scores"][0]["rows"]) for p in found["points"]] == [20, 12, 20]
    assert [len(p["perplexity"]) for p in found["points"]] == [2, 0, 2]
    assert [len(p["text"]) for p in found["points"]] == [1, 1, 1]
    changes = [p["change_norm"] for p in found["points"]]
    assert changes[0] == 0 < changes[1] != changes[2] > 0


CURVES = [("MALMEN", "in_batches"), ("SMEdit", "in_sequence"), ("RLEdit", "in_sequence")]


@pytest.mark.parametrize(("method", "how"), CURVES)
def test_a_curve_over_training_batches_is_one_training(method, how, tmp_path):
    """Each of its points is that of a run of its own, byte for byte."""
    protocol = "batch" if how == "in_batches" else "sequential"
    points = [{"train_batches": n, "protocol": protocol} for n in (0, 1, 3)]
    status, out = run_job(tmp_path, make_job(method, points, protocol=protocol))
    assert status == 0
    whole = numbers(out)
    assert len({e["points"][-1]["change_norm"] for e in whole["evaluations"]}) == 3
    for point, found in zip(points[1:], whole["evaluations"][1:], strict=True):
        job = make_job(method, [point], protocol=protocol)
        _, alone = run_job(tmp_path, job, name=f"alone-{point['train_batches']}")
        assert numbers(alone)["evaluations"] == [found]


def test_a_step_size_at_edit_time_is_that_of_the_trained_editor(tmp_path):
    """The trained editor at its own start value edits as an untrained one with that value."""
    asked = [{"train_batches": 0}, {"train_batches": 0, "edit_lr": 1e-2}, {"edit_lr": 1e-3}]
    _, out = run_job(tmp_path, make_job("MALMEN", asked))
    trained, same, smaller = (e["points"][-1] for e in numbers(out)["evaluations"])
    assert trained == same
    assert smaller["change_norm"] < same["change_norm"] / 5


def test_parts_at_edit_time_are_those_of_the_trained_editor_or_as_before_training(tmp_path):
    whole = {"train_batches": 2}
    asked = [whole, {**whole, "edit_parts": "only_step_size"}, {"train_batches": 0}]
    asked.append({"train_batches": 0, "edit_parts": "without_blocks"})  # no part is trained
    status, out = run_job(tmp_path, make_job("MALMEN", asked))
    norms = [e["points"][-1]["change_norm"] for e in read_result(out)["evaluations"]]
    assert status == 0
    assert len(set(norms[:3])) == 3
    assert norms[2] == norms[3]


@pytest.mark.parametrize("protocol", ["batch", "sequential"])
def test_in_context_the_fact_stands_in_front_of_every_prompt(protocol, tmp_path):
    """And nothing else changes: its scores are the unedited model's on those prompts."""
    job = make_job("In context", [{"protocol": protocol}], protocol=protocol)
    status, out = run_job(tmp_path, job)
    assert status == 0
    (evaluation,) = read_result(out)["evaluations"]
    before, *_, after = evaluation["points"]
    assert after["change_norm"] == 0
    unedited = {len(paragraphs): paragraphs for paragraphs in before["text"]}
    for measured in after["text"]:
        for (loss, drift, n), (same, _, _) in zip(measured, unedited[len(measured)], strict=True):
            assert (loss, drift) == (pytest.approx(same), 0) and n
    requests = load_requests("qa", QA, 0).eval[:8]
    fact = f"New fact: {requests[0].edit.text} {requests[0].edit.answer}\n"
    asked = [in_context(request) for request in requests]
    prompts = [asked[0].edit, *asked[0].paraphrases, *asked[0].locality]
    assert all(prompt.text.startswith(fact) for prompt in prompts)
    model = opening.open_model(job)
    expected = {
        (s["metric"], s["score"]): s["rows"]
        for s in by_request(Scorer(asked, model.tokenizer).score(model, {}))
    }
    for score in after["scores"]:
        if score["score"] != "agreement":
            assert score["rows"][:8] == expected[score["metric"], score["score"]]


def test_sequential_training_of_several_passes_is_measured_at_their_end(tmp_path, capsys):
    job = make_job("SMEdit", [SEQUENTIAL], protocol="sequential", passes=2)
    status, out = run_job(tmp_path, job)
    assert status == 0
    assert [step["batch"] for step in read_result(out)["training"]] == [1, 2, 3, 4]
    both = [SEQUENTIAL, {**SEQUENTIAL, "train_batches": 1}]
    job = make_job("SMEdit", both, protocol="sequential", passes=2)
    assert run_job(tmp_path, job, name="other")[0] == 2
    assert "ask for one number of train_batches" in capsys.readouterr().err


def test_more_steps_than_networks_are_refused(tmp_path, capsys):
    job = make_job("SMEdit", [{**SEQUENTIAL, "edit_steps": 3}], protocol="sequential")
    assert run_job(tmp_path, job)[0] == 2
    assert "edit_steps 3 is more than bp_steps 2, and each step has" in capsys.readouterr().err


def test_a_network_that_all_steps_share_may_edit_in_more(tmp_path):
    _, out = run_job(tmp_path, make_job("MALMEN", [{"edit_steps": 3}]))
    (found,) = read_result(out)["evaluations"]
    assert [p["stage"] for p in found["points"]] == [0, 1, 2, 3]


# --- interrupted ----------------------------------------------------------------------------------

ASKED = [
    {"train_batches": 1},
    {"train_batches": 3},
    {"train_batches": 3, "protocol": "sequential"},
]


PLACES = [
    ("SMEdit", training.Training, "_train_on", 3),
    ("MALMEN", training.Training, "_train_on", 3),
    ("SMEdit", evaluate.BatchEvaluation, "_next", 2),
    ("MALMEN", evaluate.BatchEvaluation, "_next", 4),
    ("SMEdit", evaluate.SequentialEvaluation, "_next", 4),
]
WHOLE = {}
"""Method → what its run gives that nothing interrupts."""


@pytest.mark.parametrize(("method", "owner", "name", "count"), PLACES)
def test_an_interrupted_run_goes_on_with_the_same_numbers(
    tmp_path, monkeypatch, method, owner, name, count
):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", -1)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", float("inf"))
    how = "in_sequence" if method == "SMEdit" else "in_batches"
    job = make_job(method, ASKED, training=how)
    if method not in WHOLE:
        WHOLE[method] = numbers(run_job(tmp_path, job, name="whole")[1])
    with failing_at(owner, name, count):
        assert run_job(tmp_path, job)[0] == 2
    assert (tmp_path / "result.checkpoint").exists()
    status, out = run_job(tmp_path, job)
    assert status == 0
    assert numbers(out) == WHOLE[method]
    assert not (tmp_path / "result.checkpoint").exists()


def test_the_state_of_another_run_is_not_used(tmp_path, caplog):
    with failing_at(evaluate.BatchEvaluation, "_next", 4):
        assert run_job(tmp_path, make_job("MALMEN", ASKED))[0] == 2
    other = make_job("MALMEN", ASKED, lr=2e-2)
    status, out = run_job(tmp_path, other)
    assert status == 0
    assert "belongs to another run: starting anew" in caplog.text
    _, alone = run_job(tmp_path, other, name="alone")
    assert numbers(out) == numbers(alone)


# --- diverged -------------------------------------------------------------------------------------


def test_training_that_diverges_leaves_what_was_measured_before(tmp_path, monkeypatch):
    trains = training.Training._train_on

    def diverging(self, trainer, number):
        if number == 1:
            raise DivergedError("SMEdit, training batch 2, step 1: non-finite edit loss")
        return trains(self, trainer, number)

    monkeypatch.setattr(training.Training, "_train_on", diverging)
    status, out = run_job(tmp_path, make_job("MALMEN", ASKED))
    assert status == 0
    result = read_result(out)
    first, *others = result["evaluations"]
    assert result["diverged"].startswith("SMEdit, training batch 2")
    assert first["diverged"] is None and len(first["points"]) == 2
    for other in others:
        assert other["diverged"] == {"why": result["diverged"], "batches": 0, "stage": 1}
        assert [p["stage"] for p in other["points"]] == [0]


@pytest.mark.parametrize("protocol", ["batch", "sequential"])
def test_editing_that_diverges_stops_nothing_else(tmp_path, monkeypatch, protocol):
    """In batches no step is complete then; a stream keeps its points so far."""
    edits, calls = Editor.predict, []

    def diverging(self, traced, step):
        calls.append(None)
        if len(calls) == (2 if protocol == "batch" else 4):
            raise DivergedError("non-finite shift of x; try a smaller lr")
        return edits(self, traced, step)

    monkeypatch.setattr(Editor, "predict", diverging)
    asked = [{"protocol": protocol, "train_batches": 0}, {"train_batches": 0, "edit_lr": 1e-3}]
    status, out = run_job(tmp_path, make_job("MALMEN", asked))
    assert status == 0
    ended, other = read_result(out)["evaluations"]
    done = {"batch": 1, "sequential": 3}[protocol]
    assert ended["diverged"]["batches"] == done
    assert "non-finite shift of x; try a smaller lr" in ended["diverged"]["why"]
    assert [p["batches"] for p in ended["points"]] == ([0] if protocol == "batch" else [0, 3])
    assert ended["generated"] == [] and ended["says"] == {}
    assert other["diverged"] is None and len(other["points"]) == 2


def test_a_step_that_diverges_leaves_those_before_it(tmp_path, monkeypatch, caplog):
    job = make_job("MALMEN", [{"train_batches": 0, "edit_steps": 3, "generate": 1}])
    _, whole = run_job(tmp_path, job, name="whole")
    edits, calls = Editor.predict, []

    def diverging(self, traced, step):
        calls.append(None)
        if len(calls) == 3:  # the third step of the first batch
            raise DivergedError("non-finite shift of x; try a smaller lr")
        return edits(self, traced, step)

    monkeypatch.setattr(Editor, "predict", diverging)
    status, out = run_job(tmp_path, job)
    assert status == 0
    (ended,), (expected,) = (read_result(path)["evaluations"] for path in (out, whole))
    assert (
        ended["diverged"]["stage"] == 3
        and "batch 1: MALMEN, editing, step 3" in ended["diverged"]["why"]
    )
    assert [p["stage"] for p in ended["points"]] == [0, 1, 2] and len(calls) == 5
    for ours, theirs in zip(ended["points"], expected["points"], strict=False):
        assert ours["scores"] == theirs["scores"] and ours["text"] == theirs["text"]
    assert ended["generated"] == [] and ended["says"] == {}
    assert "step 3 and what comes after it are left out" in caplog.text


# --- small parts ----------------------------------------------------------------------------------


def test_points_are_spread_evenly_and_end_with_the_stream():
    assert measuring_points(8, 4) == [2, 4, 6, 8]
    assert measuring_points(3, 2) == [2, 3]
    assert measuring_points(2, 4) == [1, 2]
    assert perplexity_points([2, 4, 6, 8]) == [8, 4]


def test_scores_of_batches_are_joined_in_their_places():
    first = [{"metric": "a", "score": "x", "rows": [[1.0], [0.0]]}]
    second = [*first, {"metric": "b", "score": "x", "rows": [[0.5], []]}]
    assert joined([2, 2], [first, second]) == [
        {"metric": "a", "score": "x", "rows": [[1.0], [0.0], [1.0], [0.0]]},
        {"metric": "b", "score": "x", "rows": [[], [], [0.5], []]},
    ]


def test_chosen_values_are_used_and_recorded(tmp_path):
    chosen = tmp_path / "chosen.json"
    values = {"MALMEN": {"lr": 5e-3, "edit_lr": 2e-3}}
    write_result({"search": "s", "model": "tiny", "chosen": values}, chosen)
    wanted = {"search": "s", "variant": "MALMEN", "names": ["lr", "edit_lr"]}
    job = make_job("MALMEN") | {"chosen": wanted}
    status, out = run_job(tmp_path, job, "--chosen", chosen)
    assert status == 0
    result = read_result(out)
    assert result["settings"]["lr"] == 5e-3
    assert result["evaluations"][0]["measurement"]["edit_lr"] == 2e-3
    direct = make_job("MALMEN", [{"edit_lr": 2e-3}], lr=5e-3)
    _, alone = run_job(tmp_path, direct, name="alone")
    assert numbers(alone)["evaluations"] == numbers(out)["evaluations"]


@pytest.mark.parametrize(
    ("search", "values", "message"),
    [
        ("other", {}, "chosen for tiny in other, not for tiny in s; delete it and run the same"),
        ("s", {"MALMEN": {"lr": 1e-3}}, "has no loc_coef for MALMEN; delete it"),
    ],
)
def test_a_choice_for_something_else_is_refused(tmp_path, capsys, search, values, message):
    chosen = tmp_path / "chosen.json"
    write_result({"search": search, "model": "tiny", "chosen": values}, chosen)
    wanted = {"search": "s", "variant": "MALMEN", "names": ["lr", "loc_coef"]}
    job = make_job("MALMEN") | {"chosen": wanted}
    assert run_job(tmp_path, job, "--chosen", chosen)[0] == 2
    assert f"chosen.json: {message}" in capsys.readouterr().err
