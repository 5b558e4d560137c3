"""The whole workflow on tiny models: killed, interrupted, finished, and left alone after that."""

import json
import re
import shutil
import signal
import time

import pandas as pd
import pytest
import yaml
from runs import ROOT, kill, planned, run, start

from smedit.cli import main
from smedit.plan.config import completed
from smedit.plan.config_files import read_file
from smedit.plan.forecast import is_done
from smedit.plan.plan import make_plan
from smedit.report.figures import figures_of
from smedit.report.tables import PLACE

RESULTS, FIGURES = ROOT / "smoke/results", ROOT / "smoke/figures"
PLAN = make_plan(completed(read_file(ROOT / "config/smoke.yaml")))


STOPPED = 4
"""Jobs that two stops of two jobs each can take between their result and Snakemake's note of it."""


def finished_runs(started):
    """Result files of the jobs that Snakemake has counted as done, by its own log since then.

    A job that wrote its result a moment before the interruption was not counted, and runs again.
    """
    logs = (ROOT / ".snakemake/log").glob("*.log")
    log = "".join(path.read_text() for path in logs if path.stat().st_mtime >= started)
    jobs = re.findall(r"output: (\S*/runs/\S*\.json)\n(?:    .*\n)*?    jobid: (\d+)\n", log)
    done = set(re.findall(r"Finished jobid: (\d+) ", log))
    return [ROOT / output for output, job in jobs if job in done]


