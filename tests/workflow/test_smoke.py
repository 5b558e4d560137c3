"""The whole workflow on tiny models: killed, interrupted, finished, and left alone after that."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import yaml

from smedit.data.worldfacts import zsre_rows
from smedit.plan.catalogue import named
from smedit.plan.config import completed
from smedit.plan.config_files import read_file
from smedit.plan.plan import make_plan
from smedit.report.figures import figures_of
from smedit.report.tables import PLACE

ROOT = Path(__file__).parents[2]
RESULTS, FIGURES = ROOT / "smoke/results", ROOT / "smoke/figures"
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "all", "smoke"]
PLAN = make_plan(completed(read_file(ROOT / "config/smoke.yaml")))
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def snakemake(*arguments):
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def finished_runs(log):
    """Result files of the jobs that Snakemake has counted as done.

    A job that wrote its result a moment before the interruption was not counted, and runs again.
    """
    jobs = re.findall(r"output: (\S*/runs/\S*\.json)\n(?:    .*\n)*?    jobid: (\d+)\n", log)
    done = set(re.findall(r"Finished jobid: (\d+) ", log))
    return [ROOT / output for output, job in jobs if job in done]


def stop_after(n_runs, stop, text):
    """Run until so many runs are done, then stop everything; what was done."""
    with text.open("w") as log:
        run = subprocess.Popen(
            COMMAND, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )
        while run.poll() is None and len(finished_runs(text.read_text())) < n_runs:
            time.sleep(0.2)
        stop(run)
        run.wait()
    return finished_runs(text.read_text())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Start from nothing, kill it, interrupt it once some runs are done, then finish it."""
    shutil.rmtree(ROOT / "smoke", ignore_errors=True)
    for model in ("tiny-llama", "tiny-gpt2"):
        shutil.rmtree(ROOT / "resources/models" / model, ignore_errors=True)
    logs = tmp_path_factory.mktemp("smoke")
    runs = stop_after(1, lambda run: os.killpg(run.pid, signal.SIGKILL), logs / "killed")
    runs += stop_after(2, lambda run: run.send_signal(signal.SIGINT), logs / "interrupted")
    early = {path: path.stat().st_mtime_ns for path in runs}
    finished = snakemake()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (logs / "finished").write_text(finished.stdout + finished.stderr)
    return early, logs / "finished"


def test_an_interrupted_run_goes_on_where_it_was(smoke):
    early, _ = smoke
    assert len(early) >= 3
    assert all(path.stat().st_mtime_ns == before for path, before in early.items())
    assert not list((ROOT / "smoke").rglob("*.part"))


def test_a_second_run_does_nothing(smoke):
    def state():
        return {p: p.stat().st_mtime_ns for p in (ROOT / "smoke").rglob("*") if p.is_file()}

    before = state()
    assert snakemake().returncode == 0
    assert state() == before


def table(name):
    return pd.read_csv(RESULTS / f"{name}.csv")


def test_a_run_ends_with_its_scores_and_where_everything_is(smoke):
    said = smoke[1].read_text()
    assert "in_batches, tiny-llama, worldfacts-qa" in said
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
        assert found == expected | {"exact_match", "agreement"}
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
        assert (RESULTS / f"benchmarks/runs/{name}.tsv").is_file()


def test_what_a_run_got_wrong_can_be_read(smoke):
    name = next(n for n, r in PLAN.runs.items() if r.settings.dataset == "worldfacts-qa")
    command = ["smedit", "show", "--results", "smoke/results", "--failed", name]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "requests are not answered word for word" in done.stdout
    assert "wanted '" in done.stdout and "says '" in done.stdout
    assert "generated for request 0: '" in done.stdout


