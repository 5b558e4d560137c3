"""A run that goes on from what another left: asked for more, for less, on more rows; and times."""

import time

import pytest
from run_jobs import failing_at, make_freeze, make_job, numbers, run_job

from smedit.run import checkpoint, evaluate, training
from smedit.store.results import EARLIER, read_result, write_result

KEEP = {"keep_editor": True}
SEQUENTIAL = {"protocol": "sequential", "train_batches": 1}


pytestmark = pytest.mark.usefixtures("tiny_runs")


def alone(folder, job):
    """The numbers of a job that nothing was left for."""
    _, out = run_job(folder, job | {"keep_editor": False}, name="alone")
    return numbers(out)


def goes_on(folder, more, n_batches, freeze=None):
    """A job that finds a kept editor and trains it on so many batches more."""
    with failing_at(training.Training, "_train_on", n_batches + 1):
        status, out = run_job(folder, more, freeze=freeze)
    assert status == 0 and numbers(out) == alone(folder, more)


def test_a_kept_editor_outlives_a_run_that_asks_for_less(tmp_path):
    run_job(tmp_path, make_job("MALMEN", [{"train_batches": 2}]) | KEEP)
    for size in (0, 1):
        less = make_job("MALMEN", [{"train_batches": size}]) | KEEP
        _, out = run_job(tmp_path, less)
        assert numbers(out) == alone(tmp_path, less)
    goes_on(tmp_path, make_job("MALMEN", [{"train_batches": 2, "edit_lr": 1e-3}]) | KEEP, 0)


@pytest.mark.parametrize("how", ["in_batches", "in_sequence"])
def test_a_kept_editor_is_trained_on(tmp_path, how):
    run_job(tmp_path, make_job("SMEdit", [{"train_batches": 2}], training=how) | KEEP)
    more = make_job("SMEdit", [{"train_batches": 2}, {"train_batches": 3}], training=how) | KEEP
    goes_on(tmp_path, more, 1)


def test_a_kept_editor_outlives_more_frozen_rows(tmp_path):
    run_job(tmp_path, make_job("MALMEN", [{"train_batches": 2}]) | KEEP)
    for file in ("states.safetensors", "before.json"):
        (tmp_path / file).unlink()
    more = make_job("MALMEN", [{"train_batches": 2, "n_requests": 24}]) | KEEP
    goes_on(tmp_path, more, 0, make_freeze(rows={"train": 16, "tune": 8, "eval": 24}))


def test_an_interrupted_run_may_be_asked_for_less(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", -1)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", float("inf"))
    for size in (0, 1):
        with failing_at(training.Training, "_train_on", 4):
            assert run_job(tmp_path, make_job("MALMEN", [{"train_batches": 4}]))[0] == 2
        less = make_job("MALMEN", [{"train_batches": size}])
        _, out = run_job(tmp_path, less)
        assert numbers(out) == alone(tmp_path, less)


def test_a_stream_is_saved_where_it_is_measured(tmp_path):
    """Also one that takes less than a minute."""
    job = make_job("MALMEN", [SEQUENTIAL])
    with failing_at(evaluate.SequentialEvaluation, "_next", 5):
        assert run_job(tmp_path, job)[0] == 2
    with failing_at(evaluate.SequentialEvaluation, "_next", 3):  # two are left
        status, out = run_job(tmp_path, job)
    assert status == 0 and numbers(out) == alone(tmp_path, job)


def test_measuring_leaves_the_trained_editor_as_it_is(tmp_path):
    """Its normalizers, too: they learn from what is edited, in a copy."""
    asked = [{**SEQUENTIAL, "rows": "tune", "n_batches": 2}, {"train_batches": 2}]
    _, out = run_job(tmp_path, make_job("MALMEN", asked))
    _, other = run_job(tmp_path, make_job("MALMEN", asked[1:]), name="other")
    assert numbers(out)["evaluations"][1:] == numbers(other)["evaluations"]


def test_times_of_editing_count_every_trace(tmp_path, monkeypatch):
    """A trace that is used again counts as if it had been made again."""
    made = evaluate.trace

    def slow(*arguments):
        time.sleep(0.2)
        return made(*arguments)

    monkeypatch.setattr(evaluate, "trace", slow)
    _, out = run_job(tmp_path, make_job("MEND", [{"train_batches": n} for n in (0, 1)], bp_steps=2))
    for found in read_result(out)["evaluations"]:
        assert found["seconds"]["edit"] > 2 * 0.2  # two batches
        first, last = (point["edit_seconds"] for point in found["points"][1:])
        assert 2 * 0.2 < first < last
    _, out = run_job(tmp_path, make_job("FT-L", [{}, {"rows": "tune"}], bp_steps=2))
    assert all(e["seconds"]["edit"] < 0.2 for e in read_result(out)["evaluations"])