def stop_after(n_runs, stop, log):
    """Run until so many runs are done, then stop everything; what was done."""
    started = time.time()
    process = start(ROOT, log)
    while process.poll() is None and len(finished_runs(started)) < n_runs:
        time.sleep(0.2)
    stop(process)
    process.wait()
    return finished_runs(started)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Start from nothing, kill it, interrupt it once some runs are done, then finish it."""
    shutil.rmtree(ROOT / "smoke", ignore_errors=True)
    for model in ("tiny-llama", "tiny-gpt2"):
        shutil.rmtree(ROOT / "resources/models" / model, ignore_errors=True)
    logs = tmp_path_factory.mktemp("smoke")
    runs = stop_after(1, kill, logs / "killed")
    runs += stop_after(2, lambda run: run.send_signal(signal.SIGINT), logs / "interrupted")
    early = {path: path.stat().st_mtime_ns for path in runs}
    status, said = run(ROOT)
    assert status == 0, said
    return early, said


def test_an_interrupted_run_goes_on_where_it_was(smoke):
    early, _ = smoke
    assert len(early) >= 3
    assert all(path.stat().st_mtime_ns == before for path, before in early.items())
    assert not list((ROOT / "smoke").rglob("*.part"))


def test_a_second_run_does_nothing(smoke):
    def state():
        return {p: p.stat().st_mtime_ns for p in (ROOT / "smoke").rglob("*") if p.is_file()}

    before = state()
    assert run(ROOT)[0] == 0
    assert state() == before


def table(name):
    return pd.read_csv(RESULTS / f"{name}.csv")


def test_a_run_ends_with_its_scores_and_where_everything_is(smoke):
    _, said = smoke
    assert "in_batches, tiny-llama, worldfacts-qa" in said
    assert "report   smoke/results/report.html" in said
    assert "tables   smoke/results/summary.csv" in said
    assert "figures  smoke/figures/*.png" in said


def test_scores(smoke):
    scores = table("scores")
    assert not scores.duplicated([*PLACE, "stage", "batches", "scope", "metric", "score"]).any()
    assert scores.diverged.isna().all()
    batch = scores[(scores.protocol == "batch") & (scores["rows"] == "eval")]
    for _, part in batch[batch.method != "FT-L"].groupby(["experiment", "variant", "model"]):
        assert set(part.stage) == set(range(part.edit_steps.iloc[0] + 1))
    bounded = scores[scores.ci_low.notna()]
    assert ((bounded.ci_low <= bounded.value) & (bounded.value <= bounded.ci_high)).all()
    prompts = scores[scores.metric.isin(["efficacy", "generalization", "specificity"])]
    assert prompts.value.between(0, 100).all()
    for dataset, expected in (
        ("worldfacts-qa", {"accuracy"}),
        ("worldfacts-cloze", {"token_success", "sequence_success"}),
    ):
        found = set(prompts[prompts.dataset == dataset].score)
        assert found >= expected | {"exact_match", "agreement", "generated", "stopped"}
    agreement = prompts[prompts.score == "agreement"]
    assert set(agreement[agreement.stage == 0].value) == {100}
    assert agreement[agreement.stage > 0].value.min() < 100


def test_the_model_beside_its_edits_everywhere(smoke):
    scores = table("scores")
    for metric in ("harm", "drift"):
        nats = scores[scores.metric == metric]
        points = scores[["run", "rows", "train_batches", "edit_lr", "stage", "batches"]]
        assert len(nats[points.columns].drop_duplicates()) == len(points.drop_duplicates())
        assert (nats[nats.stage == 0].value == 0).all()
        assert set(nats.n_resampled) == {20}  # paragraphs
        assert (nats[nats.stage > 0].value != 0).all()
    assert (scores[scores.metric == "drift"].value >= 0).all()
    perplexity = scores[scores.metric == "perplexity"]
    assert set(perplexity.protocol) == {"sequential"} and (perplexity.value > 1).all()


def test_before_editing_all_methods_are_the_same(smoke):
    scores = table("scores")
    keys = ["model", "dataset", "rows", "n_requests", "protocol", "scope", "metric", "score"]
    before = scores[(scores.stage == 0) & (scores.n_edits == 4)].groupby(keys, dropna=False)
    assert (before.value.nunique() == 1).all()


def test_editing_does_something(smoke):
    summary = table("summary")
    ours = summary[(summary.experiment == "in_batches") & (summary.variant == "SMEdit")]
    trained = ours[ours.train_batches == 2]
    assert trained.efficacy.mean() > trained.unedited_efficacy.mean() + 10
    assert trained.efficacy.mean() > ours[ours.train_batches == 0].efficacy.mean() + 10
    streams = summary[summary.experiment == "in_sequence"]
    for method in ("SMEdit", "RLEdit", "UltraEdit"):
        mine = streams[streams.method == method]
        assert mine.efficacy.mean() > mine.unedited_efficacy.mean() + 5


def test_a_search_decides(smoke):
    searched, summary = table("chosen"), table("summary")
    assert set(searched.groupby(["model", "variant"]).chosen.sum()) == {1}
    for row in searched[searched.chosen].itertuples():
        used = summary[(summary.experiment == "chosen") & (summary.model == row.model)]
        used = used[used.method == row.variant]
        assert {f"reg_coef {value:g}" for value in used.reg_coef} == {row.values}


def test_timings_memory_and_training(smoke):
    timings = table("timings")
    steps = timings[timings.per == "training step"]
    phases = {"trace", "shift", "edit loss", "locality loss", "hypernetwork update"}
    assert set(steps.phase) == phases
    assert (timings.seconds >= 0).all()
    locality = steps[(steps.phase == "locality loss") & (steps.method == "SMEdit")]
    seconds = locality.groupby("locality").seconds.mean()
    assert seconds["norm"] < seconds["kl"]
    assert set(timings[timings.per == "edited batch"].phase) == {
        *("edit", "score", "held-out text", "generate")
    }
    assert (table("memory").memory_mb > 100).all()
    assert (table("training").gradient_norm > 0).all()


def test_streams(smoke):
    """Each is measured before, midway and at the end."""
    streams = table("scores").query("experiment == 'in_sequence'")
    for _, stream in streams.groupby("run"):
        assert sorted(set(stream.batches)) == [0, 2, 3]
    change = streams[(streams.scope == "weights") & (streams.batches > 0)]
    assert (change.value > 0).all()
    entries = 64 * 256  # the larger of the two models' first edit modules
    assert (change[change.method == "FT-L"].value <= 0.01 * entries**0.5).all()
    assert not list(RESULTS.rglob("*.checkpoint"))


def test_every_run_has_a_log_beside_it_and_a_line_in_the_index(smoke):
    runs = {path.stem for path in (RESULTS / "runs").glob("*.json")}
    assert runs == set(PLAN.runs) == set(table("runs").run)
    for name in runs:
        assert (RESULTS / f"runs/{name}.log").stat().st_size > 0
    timed = {path.stem for path in (RESULTS / "benchmarks/runs").glob("*.tsv")}
    assert timed <= runs and len(timed) >= len(runs) - STOPPED


def test_what_a_run_got_wrong_can_be_read(smoke, monkeypatch, capsys):
    name = next(n for n, r in PLAN.runs.items() if r.settings.dataset == "worldfacts-qa")
    monkeypatch.chdir(ROOT)
    assert main(["show", "--results", "smoke/results", "--failed", name]) == 0
    said = capsys.readouterr().out
    assert "requests are not answered word for word" in said
    assert "wanted '" in said and "says '" in said
    assert "generated for request 0: '" in said


def test_provenance(smoke):
    provenance = json.loads((RESULTS / "provenance.json").read_text())
    assert provenance["packages"]["torch"].startswith("2.13.0")
    assert len(provenance["config_sha256"]) == 64
    timed = len(list((RESULTS / "benchmarks/runs").glob("*.tsv")))
    assert provenance["job_seconds"]["runs"]["jobs"] == timed >= len(PLAN.runs) - STOPPED
    assert list(provenance["engines"].values()) == [len(PLAN.runs)]
    assert {tried["way"] for tried in provenance["self_tests"].values()} == {"fast"}
    rows = provenance["rows"]["worldfacts-qa"]
    counts = {split: counted["rows"] for split, counted in rows.items()}
    assert counts == {"train": 2035, "tune": 359, "eval": 1042}


def test_figures_show_something(smoke):
    drawn = {path.stem for path in FIGURES.glob("*.png")}
    assert drawn == set(figures_of(PLAN.resolved()))
    table = pd.read_csv(RESULTS / "figures.csv", dtype=str)
    assert set(table.figure) == drawn and set(table.drawn) == {"true"}
    assert table.caption.str.contains("Means over 1 seed").all()
    for name in drawn:
        assert (FIGURES / f"{name}.svg").stat().st_size > 5000


def test_who_asks_for_more_has_it_measured_at_once(smoke, tmp_path):
    """What lacks something, and what it needs anew, are planned together; the rest stays."""
    grown = read_file(ROOT / "config/smoke.yaml") | {"n_requests": 24}
    file = tmp_path / "grown.yaml"
    file.write_text(yaml.safe_dump(grown, sort_keys=False), encoding="utf-8")
    plan = make_plan(completed(grown))
    left = [name for name, run in plan.runs.items() if not is_done(run, RESULTS)]
    counts = dict(re.findall(r"^(\w+) +(\d+)$", planned("--configfile", file), re.MULTILINE))
    assert 0 < len(left) < len(plan.runs)
    assert (counts["run"], counts["freeze"]) == (str(len(left)), "4")
    assert "reason:" not in planned("smoke")  # to the smaller one nothing is new