def test_provenance(smoke):
    provenance = json.loads((RESULTS / "provenance.json").read_text())
    assert provenance["packages"]["torch"].startswith("2.13.0")
    assert len(provenance["config_sha256"]) == 64
    assert provenance["job_seconds"]["runs"]["jobs"] == len(PLAN.runs)
    assert list(provenance["engines"].values()) == [len(PLAN.runs)]
    assert {tried["way"] for tried in provenance["self_tests"].values()} == {"fast"}
    rows = provenance["rows"]["worldfacts-qa"]
    counts = {split: counted["rows"] for split, counted in rows.items()}
    assert counts == {"train": 2035, "tune": 359, "eval": 1042}


def test_figures_show_something(smoke):
    drawn = {path.stem for path in FIGURES.glob("*.png")}
    assert drawn == set(figures_of(PLAN.resolved()))
    for name in drawn:
        image = matplotlib.image.imread(FIGURES / f"{name}.png")
        assert min(image.shape[:2]) > 200
        assert image[..., :3].std() > 0.05
        assert (FIGURES / f"{name}.svg").stat().st_size > 5000


def plan(*arguments):
    command = [*COMMAND[:-1], *arguments, "--dry-run", "--quiet", "rules"]
    run = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_without_a_target_everything_is_reproduced():
    text = plan()
    assert "reproduce " in text and "smoke_" not in text


def test_the_benchmark_can_be_planned():
    assert "measure" in plan("bench", "--snakefile", "workflow/benchmark.smk")


def test_long_jobs_share_no_submissions_on_a_cluster():
    """That short ones do is tried on a cluster, in tests/slurm."""
    run = snakemake(
        *("--dry-run", "--forceall", "--workflow-profile", "workflow/profiles/slurm"),
        *("--configfile", "config/smoke.yaml", "--config", "minutes=61"),
    )
    assert run.returncode == 0, run.stderr
    assert "rule run:" in run.stdout and "Group job" not in run.stdout


def test_a_configuration_file_stands_alone(tmp_path):
    part = tmp_path / "part.yaml"
    part.write_text("device: cpu\n")
    run = snakemake("--dry-run", "--configfile", str(part))
    assert run.returncode != 0
    assert f"error: {part}: top level: the key 'models' is missing" in run.stdout + run.stderr


def test_files_given_together_add_up(tmp_path):
    """The first is a copy of the smoke test's, and so names the same models."""
    text = (ROOT / "config/smoke.yaml").read_text(encoding="utf-8")
    assert "results_dir: smoke/results" in text
    copy = tmp_path / "copy.yaml"
    copy.write_text(text.replace("results_dir: smoke/", "results_dir: copy/"))
    files, more = (str(copy), "config/seeds.yaml"), ("--config", "memory_mb=123")
    command = [*COMMAND[:-1], "--dry-run", "--configfile", *files, *more]
    run = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "_seed2" in run.stdout and "mem_mb=123" in run.stdout
    assert "copy/results/runs" in run.stdout and "smoke/results/runs" not in run.stdout


def test_the_files_of_a_dataset_are_what_is_frozen(tmp_path):
    """So Snakemake makes anew what depends on one that changed."""
    rows = [row for row in zsre_rows() if row["split"] != "tune"]
    files = [tmp_path / f"zsre_mend_{split}.json" for split in ("train", "eval")]
    for file, split in zip(files, ("train", "eval"), strict=True):
        file.write_text(json.dumps([row for row in rows if row["split"] == split]))
    spec = f"{{format: zsre, target: alt, source: folder, data_dir: {tmp_path}}}"
    smoke_test = read_file(ROOT / "config/smoke.yaml")
    both = {**named(smoke_test, "datasets"), "worldfacts-qa": yaml.safe_load(spec)}
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump({**smoke_test, "datasets": both}))
    run = snakemake("--dry-run", "--configfile", str(copy))
    assert run.returncode == 0, run.stdout + run.stderr
    inputs = f"input: resources/models/tiny-gpt2, {files[0]}, {files[1]}\n"
    output = "    output: smoke/results/frozen/tiny-gpt2_worldfacts-qa_seed0-"
    assert inputs + output in run.stdout
