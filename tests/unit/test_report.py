"""Results → tables, the choice of a search, and what a person sees in the terminal."""

import contextlib
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from smedit.cli import main
from smedit.errors import UserError
from smedit.plan.config import completed
from smedit.plan.plan import make_plan
from smedit.report import collect, statistics
from smedit.report.bound import at_edge, best_within
from smedit.report.choose import choose, chosen_values
from smedit.report.metrics import axis_label
from smedit.report.show import show
from smedit.report.tables import TABLES, Found, make
from smedit.store.results import read_result, write_result

ROOT = Path(__file__).parents[2]
CONFIG = """
models: [smollm2-135m]
datasets: [worldfacts-qa]
seeds: [0, 1]
n_edits: 4
n_requests: 8
generate: 0
experiments:
  search: {methods: [MALMEN, SMEdit], lr: [1.0e-5, 1.0e-4, 1.0e-3]}
  best:
    methods: [MALMEN, {method: MALMEN, bp_steps: 2}, SMEdit]
    chosen_in: {search: search, shared: [bp_steps]}
    train_batches: [0, 1, 5]
  stream: {methods: [SMEdit, UltraEdit], protocol: sequential, n_batches: 4, train_batches: 1}
"""
BEFORE = [[2.0, 0.0, 4], [3.0, 0.0, 6]]
"""Of the unedited model: loss, drift and tokens of two paragraphs."""


@pytest.fixture(autouse=True)
def in_suite(monkeypatch):
    monkeypatch.chdir(ROOT)


def configured(folder):
    folders = {"results_dir": f"{folder}/results", "figures_dir": f"{folder}/figures"}
    for name in ("runs", "chosen"):
        (folder / "results" / name).mkdir(parents=True)
    return completed(yaml.safe_load(CONFIG) | folders)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 20)  # for time
    return configured(tmp_path)


def score(metric, name, rows):
    return {"metric": metric, "score": name, "rows": rows}


def point(stage, batches, n_requests, efficacy, harm, n_texts=1):
    edited = [[a + harm * n, harm / 2 * n, n] for a, _, n in BEFORE]
    rows = [[1.0] if i < efficacy * n_requests else [0.0] for i in range(n_requests)]
    return {
        **{"stage": stage, "batches": batches, "edit_seconds": 1.0, "memory_mb": 100.0},
        "scores": [
            score("efficacy", "accuracy", rows),
            score("efficacy", "exact_match", rows),
            score("generalization", "accuracy", rows),
            score("specificity", "accuracy", [[0.5, 0.0] for _ in rows]),
            score("specificity", "agreement", [[1.0 - harm / 10] for _ in rows]),
        ],
        "text": [edited] * n_texts,
        "perplexity": [[a + harm * n, n] for a, _, n in BEFORE],
        "change_norm": harm,
    }


def made(run, efficacy=None, harm=None, diverged=None):
    """A result of a run: the larger its step size, the more it edits and the more it harms."""
    settings, evaluations = asdict(run.settings), []
    lr = settings["lr"] = 1e-4 if run.chosen else run.settings.lr
    efficacy = efficacy or {1e-5: 0.25, 1e-4: 0.75, 1e-3: 1.0}.get(lr, 0.5)
    harm = harm if harm is not None else lr * 1e3
    for m in run.measurements:
        n = m.n_requests if m.protocol == "batch" else m.n_batches * run.settings.n_edits
        points = [point(0, 0, n, 0, 0.0)]
        if not diverged:
            last = n // run.settings.n_edits
            if m.protocol == "batch":
                stages = range(1, m.edit_steps + 1)
                points += [point(s, last, n, efficacy, harm, n_texts=last) for s in stages]
            else:
                points += [
                    point(m.edit_steps, b, b * run.settings.n_edits, efficacy, harm)
                    for b in range(1, last + 1)
                ]
        evaluations.append(
            {
                **{"measurement": asdict(m), "points": points, "says": {}, "generated": []},
                "diverged": diverged and {"why": diverged, "batches": 0},
                "seconds": {"edit": 2.0, "score": 4.0},
            }
        )
    phases = {"trace": 1.0, "shift": 0.5, "edit loss": 1.0, "locality loss": 0.25}
    step = {"batch": 1, "bp_step": 1, "edit_loss": 1.0, "locality_loss": 0.1, "shift_norm": 1.0}
    trained = run.settings.training != "none"
    return {
        **{"asked": [asdict(m) for m in run.measurements], "settings": settings},
        **{"identity": run.identity, "engine": "e", "environment": {"device": "cpu"}},
        "training": [{**step, "gradient_norm": 2.0, "seconds": phases}] if trained else [],
        "evaluations": evaluations,
        **{"seconds": {"load": 1.0, "train": 3.0}, "memory_mb": {"load": 1.0, "train": 9.0}},
        "diverged": diverged,
    }


