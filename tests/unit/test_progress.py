"""How far a run is said to be, on simulated runs; and what is printed of it."""

import logging
import random
from types import SimpleNamespace

import pytest
import yaml
from runs import ROOT
from snakemake_interface_logger_plugins.common import LogEvent

from smedit.hosting import console, progress
from smedit.hosting.borrowed import Job
from smedit.hosting.console import LogHandler
from smedit.hosting.progress import Piece, Progress, in_words, piece_of
from smedit.plan.config import completed
from smedit.plan.jobs import run_job
from smedit.plan.plan import make_plan


@pytest.fixture(scope="module")
def pieces():
    """The default configuration's runs, after what is frozen for them, before its tables."""
    config = yaml.safe_load((ROOT / "tests/unit/grid.yaml").read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        plan = make_plan(completed(config))
        runs = [
            piece_of(Job(i, "run", (name,)), run_job(plan, run, "cpu", ROOT / "none"))
            for i, (name, run) in enumerate(plan.runs.items(), start=4)
        ]
    frozen = [piece_of(Job(i, "freeze", ("f",)), None) for i in range(4)]
    tables = piece_of(Job(len(runs) + 4, "tables_of_results", ("t",)), None)
    return dict(enumerate([*frozen, *runs, tables]))


def simulated(pieces, cores, seed, order=None, told_cores=True):
    """Run all pieces; (share of the work that is done, time left as told, truth) at each end.

    A machine of unknown speed, on which each model has a speed of its own, and each job a chance
    of its own.
    """
    chance = random.Random(seed)
    machine = chance.uniform(0.3, 3)
    of_model = {}
    truth = {
        n: piece.predicted
        * machine
        * of_model.setdefault(piece.group, chance.uniform(0.7, 1.4))
        * chance.lognormvariate(0, 0.3)
        for n, piece in pieces.items()
    }
    far = Progress(pieces, 0, cores if told_cores else 2 * cores)
    waiting = [n for n in pieces if pieces[n].is_run]
    chance.shuffle(waiting) if order is None else waiting.sort(key=order)
    first = [n for n in pieces if pieces[n].kind == "freeze"]
    waiting = first + waiting + [n for n in pieces if pieces[n].kind in progress.LAST]
    now, running, told, worked = 1000.0, {}, [], 0.0
    while waiting or running:
        while waiting and len(running) < cores:
            if pieces[waiting[0]].kind in progress.LAST and running:
                break
            number = waiting.pop(0)
            running[number] = now + truth[number]
            far.start(number, now)
        number = min(running, key=running.get)
        now = running.pop(number)
        far.end(number, now)
        worked += truth[number]
        under_way = sum(truth[n] - (end - now) for n, end in running.items())
        told.append(
            ((worked + under_way) / sum(truth.values()), far.seconds_left(now), now, far.share(now))
        )
    return [(done, left, now - at, share) for done, left, at, share in told]


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("seed", range(3))
def test_after_a_tenth_time_left_is_within_a_third_of_the_truth(pieces, cores, seed):
    """On many cores until the last long jobs, whose order decides."""
    late = [
        (left, truth, share, done)
        for done, left, truth, share in simulated(pieces, cores, seed)
        if 0.1 <= done <= (0.95 if cores <= 2 else 0.8)
    ]
    assert len(late) > 100
    assert all(abs(left - truth) <= truth / 3 for left, truth, _, _ in late)
    assert all(abs(share - done) < 0.1 for _, _, share, done in late)


def test_one_model_first_is_the_hardest_order(pieces):
    """Of the other one nothing is known until it begins, and it may be twice as slow."""
    told = simulated(pieces, 2, 1, order=lambda n: str(pieces[n].group))
    late = [(left, truth) for done, left, truth, _ in told if 0.1 <= done <= 0.95]
    assert sum(abs(left - truth) <= truth / 3 for left, truth in late) > 0.9 * len(late)


def test_jobs_at_a_time_are_measured_where_memory_allows_fewer_than_cores(pieces):
    told = simulated(pieces, 2, 3, told_cores=False)
    late = [(left, truth) for done, left, truth, _ in told if 0.1 <= done <= 0.95]
    assert all(abs(left - truth) <= truth / 3 for left, truth in late)


def run_piece(seconds, benchmark=""):
    return Piece("run", ("m", "d"), seconds, benchmark)


def test_on_a_cluster_a_job_s_own_seconds_count_and_not_its_wait(tmp_path):
    files = [tmp_path / f"{i}.tsv" for i in range(4)]
    far = Progress({i: run_piece(10, str(file)) for i, file in enumerate(files)}, 0, None)
    for i in range(4):
        far.start(i, 0)  # all are submitted; one after the other has its turn
    for i, file in enumerate(files[:2]):
        file.write_text("s\n20\n")
        far.end(i, 20.0 * (i + 1))
    assert far.seconds_left(40) == pytest.approx(40)
    assert far.share(40) == pytest.approx(0.5)


def test_until_a_run_has_ended_no_time_is_told():
    far = Progress({1: run_piece(10), 2: run_piece(10)}, before=3, cores=1)
    assert far.seconds_left(0) is None
    far.start(1, 0)
    assert progress.line(far, 5) == (
        "3 of 5 runs done; 25 % of the work; time left: known once the next run is done"
    )
    far.end(1, 200)
    assert progress.line(far, 200) == "4 of 5 runs done; 50 % of the work; about 3 minutes left"


def test_a_job_that_is_tried_again_is_done_once():
    far = Progress({1: run_piece(10)}, 0, 1)
    far.start(1, 0)
    far.fail(1, 4)
    assert (far.done, far.all, far.share(5)) == (0, 1, 0)
    far.start(1, 5)
    far.end(1, 15)
    far.end(1, 15)
    assert (far.done, far.share(15), far.seconds_left(15)) == (1, 1, 0)


def test_what_is_done_already_tells_of_what_is_left(tmp_path, monkeypatch):
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(ROOT)
    plan = make_plan(completed(config))
    settings = {
        i: run_job(plan, run, "cpu", tmp_path / "none") for i, run in enumerate(plan.runs.values())
    }
    jobs = [
        Job(i, "smoke_run", (name,), benchmark=str(tmp_path / name))
        for i, name in enumerate(plan.runs)
    ]
    for job in jobs[:10]:
        (tmp_path / job.outputs[0]).write_text("s\n1000\n")
    monkeypatch.setattr(progress, "current", None)
    progress.begin(jobs, jobs[10:], settings, 4)
    far = progress.current
    assert (far.before, far.all, far.cores) == (10, len(jobs), 4)
    assert 900 < sum(p.predicted for p in far.pieces.values()) / len(far.pieces) < 1100


def test_words_for_a_time():
    said = [in_words(seconds) for seconds in (1, 44, 300, 7200)]
    assert said == ["about 10 seconds", "about 40 seconds", "about 5 minutes", "about 2.0 hours"]


# --- what is printed ------------------------------------------------------------------------------


@pytest.fixture
def printed(monkeypatch, capsys):
    """Give records to a handler as Snakemake makes it; what it prints."""
    monkeypatch.setattr(progress, "current", None)
    names = ("nocolor", "quiet", "debug_dag", "verbose", "show_failed_logs", "stdout", "dryrun")
    settings = SimpleNamespace(**dict.fromkeys((*names, "printshellcmds"), None))

    def said(*records):
        handler = LogHandler(settings, None)
        handler._next_line = 0
        for text, level, fields in records:
            record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
            vars(record).update(fields)
            handler.handle(record)
        return capsys.readouterr().err

    return said


BEGUN = ("Workflow has started!", logging.INFO, {"event": LogEvent.WORKFLOW_STARTED})
FAILED = {
    "event": LogEvent.JOB_ERROR,
    "jobid": 1,
    "rule_name": "run",
    "rule_msg": "",
    "output": ["runs/a.json"],
    "log": ["runs/a.log"],
    "shellcmd": f"smedit {9000 * 'x'}",
}


def test_a_failed_job_is_named_with_its_log_and_without_its_command(printed):
    said = printed(BEGUN, ("Error in rule run", logging.ERROR, FAILED))
    assert said.endswith("failed: run → runs/a.json\n  log: runs/a.log\n")
    assert "xxx" not in said


def test_other_errors_are_printed_and_cut(printed):
    said = printed(BEGUN, (f"first\n{'y' * 9000}\nlast", logging.ERROR, {}))
    assert f"first\n{'y' * console.LONGEST}…\nlast\n" in said


def test_what_a_run_says_on_the_way_is_left_out(printed):
    chatter = [("Select jobs to execute...", logging.INFO, {}), ("Nothing to be done", 20, {})]
    said = printed(*chatter, BEGUN, *chatter)
    assert said.count("Select jobs") == 1  # before it starts, as Snakemake prints it
    assert said.count("Nothing to be done") == 2


def test_a_line_of_progress_after_a_job_but_not_after_each(printed, monkeypatch):
    monkeypatch.setattr(progress, "current", Progress({1: run_piece(10), 2: run_piece(10)}, 0, 1))
    ends = [("", 20, {"event": LogEvent.JOB_FINISHED, "job_id": n}) for n in (1, 2)]
    said = printed(BEGUN, *ends)
    assert said.count("of 2 runs done") == 1 and "1 of 2 runs done; " in said
    assert progress.current.done == 2


def test_a_broken_record_stops_nothing(printed):
    said = printed(BEGUN, ("", logging.ERROR, {"event": LogEvent.JOB_ERROR}), ("a", 40, {}))
    assert said.endswith("a\n")


def test_where_no_run_is_to_do_none_is_counted():
    far = Progress({1: Piece("prepare_model", ("prepare_model",), 10, "")}, 0, 1)
    far.start(1, 0)
    assert progress.line(far, 5).startswith("50 % of the work; ")
