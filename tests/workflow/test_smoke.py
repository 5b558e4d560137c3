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

from smedit.data.worldfacts import zsre_rows
from smedit.plan.grid import CELL_COLUMNS
from smedit.plan.stream_grid import STREAM_COLUMNS

ROOT = Path(__file__).parents[2]
RESULTS, FIGURES = ROOT / "smoke/results", ROOT / "smoke/figures"
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "all", "smoke"]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def snakemake(*arguments):
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def finished_cells(log):
    """Result files of the jobs that Snakemake has counted as done.

    A job that wrote its result a moment before the interruption was not counted, and runs again.
    """
    jobs = re.findall(r"output: (\S*/cells/\S*\.json)\n(?:    .*\n)*?    jobid: (\d+)\n", log)
    done = set(re.findall(r"Finished jobid: (\d+) ", log))
    return [ROOT / output for output, job in jobs if job in done]


def stop_after(n_cells, stop, text):
    """Run until so many cells are done, then stop the run; the cells that it did."""
    with text.open("w") as log:
        run = subprocess.Popen(
            COMMAND, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )
        while run.poll() is None and len(finished_cells(text.read_text())) < n_cells:
            time.sleep(0.2)
        stop(run)
        run.wait()
    return finished_cells(text.read_text())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Start from nothing, kill it, interrupt it once some cells are done, then finish it."""
    shutil.rmtree(ROOT / "smoke", ignore_errors=True)
    for model in ("tiny-llama", "tiny-gpt2"):
        shutil.rmtree(ROOT / "resources/models" / model, ignore_errors=True)
    logs = tmp_path_factory.mktemp("smoke")
    cells = stop_after(1, lambda run: os.killpg(run.pid, signal.SIGKILL), logs / "killed")
    cells += stop_after(2, lambda run: run.send_signal(signal.SIGINT), logs / "interrupted")
    early = {path: path.stat().st_mtime_ns for path in cells}
    finished = snakemake()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return early


def test_an_interrupted_run_goes_on_where_it_was(smoke):
    assert len(smoke) >= 3
    assert all(path.stat().st_mtime_ns == before for path, before in smoke.items())
    assert not list((ROOT / "smoke").rglob("*.part"))


def test_a_second_run_does_nothing(smoke):
    def state():
        return {p: p.stat().st_mtime_ns for p in (ROOT / "smoke").rglob("*") if p.is_file()}

    before = state()
    assert snakemake().returncode == 0
    assert state() == before


def test_scores(smoke):
    scores = pd.read_csv(RESULTS / "scores.csv")
    assert not scores.duplicated([*CELL_COLUMNS, "stage", "metric", "score"]).any()
    for _, cell in scores.groupby(CELL_COLUMNS):
        assert set(cell.stage) == set(range(cell.bp_steps.iloc[0] + 1))
        assert set(cell[cell.metric == "perplexity"].stage) == {0, cell.bp_steps.iloc[0]}
    assert ((scores.ci_low <= scores.value) & (scores.value <= scores.ci_high)).all()
    text = scores[scores.metric == "perplexity"]
    assert (text.value > 1).all()
    assert set(text.n_requests) == {40}
    scores = scores[scores.metric != "perplexity"]
    assert set(scores.metric) == {"efficacy", "generalization", "specificity"}
    assert scores.value.between(0, 100).all()
    assert set(scores.n_requests) == {8}
    for dataset, expected in (
        ("worldfacts-qa", {"accuracy"}),
        ("worldfacts-cloze", {"token_success", "sequence_success"}),
    ):
        found = set(scores[scores.dataset == dataset].score)
        assert found == expected | {"exact_match", "agreement"}
    agreement = scores[scores.score == "agreement"]
    assert set(agreement[agreement.stage == 0].value) == {100}
    assert agreement[agreement.stage > 0].value.min() < 100


def test_before_editing_all_methods_are_the_same(smoke):
    scores = pd.read_csv(RESULTS / "scores.csv")
    before = scores[scores.stage == 0].groupby(["model", "dataset", "metric", "score"])
    assert (before.value.nunique() == 1).all()


def test_editing_does_something(smoke):
    scores = pd.read_csv(RESULTS / "scores.csv")
    efficacy = scores[(scores.metric == "efficacy") & (scores.variant == "SMEdit")]
    after = efficacy[efficacy.stage == efficacy.bp_steps].value.mean()
    assert after > efficacy[efficacy.stage == 0].value.mean() + 10


def test_timings_memory_training_and_tuning(smoke):
    timings = pd.read_csv(RESULTS / "timings.csv")
    steps = timings[timings.per == "training step"]
    phases = {"trace", "shift", "edit loss", "locality loss", "hypernetwork update"}
    assert set(steps.phase) == phases
    assert (timings.seconds >= 0).all()
    locality = steps[(steps.phase == "locality loss") & (steps.method == "SMEdit")]
    seconds = locality.groupby("locality").seconds.mean()
    assert seconds["norm"] < seconds["kl"]
    assert (pd.read_csv(RESULTS / "memory.csv").peak_mb > 100).all()
    training = pd.read_csv(RESULTS / "training.csv")
    assert (training.gradient_norm > 0).all()
    tuning = pd.read_csv(RESULTS / "tuning.csv")
    chosen = tuning[tuning.chosen].drop_duplicates(["model", "method"])
    assert len(chosen) == 2
    used = pd.read_csv(RESULTS / "scores.csv").query("method == 'SMEdit' and locality == 'norm'")
    for row in chosen.itertuples():
        assert set(used[used.model == row.model].reg_coef) == {row.reg_coef}


def test_streams(smoke):
    """Each is measured before, midway and at the end, and all methods start alike."""
    table = pd.read_csv(RESULTS / "sequential.csv")
    assert not table.duplicated([*STREAM_COLUMNS, "edited", "scope", "metric", "score"]).any()
    assert table.diverged_after.isna().all()
    for _, stream in table.groupby(STREAM_COLUMNS):
        assert sorted(set(stream.edited)) == [0, 8, 12]
    before = table[table.edited == 0].groupby(["model", "dataset", "scope", "metric", "score"])
    assert (before.value.nunique() == 1).all()
    change = table[(table.scope == "weights") & (table.edited > 0)]
    assert (change.value > 0).all()
    entries = 64 * 256  # the larger of the two models' first edit modules
    assert (change[change.method == "FT-L"].value <= 0.01 * entries**0.5).all()
    latest = table[(table.scope == "latest batch") & (table.metric == "efficacy")]
    unedited = table[(table.edited == 0) & (table.metric == "efficacy")]
    for method in ("SMEdit", "RLEdit", "UltraEdit"):
        assert latest[latest.method == method].value.mean() > unedited.value.mean() + 10
    perplexity = table[table.metric == "perplexity"]
    assert (perplexity.value > 1).all()
    assert set(perplexity.n_requests) == {40}
    seconds = pd.read_csv(RESULTS / "sequential_timings.csv")
    trained = set(seconds[seconds.per == "training request"].method)
    assert trained == {"MEND", "MALMEN", "SMEdit", "RLEdit"}
    assert not list(RESULTS.rglob("*.checkpoint"))


def test_every_job_has_a_log_and_a_benchmark(smoke):
    cells = [p.relative_to(RESULTS / "cells") for p in (RESULTS / "cells").rglob("*.json")]
    assert len(cells) == 24
    for cell in cells:
        assert (RESULTS / "logs/cells" / cell).with_suffix(".log").stat().st_size > 0
        assert (RESULTS / "benchmarks/cells" / cell).with_suffix(".tsv").is_file()


def test_provenance(smoke):
    provenance = json.loads((RESULTS / "provenance.json").read_text())
    assert provenance["packages"]["torch"].startswith("2.13.0")
    assert len(provenance["config_sha256"]) == 64
    assert provenance["job_seconds"]["cells"]["jobs"] == 24
    assert {tried["way"] for tried in provenance["self_tests"].values()} == {"fast"}
    rows = provenance["rows"]["worldfacts-qa"]
    counts = {split: counted["rows"] for split, counted in rows.items()}
    assert counts == {"train": 2035, "tune": 359, "eval": 1042}


def test_figures_show_something(smoke):
    drawn = {path.stem for path in FIGURES.glob("*.png")}
    batch = {"data_size", "inner_steps", "step_time", "mbps_gain", "tradeoff"}
    streams = {"retention", "stream_scores", "stream_model", "stream_gains", "stream_seconds"}
    assert drawn == batch | streams | {"stream_bp_steps"}
    for name in drawn:
        image = matplotlib.image.imread(FIGURES / f"{name}.png")
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.05
        assert (FIGURES / f"{name}.pdf").stat().st_size > 5000


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
    assert "rule stream:" in run.stdout and "Group job" not in run.stdout


def test_a_configuration_file_stands_alone(tmp_path):
    part = tmp_path / "part.yaml"
    part.write_text("device: cpu\n")
    run = snakemake("--dry-run", "--configfile", str(part))
    assert run.returncode != 0
    assert f"error: {part}: top level: the key 'results_dir' is missing" in run.stdout + run.stderr


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
    assert "seed~2" in run.stdout and "mem_mb=123" in run.stdout
    assert "copy/results/cells" in run.stdout and "smoke/results/cells" not in run.stdout


def test_the_files_of_a_dataset_are_what_is_frozen(tmp_path):
    """So Snakemake makes anew what depends on one that changed."""
    rows = [row for row in zsre_rows() if row["split"] != "tune"]
    files = [tmp_path / f"zsre_mend_{split}.json" for split in ("train", "eval")]
    for file, split in zip(files, ("train", "eval"), strict=True):
        file.write_text(json.dumps([row for row in rows if row["split"] == split]))
    folder = f"datasets={{worldfacts-qa: {{source: folder, data_dir: {tmp_path}}}}}"
    run = snakemake("--dry-run", "--configfile", "config/smoke.yaml", "--config", folder)
    assert run.returncode == 0, run.stdout + run.stderr
    inputs = f"input: resources/models/tiny-gpt2, {files[0]}, {files[1]}\n"
    output = "    output: smoke/results/frozen/tiny-gpt2/worldfacts-qa/"
    assert inputs + output in run.stdout