def test_fine_tuning_has_no_step_size_of_its_own_at_edit_time(tmp_path):
    job = make_job("FT-L", [{}], bp_steps=2)
    with_one = {**job, "asked": [job["asked"][0] | {"edit_lr": 1e-3}]}
    _, out = run_job(tmp_path, with_one)
    found, expected = numbers(out)["evaluations"][0], alone(tmp_path, job)["evaluations"][0]
    assert found["points"] == expected["points"]


# --- what an earlier result measured --------------------------------------------------------------


def set_aside(folder, job):
    """The result of a job, as the workflow sets it aside when more is asked for."""
    _, out = run_job(folder, job)
    result = read_result(out)
    out.rename(out.with_suffix(EARLIER))
    return result


def extended(folder, more, n_batches, n_measured):
    """A job that trains on so many batches and measures so much; its result is as from nothing."""
    with (
        failing_at(training.Training, "_train_on", n_batches + 1),
        failing_at(evaluate.Evaluation, "run", n_measured + 1),
    ):
        status, out = run_job(folder, more)
    assert status == 0 and numbers(out) == alone(folder, more)
    assert not out.with_suffix(EARLIER).exists()
    return read_result(out)


@pytest.mark.parametrize("how", ["in_batches", "in_sequence"])
@pytest.mark.parametrize("protocol", ["batch", "sequential"])
def test_what_a_result_has_is_not_measured_again(tmp_path, how, protocol):
    asked = [{"train_batches": 1, "protocol": protocol}, {"train_batches": 2}]
    before = set_aside(tmp_path, make_job("SMEdit", asked, training=how))
    smaller = {"train_batches": 1, "edit_lr": 1e-3}
    after = extended(tmp_path, make_job("SMEdit", [smaller, *asked], training=how), 1, 1)
    assert after["evaluations"][1:] == before["evaluations"]  # their seconds, too
    assert after["training"] == before["training"]
    larger = {"train_batches": 3}
    set_aside(tmp_path, make_job("SMEdit", asked, training=how))
    extended(tmp_path, make_job("SMEdit", [*asked, larger], training=how), 3, 1)


def test_without_training_an_editor_is_the_same(tmp_path):
    set_aside(tmp_path, make_job("FT-L", [{}]))
    extended(tmp_path, make_job("FT-L", [{}, {"rows": "tune"}]), 0, 1)


def another_loss(result):
    result["training"][0]["edit_loss"] += 1e-6


def another_version(result):
    result["engine"] = "another"


def another_model(result):
    result["evaluations"][0]["points"][0]["change_norm"] += 1e-6


@pytest.mark.parametrize("change", [another_loss, another_version, another_model])
def test_another_editor_is_measured_anew(tmp_path, change):
    asked = [{"train_batches": 1}, {"train_batches": 2}]
    result = set_aside(tmp_path, make_job("MALMEN", asked[:1]))
    change(result)
    write_result(result, tmp_path / f"result{EARLIER}")
    extended(tmp_path, make_job("MALMEN", asked), 3, 2)


def test_a_damaged_earlier_result_is_not_used(tmp_path):
    set_aside(tmp_path, make_job("MALMEN", [{"train_batches": 1}]))
    (tmp_path / f"result{EARLIER}").write_text("{")
    extended(tmp_path, make_job("MALMEN", [{"train_batches": 1}, {"train_batches": 2}]), 2, 2)


def test_an_editor_that_is_to_be_kept_is_trained_to_the_end(tmp_path):
    set_aside(tmp_path, make_job("MALMEN", [{"train_batches": 2}]))
    asked = [{"train_batches": 2}, {"train_batches": 2, "edit_lr": 1e-3}]
    run_job(tmp_path, make_job("MALMEN", asked) | KEEP)
    (tmp_path / "result.json").unlink()
    goes_on(tmp_path, make_job("MALMEN", asked) | KEEP, 0)


def test_numbers_do_not_depend_on_what_else_is_frozen(tmp_path):
    job = make_job("SMEdit", [{"train_batches": 2}])
    found = []
    for name, rows in (("few", 8), ("many", 40)):
        folder = tmp_path / name
        folder.mkdir()
        freeze = make_freeze(rows={"train": rows, "tune": 8, "eval": rows})
        found.append(numbers(run_job(folder, job, freeze=freeze)[1]))
    assert found[0] == found[1]