def write(config, **changes):
    """All results of a configuration, and what was chosen from them."""
    plan, folder = make_plan(config), Path(config["results_dir"])
    for name, run in plan.runs.items():
        write_result(made(run, **changes.get(name, {})), folder / f"runs/{name}.json")
    for name, model in plan.searches:
        chosen = collect.choose_values(config, name, model)
        write_result(chosen, folder / f"chosen/{name}_{model}.json")
    return plan


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of all results of the configuration, and of the tables."""
    config = configured(tmp_path_factory.mktemp("report"))
    with contextlib.chdir(ROOT):
        write(config)
        collect.write_tables(config)
    return Path(config["results_dir"])


@pytest.fixture(scope="module")
def tables(results):
    return {name: pd.read_csv(results / f"{name}.csv") for name in TABLES}


# --- numbers --------------------------------------------------------------------------------------


def test_a_mean_weighs_prompts_and_its_interval_is_over_requests():
    found = statistics.mean_with_interval([[1.0, 1.0, 0.0], [0.0], []])
    assert found["value"] == pytest.approx(50)
    assert (found["n_rows"], found["n_resampled"]) == (4, 2)
    assert found["ci_low"] == 0 and found["ci_high"] == pytest.approx(200 / 3)
    assert math.isnan(statistics.mean_with_interval([[1.0]])["ci_low"])
    assert math.isnan(statistics.mean_with_interval([])["value"])


def test_harm_is_the_loss_above_the_unedited_one_per_token():
    text = [[[3.0, 1.0, 4], [3.0, 1.0, 6]], [[2.0, 0.0, 4], [5.0, 2.0, 6]]]
    assert statistics.harm(text, BEFORE)["value"] == pytest.approx((0.5 + 1.0) / 10)
    assert statistics.drift(text)["value"] == pytest.approx((0.5 + 1.5) / 10)
    assert statistics.harm([BEFORE], BEFORE)["value"] == 0
    assert statistics.perplexity([(4.0, 4), (6.0, 6)])["value"] == pytest.approx(math.e)


def test_over_seeds_the_interval_is_student_s():
    mean, low, high = statistics.over_seeds([1.0, 2.0, 3.0])
    assert (mean, low) == (2, pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3))
    assert high - mean == pytest.approx(mean - low)
    assert statistics.over_seeds([1.0, 2.0]) == (1.5, 1.0, 2.0)
    assert np.isnan(statistics.over_seeds([1.0])[1])


# --- tables ---------------------------------------------------------------------------------------


def test_tables_have_their_columns_without_rows():
    for name, (columns, _) in TABLES.items():
        assert len(set(columns)) == len(columns)
        assert list(make(name, Found([], {})).columns) == columns


def test_scores(tables):
    scores = tables["scores"]
    best = scores[(scores.experiment == "best") & (scores.variant == "MALMEN + MBPS")]
    assert set(best.stage) == {0, 1, 2} and set(best.train_batches) == {0, 1, 5}
    assert set(best.lr) == {1e-4}  # within the bound; 1e-3 harms by a nat
    assert best.reg_coef.isna().all() and set(best.loc_coef) == {0.6}
    harm = best[(best.metric == "harm") & (best.stage == 2)]
    assert harm.value.tolist() == [pytest.approx(0.1)] * len(harm)
    assert harm.scope.value_counts().to_dict() == {"text": 6, "batch 1": 6, "batch 2": 6}
    stream = scores[(scores.experiment == "stream") & (scores.metric == "efficacy")]
    assert set(stream.scope) == {"all", "first quarter", "latest batch"}
    ends = stream[(stream.batches == 4) & (stream.score == "accuracy")]
    counts = dict(zip(ends.scope, ends.n_resampled, strict=False))
    assert counts == {"all": 16, "first quarter": 4, "latest batch": 4}
    assert not scores.drop(columns=["value"]).duplicated().any()


def test_the_summary_has_one_row_per_variant_and_size(tables):
    summary = tables["summary"]
    keys = ["experiment", "variant", "lr", "train_batches", "protocol"]
    assert not summary.duplicated(keys).any()
    row = summary[(summary.experiment == "search") & (summary.lr == 1e-3)].iloc[0]
    assert (row.efficacy, row.unedited_efficacy, row.seeds) == (100, 0, 2)
    assert (row.harm, row.agreement, row.requests) == (1, pytest.approx(90), 16)
    assert row.harm_most == 1
    assert row.seconds == 4 + 2 * 6  # trained once, measured on both splits
    assert (row.memory_mb, row.diverged) == (9, 0)


def test_what_a_search_tried_is_in_words(config):
    config["experiments"]["search"] |= {"lr": 1e-4, "edit_lr": ["trained", 1e-3]}
    config["experiments"]["search"]["methods"].append({"method": "FT-L", "bound": [0.01, 0.05]})
    write(config)
    collect.write_tables(config)
    chosen = pd.read_csv(Path(config["results_dir"]) / "chosen.csv")
    words = chosen.groupby("variant")["values"].apply(list).to_dict()
    assert words["FT-L"] == ["lr 0.0001, bound 0.01", "lr 0.0001, bound 0.05"]
    assert words["MALMEN"] == ["lr 0.0001, edit_lr trained", "lr 0.0001, edit_lr 0.001"]


def test_gains_pair_what_differs_in_one_choice(tables):
    gains = tables["gains"]
    assert set(gains.experiment) == {"best"} and set(gains.variant) == {"MALMEN + MBPS", "SMEdit"}
    assert set(gains.gain_of) == {"second step", "norm in place of KL"}
    assert (gains.gain == 0).all()  # made so
    assert set(gains[gains.variant == "SMEdit"].gain_of) == {"norm in place of KL"}


def gains_of(config, experiment):
    """Variant and loss of every gain, where an experiment is the only one."""
    config["experiments"] = {"e": yaml.safe_load(experiment)}
    write(completed(config))
    collect.write_tables(completed(config))
    gains = pd.read_csv(Path(config["results_dir"]) / "gains.csv")
    return gains.groupby("gain_of")[["loc_coef", "reg_coef"]].apply(lambda g: g.values.tolist())


def test_a_gain_needs_one_partner(config):
    steps = "{method: MALMEN, bp_steps: [1, 2], loc_coef: [0.06, 0.6]}"
    found = gains_of(config, f"{{methods: [{steps}, {{method: SMEdit, reg_coef: [0.05, 0.5]}}]}}")
    assert list(found.index) == ["second step"]  # which KL would the norm be in place of?
    assert {loc_coef for loc_coef, _ in found["second step"]} == {0.06, 0.6}


def test_the_norm_takes_the_place_of_the_one_kl(config):
    found = gains_of(config, "{methods: [{method: MALMEN, bp_steps: 2, loc_coef: 6}, SMEdit]}")
    assert list(found.index) == ["norm in place of KL"]


def test_results_of_other_rows_do_not_go_together(config):
    plan = write(config)
    folder = Path(config["results_dir"]) / "runs"
    one, other = [n for n, r in plan.runs.items() if r.settings.seed == 0][:2]
    for name, sha256 in ((one, "a"), (other, "b")):
        rows = {"splits": {"eval": {"count": 8, "sha256": sha256}}, "dataset_spec": {}}
        write_result(made(plan.runs[name]) | rows, folder / f"{name}.json")
    with pytest.raises(UserError, match=f"{one} and {other} were measured on different eval rows"):
        collect.write_tables(config)


def test_results_without_a_new_score_have_no_gain_in_it(config):
    plan = write(config)
    lost = {n for n, run in plan.runs.items() if run.settings.bp_steps == 1}
    for name in lost:
        path = Path(config["results_dir"]) / f"runs/{name}.json"
        result = read_result(path)
        for at in (p for e in result["evaluations"] for p in e["points"]):
            at["scores"] = [s for s in at["scores"] if s["score"] != "exact_match"]
        write_result(result, path)
    collect.write_tables(config)
    gains = pd.read_csv(Path(config["results_dir"]) / "gains.csv")
    of = gains[gains.gain_of == "second step"].score.unique()
    assert "accuracy" in of and "exact_match" not in of


def test_times_memory_training_and_the_index(tables):
    timings = tables["timings"]
    step = timings[(timings.per == "training step") & (timings.phase == "trace")]
    assert set(step.seconds) == {1.0}
    edit = timings[(timings.per == "edited batch") & (timings.phase == "edit")]
    assert set(edit.n) == {2, 4}
    assert set(tables["memory"].until) == {"load", "train", "point"}
    assert set(tables["training"].gradient_norm) == {2.0}
    runs = tables["runs"]
    assert not runs.run.duplicated().any() and set(runs.engine) == {"e"}
    assert (runs.edit_modules == "model.layers.{24..29}.mlp.down_proj").all()


def test_results_of_several_engines_are_said(config, caplog):
    plan = write(config)
    name = next(iter(plan.runs))
    path = Path(config["results_dir"]) / f"runs/{name}.json"
    write_result({**made(plan.runs[name]), "engine": "older"}, path)
    collect.write_tables(config)
    assert "made by 2 versions of the engine (column engine of runs.csv)" in caplog.text


def test_a_result_of_other_settings_or_values_is_refused(config):
    plan, folder = write(config), Path(config["results_dir"]) / "runs"
    name = next(name for name, run in plan.runs.items() if run.chosen)
    result = made(plan.runs[name])
    result["settings"]["lr"] = 1e-5
    write_result(result, folder / f"{name}.json")
    with pytest.raises(UserError, match=rf"{name}\.json: made with lr 1e-05, not 0.0001; delete"):
        collect.write_tables(config)
    first, second = list(plan.runs)[:2]
    (folder / f"{first}.json").write_bytes((folder / f"{second}.json").read_bytes())
    with pytest.raises(UserError, match=rf"{first}\.json: the result of other settings than its"):
        collect.write_tables(config)


def test_one_that_diverged_is_a_row_and_no_part_of_means(config):
    plan = make_plan(config)
    name = next(n for n, r in plan.runs.items() if r.settings.lr == 1e-3)
    write(config, **{name: {"diverged": "non-finite shift"}})
    collect.write_tables(config)
    folder = Path(config["results_dir"])
    scores, summary = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "summary.csv")
    ended = scores[scores.run == name]
    assert set(ended.stage) == {0} and set(ended.diverged) == {"non-finite shift"}
    row = summary[(summary.experiment == "search") & (summary.diverged == 1)].iloc[0]
    assert (row.seeds, row.efficacy) == (2, 100)
    searched = pd.read_csv(folder / "chosen.csv")
    lost = searched[(searched.variant == "MALMEN") & (searched["values"] == "lr 0.001")].iloc[0]
    assert not lost.allowed and math.isinf(lost.harm)


# --- what a search chooses ------------------------------------------------------------------------


def choice(config, bound, harms=(0.01, 0.1, 1.0)):
    config["experiments"]["search"]["objective"] = {"harm_at_most": bound}
    plan = make_plan(config)
    by_lr = dict(zip((1e-5, 1e-4, 1e-3), harms, strict=True))
    results = {n: made(r, harm=by_lr.get(r.settings.lr, 0.0)) for n, r in plan.runs.items()}
    (search,) = plan.searches.values()
    return choose(search, results)


@pytest.mark.parametrize(
    ("bound", "lr"),
    [(0.5, 1e-4), (5, 1e-3), (0.05, 1e-5), (0.001, 1e-5)],
    ids=["best within the bound", "all within", "one within", "none: the least harmful"],
)
def test_a_search_chooses_the_best_within_its_bound(config, bound, lr):
    table = choice(config, bound)
    assert chosen_values(table) == {"MALMEN": {"lr": lr}, "SMEdit": {"lr": lr}}
    assert table.chosen.sum() == 2
    expected = (100 * 0.75 * 2 + 99) / 3
    assert table[(table.variant == "MALMEN")].objective.tolist()[1] == pytest.approx(expected)
    edge = {1e-5: "lr least", 1e-4: "", 1e-3: "lr largest"}[lr]
    assert table[table.chosen].at_edge.tolist() == [edge] * 2


def test_a_choice_between_others_is_at_no_edge():
    tried = [{"lr": lr, "edit_lr": size} for lr in (1e-5, 1e-4, 1e-3) for size in (None, 1e-4)]
    assert at_edge({"lr": 1e-4, "edit_lr": 1e-4}, tried) == ""  # the one number beside "trained"
    assert at_edge({"lr": 1e-3, "edit_lr": None}, tried) == "lr largest"


def test_the_best_within_a_bound():
    objective, harm = [[9.0, 9.0], [5.0, 7.0], [5.0, 8.0]], [[2.0, 2.0], [0.1, 0.9], [0.5, 0.8]]
    assert best_within(objective, harm, 0.5).tolist() == [1, 2]  # a tie; none within
    assert best_within([1.0, 5.0], [0.0, math.inf], 0.5) == 0


def test_at_a_tie_the_first_wins(config):
    plan = make_plan(config)
    results = {n: made(r, efficacy=0.5, harm=0.1) for n, r in plan.runs.items()}
    table = choose(*plan.searches.values(), results)
    assert chosen_values(table)["MALMEN"] == {"lr": 1e-5}


def test_a_point_without_a_score_that_is_needed_is_named(config):
    plan = make_plan(config)
    results = {n: made(r) for n, r in plan.runs.items()}
    for result in results.values():
        for evaluation in result["evaluations"]:
            for each in evaluation["points"]:
                each["scores"] = [s for s in each["scores"] if s["score"] != "agreement"]
    with pytest.raises(UserError, match=r"search: the run .* has no agreement to choose by"):
        choose(*plan.searches.values(), results)


# --- the terminal ---------------------------------------------------------------------------------


def test_show(results, capsys):
    text = show(results, {"experiment": "search", "model": None})
    assert text.splitlines()[0] == "search, smollm2-135m, worldfacts-qa"
    assert "unedited" in text.splitlines()[2]
    assert max(map(len, text.splitlines())) <= 110
    assert main(["show", "--results", str(results), "--variant", "UltraEdit"]) == 0
    out = capsys.readouterr().out
    assert "stream, smollm2" in out and "MALMEN" not in out
    assert main(["show", "--results", str(results), "--variant", "Ultra"]) == 2
    assert "error: --variant: there is no 'Ultra'; known: MALMEN" in capsys.readouterr().err


def test_a_score_that_is_not_declared_is_called_by_its_name():
    assert axis_label("no_such_score") == "no such score (%)"
    assert axis_label("exact_match") == "exact match (%) ↑"
