"""A configuration → runs: axes, identities, searches, and what is not done twice."""

import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from smedit.errors import UserError
from smedit.methods import rule_checksum
from smedit.plan import runs as plan_runs
from smedit.plan.config import completed
from smedit.plan.forecast import screen
from smedit.plan.jobs import (
    BACK,
    asked_before,
    first_value,
    freeze_job,
    frozen,
    go_on,
    has_all,
    not_held,
    run_job,
    same_data,
    set_aside,
    whole_runs,
)
from smedit.plan.plan import make_plan
from smedit.plan.reference import written
from smedit.plan.runs import identity, make_run
from smedit.plan.settings import Machine, Measurement, Settings, all_settings, declared
from smedit.plan.variants import resolve
from smedit.report.figures import figures_of
from smedit.store.archives import pack
from smedit.store.results import EARLIER, write_result
from smedit.store.sources import frozen_checksum

ROOT = Path(__file__).parents[2]

EXAMPLE = """
models: [smollm2-135m]
datasets: [worldfacts-qa]
seeds: [0, 1]
experiments:
  mine:
    methods: [MALMEN, {method: MALMEN, bp_steps: 2}, SMEdit]
    n_edits: 16
    lr: [1.0e-5, 1.0e-4]
    train_batches: [1, 5]
"""


@pytest.fixture(autouse=True)
def in_suite(monkeypatch):
    monkeypatch.chdir(ROOT)


def plan(text="", **changes):
    config = yaml.safe_load(EXAMPLE)
    if text:
        config["experiments"] = yaml.safe_load(text)
    return make_plan(completed(config | changes))


def test_a_small_configuration_is_whole():
    made = plan()
    assert len(made.runs) == 3 * 2 * 2  # variants, step sizes, seeds
    for run in made.runs.values():
        assert [m.train_batches for m in run.measurements] == [1, 5]
        assert {m.n_requests for m in run.measurements} == {32}
    assert {row["variant"] for row in made.resolved()} == {"MALMEN", "MALMEN + MBPS", "SMEdit"}
    names = figures_of(made.resolved())
    assert {"mine-pairs-lr", "mine-pairs-train_batches", "mine-comparison"} <= set(names)
    assert {"mine-gains", "mine-phases"} <= set(names)


def test_eight_lines_compare_two_methods():
    text = "models: [smollm2-135m]\ndatasets: [worldfacts-qa]\nexperiments:\n"
    text += "  two: {methods: [MALMEN, SMEdit]}\n"
    assert len(text.splitlines()) <= 8
    made = make_plan(completed(yaml.safe_load(text)))
    assert len(made.runs) == 2
    assert "two-comparison" in figures_of(made.resolved())


def test_the_identity_of_a_run_never_changes():
    """If this fails, results that people have would be lost."""
    settings, measurement = resolve(
        {"model": "m", "dataset": "d", "method": "MALMEN"}, ["h.{0..1}.up"]
    )
    values = identity(settings, measurement, {"source": "path"}, {"format": "zsre"})
    assert values.pop("shift_rule")[0] == "least_squares"
    assert values == {
        **{"model": "m", "dataset": "d", "seed": 0, "edit_modules": ("h.0.up", "h.1.up")},
        **{"precision": "float32", "threads": 1, "n_edits": 16, "minibatch": 4, "bp_steps": 1},
        **{"locality": "kl", "training": "in_batches", "rank": 1024, "n_blocks": 4, "lr": 1e-6},
        **{"meta_lr": 1e-5, "loc_coef": 0.6, "max_grad_norm": 1.0, "adam_repeats": 1},
        **{"model_spec": {"source": "path"}, "dataset_spec": {"format": "zsre"}},
    }


def run_of(**given):
    given = {"model": "m", "dataset": "d", "method": "SMEdit", **given}
    return make_run(*resolve(given, ["h.0.up"]), {"edit_modules": ["h.0.up"]}, {})


def test_a_method_counts_by_its_choices():
    assert run_of(locality="kl").name == run_of(method="MALMEN", bp_steps=2).name
    assert run_of().name != run_of(method="MALMEN", bp_steps=2).name


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"loc_coef": 0.1}, True),  # of KL, where the norm is used
        ({"reg_coef": 0.1}, False),
        ({"reg_power": 1}, True),
        ({"passes": 1}, True),
        ({"passes": 2}, False),
        ({"train_batches": 5}, True),  # measured on the way
        ({"edit_lr": 0.1}, True),
        ({"protocol": "sequential", "training": "in_batches"}, True),
        ({"protocol": "sequential"}, False),
        ({"bp_steps": 1, "train_from": "current"}, False),
    ],
)
def test_what_trains_is_the_identity(changes, same):
    assert (run_of(**changes).name == run_of().name) is same


def test_passes_make_training_batches_part_of_the_identity():
    assert run_of(passes=2, train_batches=5).name != run_of(passes=2, train_batches=1).name


def test_what_a_rule_does_is_part_of_the_identity(monkeypatch):
    before = run_of().name
    monkeypatch.setattr(plan_runs, "rule_checksum", lambda _: "other")
    assert run_of().name != before


def test_what_the_built_in_facts_say_is_part_of_the_identity(monkeypatch):
    before = plan().runs
    frozen_before = set(frozen(plan()))
    monkeypatch.setattr(plan_runs, "builtin_checksum", lambda _: "other")
    assert not plan().runs.keys() & before.keys()
    assert not set(frozen(plan())) & frozen_before


STEPS_SEARCHED = "search: {methods: [{method: MALMEN, bp_steps: [1, 2]}], lr: [1.0e-5, 1.0e-4]}\n"


def test_values_that_a_search_chooses_are_no_axis():
    text = STEPS_SEARCHED + "best: {methods: [MALMEN], chosen_in: search, lr: [1.0e-4, 1.0e-3]}"
    rows = [row for row in plan(text).rows if row.asked.experiment == "best"]
    assert [row.asked.settings.seed for row in rows] == [0, 1]
    listed = "best: {methods: [MALMEN], chosen_in: search}"
    assert plan(text).runs.keys() == plan(STEPS_SEARCHED + listed).runs.keys()


def test_an_experiment_with_an_objective_is_a_search():
    text = "search: {methods: [MALMEN], lr: [1.0e-5, 1.0e-4], objective: {}}"
    made = plan(text)
    assert list(made.searches) == [("search", "smollm2-135m")]
    assert {row.asked.measurement.rows for row in made.rows} == {"tune", "eval"}
    assert not plan(text.replace(", objective: {}", "")).searches
    taking = "\nbest: {methods: [MALMEN], chosen_in: search, rows: [tune, eval], objective: {}}"
    assert list(plan(text + taking).searches) == [("search", "smollm2-135m")]


def test_every_value_of_a_search_is_tried_everywhere():
    qa, cloze = "worldfacts-qa: {lr: [1.0e-5, 1.0e-4]}", "worldfacts-cloze: {lr: [1.0e-4, 1.0e-3]}"
    search = f"search: {{methods: [MALMEN], by_dataset: {{{qa}, {cloze}}}}}"
    text = f"{search}\nbest: {{methods: [MALMEN], chosen_in: search}}"
    both = ["worldfacts-qa", "worldfacts-cloze"]
    with pytest.raises(UserError, match=r"experiments.search: MALMEN has not all values on all"):
        plan(text, datasets=both)


def test_a_run_with_another_variant_s_values_is_another_run():
    own = "best: {methods: [{method: MALMEN, bp_steps: 2}], chosen_in: search, n_requests: 64}"
    shared = own.replace("chosen_in: search", "chosen_in: {search: search, shared: [bp_steps]}")
    made = [
        {row.run for row in plan(STEPS_SEARCHED + text).rows if row.asked.experiment == "best"}
        for text in (own, shared)
    ]
    assert not made[0] & made[1]


def test_a_rule_is_read_without_its_words(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    one = 'import no\n\n@shift_rule\ndef rule(a, b):\n    """Words."""\n    return a + b  # more\n'
    (tmp_path / "one_rule.py").write_text(one)
    (tmp_path / "same_rule.py").write_text("@shift_rule\ndef rule(a, b):\n    return (a + b)\n")
    (tmp_path / "other_rule.py").write_text("@shift_rule\ndef rule(a, b):\n    return a - b\n")
    sums = [rule_checksum(f"{name}_rule:rule") for name in ("one", "same", "other")]
    assert sums[0] == sums[1] != sums[2]


def test_what_a_rule_calls_is_part_of_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "SIZE = {0}\n\n@shift_rule\ndef rule(a):\n    return helper(a)\n\n"
        "def helper(a):\n    return a * SIZE\n"
    )
    for name, more in (("one", ""), ("same", "def unused():\n    return 1\n"), ("other", "")):
        (tmp_path / f"{name}_whole.py").write_text(text.format(2 if name == "other" else 1) + more)
    sums = [rule_checksum(f"{name}_whole:rule") for name in ("one", "same", "other")]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize(
    ("brings", "uses"),
    [
        ("from .more import helper", "helper(a)"),
        ("from .more import *", "helper(a)"),
        ("from split_rule.more import helper as h", "h(a)"),
        ("import split_rule.more", "split_rule.more.helper(a)"),
        ("import split_rule.more as m", "m.helper(a)"),
    ],
)
def test_a_rule_that_uses_another_file_is_refused(brings, uses, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "split_rule", raising=False)
    (tmp_path / "split_rule").mkdir()
    (tmp_path / "split_rule/__init__.py").write_text("")
    text = f"import torch\n{brings}\n\n@shift_rule\ndef rule(a):\n    return torch.tanh({uses})\n"
    (tmp_path / "split_rule/rules.py").write_text(text)
    rule_checksum.cache_clear()
    with pytest.raises(UserError, match=r"uses '[\w*]+' of another file; move it into the rule's"):
        rule_checksum("split_rule.rules:rule")
    (tmp_path / "split_rule/rules.py").write_text(text.replace(brings, "").replace(uses, "a"))
    assert len(rule_checksum("split_rule.rules:rule")) == 64


def test_a_result_from_before_a_setting_was_there_has_its_neutral_value(tmp_path):
    made = plan()
    run = next(iter(made.runs.values()))
    asked = [{k: v for k, v in asdict(m).items() if k != "edit_parts"} for m in run.measurements]
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"asked": asked}, indent=1))
    assert asked_before(path) == [asdict(m) for m in run.measurements]
    del asked[0]["protocol"]  # which was always there
    path.write_text(json.dumps({"asked": asked}, indent=1))
    assert asked_before(path) == []


def test_every_setting_can_be_an_axis():
    """One after the other, where it has an effect."""
    others = {
        "locality": {"locality": "kl"},
        "loc_coef": {"locality": "kl"},
        "bound": {"method": "FT-L"},
        "reg_power": {"training": "in_sequence"},
        "back_depth": {"training": "in_sequence"},
        "time_decay": {"training": "in_sequence", "back_depth": 3},
        "n_batches": {"protocol": "sequential"},
        "points": {"protocol": "sequential"},
    }
    for name, said in all_settings().items():
        if name in ("model", "dataset", "seed", "method", "shift_rule", "edit_modules"):
            continue
        values = list(said.choices) or [1, 2]
        if name in ("n_requests",):
            values = [16, 32]
        if name == "time_decay":
            values = [0.5, 0.9]
        entry = {"method": "SMEdit", **others.get(name, {})}
        entry.pop(name, None)
        made = make_plan(
            completed(
                {
                    **{"models": ["smollm2-135m"], "datasets": ["worldfacts-qa"]},
                    "experiments": {"axis": {"methods": [entry], name: values}},
                }
            )
        )
        found = {row[name] for row in made.resolved()}
        assert found == set(values), name
        role = len(made.runs) if name in declared(Settings) else len(made.rows)
        assert role == len(values), name


def test_edit_modules_may_be_several_sets():
    sets = [["model.layers.{28..29}.mlp.down_proj"], ["model.layers.29.mlp.up_proj"]]
    made = plan(yaml.safe_dump({"sets": {"methods": ["MEND"], "edit_modules": sets}}), seeds=[0])
    assert len(made.runs) == 2
    assert len({row["variant"] for row in made.resolved()}) == 2
    assert len(frozen(made)) == 2  # other blocks are frozen


def test_entries_of_one_name_are_told_apart_by_what_they_set():
    text = "two: {methods: [{method: MEND, lr: 1.0e-5}, {method: MEND, lr: 1.0e-4}, MALMEN]}"
    variants = {row["variant"] for row in plan(text).resolved()}
    assert variants == {
        "MEND, initial step size η 1e-05",
        "MEND, initial step size η 0.0001",
        "MALMEN",
    }
    text = "two: {methods: [{method: MEND, lr: 1.0e-5, name: small}, MEND]}"
    assert {row["variant"] for row in plan(text).resolved()} == {"small", "MEND"}


def test_an_overlay_drops_experiments_and_models():
    both = "a: {methods: [MEND]}\nb: null"
    models = {"smollm2-135m": None, "m": {"source": "path", "path": "x", "edit_modules": ["a.0.b"]}}
    made = plan(both, models=models)
    assert {row["experiment"] for row in made.resolved()} == {"a"}
    assert {run.settings.model for run in made.runs.values()} == {"m"}


def test_a_place_may_have_sizes_of_its_own():
    text = "a: {methods: [MEND], n_edits: 8, by_dataset: {worldfacts-cloze: {n_edits: 4}}}"
    made = plan(text, datasets=["worldfacts-qa", "worldfacts-cloze"])
    sizes = {(row["dataset"], row["n_edits"]) for row in made.resolved()}
    assert sizes == {("worldfacts-qa", 8), ("worldfacts-cloze", 4)}


# --- searches -------------------------------------------------------------------------------------

SEARCH = """
search: {methods: [MALMEN, {method: SMEdit, reg_coef: [0.5, 0.05]}], lr: [1.0e-5, 1.0e-4]}
"""


def chosen(made, **values):
    """As if these values were chosen for every variant."""
    return {
        f"{name} {model}": dict.fromkeys(search.points, values)
        for (name, model), search in made.searches.items()
    }


def test_a_search_is_measured_on_both_splits_and_nothing_of_it_runs_twice():
    alone = plan(SEARCH)
    assert {row["rows"] for row in alone.resolved()} == {"eval"}
    made = plan(SEARCH + "best: {methods: [MALMEN], chosen_in: search}")
    assert len(made.runs) == len(alone.runs)
    for run in made.runs.values():
        assert [m.rows for m in run.measurements] == ["eval", "tune"]
    best = [row for row in made.rows if row.asked.experiment == "best"]
    assert all(row.run == "" and len(row.points) == 2 for row in best)
    found = [row for row in made.resolved(chosen(made, lr=1e-4)) if row["experiment"] == "best"]
    assert [row["lr"] for row in found] == [1e-4, 1e-4]
    assert {made.runs[row["run"]].settings.lr for row in found} == {1e-4}
    assert {row["search"] for row in found} == {"search"}


def test_chosen_values_at_another_size_are_runs_named_by_the_search():
    made = plan(SEARCH + "best: {methods: [SMEdit], chosen_in: search, n_edits: 8}")
    added = [run for run in made.runs.values() if run.chosen]
    assert [set(run.chosen.names) for run in added] == [{"reg_coef", "lr"}] * 2
    assert all("by-search" in run.name for run in added)
    wider = SEARCH.replace("1.0e-4]", "1.0e-4, 1.0e-3]")
    other = plan(wider + "best: {methods: [SMEdit], chosen_in: search, n_edits: 8}")
    assert not {run.name for run in other.runs.values() if run.chosen} & {r.name for r in added}


def test_choices_may_share_what_was_chosen():
    text = SEARCH + "best: {methods: [{method: SMEdit, bp_steps: [1, 2, 3]}], n_edits: 8, "
    made = plan(text + "chosen_in: {search: search, shared: [bp_steps]}}")
    assert {run.chosen.variant for run in made.runs.values() if run.chosen} == {"SMEdit"}


def test_a_search_may_take_from_another():
    text = SEARCH + "fine: {methods: [SMEdit], chosen_in: search, meta_lr: [1.0e-5, 1.0e-4]}\n"
    made = plan(text + "best: {methods: [SMEdit], chosen_in: fine, n_edits: 8}")
    assert {run.chosen.search for run in made.runs.values() if run.chosen} == {"search", "fine"}


def test_one_value_needs_no_search():
    made = plan("a: {methods: [MEND], lr: 1.0e-3}\nb: {methods: [MEND], chosen_in: a, n_edits: 8}")
    assert {run.settings.lr for run in made.runs.values()} == {1e-3}
    assert not any(run.chosen for run in made.runs.values())


# --- jobs -----------------------------------------------------------------------------------------


def test_rows_that_are_needed():
    text = "a: {methods: [MEND], n_edits: 8, train_batches: [1, 3]}\n"
    text += "b: {methods: [FT-L], protocol: sequential, n_edits: 6, n_batches: 7}"
    needed = plan(text).rows_needed("smollm2-135m", "worldfacts-qa")
    assert needed == {"train": 24, "tune": 0, "eval": 42}


def test_a_smaller_configuration_measures_nothing_anew(tmp_path):
    """What a result holds is asked for again, so that its job is the same."""
    whole, part = plan(), plan(EXAMPLE.split("experiments:")[1].replace("[1, 5]", "[5]"))
    name = next(iter(whole.runs))
    result = tmp_path / "result.json"
    job = run_job(whole, whole.runs[name], "cpu", result)
    assert job["asked"] == [asdict(m) for m in whole.runs[name].measurements]
    result.write_text(json.dumps({"asked": job["asked"], "other": [1] * 10**6}, indent=1))
    assert run_job(part, part.runs[name], "cpu", result) == job
    result.write_text(json.dumps({"asked": job["asked"][:1]}, indent=1))
    assert run_job(whole, whole.runs[name], "cpu", result) == job  # one more, none less
    result.write_text('{\n "asked": [{"old": 1}]}')
    assert run_job(whole, whole.runs[name], "cpu", result) == job


def test_rows_that_were_frozen_stay(tmp_path):
    made, before = plan(), tmp_path / "before.json"
    (name, *_) = frozen(made)
    assert freeze_job(made, name, "cpu", before)["rows"] == {"train": 80, "tune": 0, "eval": 32}
    before.write_text(json.dumps({"rows": {"eval": {"count": 100}, "train": {"count": 9}}}))
    rows = freeze_job(made, name, "cpu", before)["rows"]
    assert rows == {"train": 80, "tune": 0, "eval": 100}


def test_the_head_of_a_file_is_enough(tmp_path):
    path = tmp_path / "x.json"
    assert first_value(path) is None
    path.write_text('{\n "asked": [1, {"a": "]"}],\n "rest": half')
    assert first_value(path) == [1, {"a": "]"}]


def test_every_measurement_field_is_declared_once():
    assert not set(declared(Settings)) & set(declared(Measurement))


def test_the_settings_in_the_readme_are_those_declared():
    """`python -m smedit.plan.reference` writes them."""
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert written(text) == text
    for name in (*all_settings(), *declared(Machine)):
        assert f"| `{name}`" in text


def test_the_readme_s_configurations_work():
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    examples = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    assert len(examples) == 2 and examples[1].strip() == EXAMPLE.strip()
    for example in examples:
        assert len(example.splitlines()) <= 9
        make_plan(completed(yaml.safe_load(example)))


# --- the plan on one screen -----------------------------------------------------------------------


def test_a_plan_fits_one_screen(tmp_path):
    for name in ("config", "smoke", "paper"):
        text = (ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")
        lines = screen(make_plan(completed(yaml.safe_load(text))), tmp_path).splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) <= 100
    said = screen(plan(), tmp_path)
    assert "3 variants, 2 seeds, initial step size η, training batches" in said
    assert "left: 12 runs, about" in said and "12 of them by the size of the model" in said


def test_what_is_done_is_counted_and_the_rest_told_from_it(tmp_path):
    made = plan()
    (tmp_path / "runs").mkdir()
    (tmp_path / "benchmarks/runs").mkdir(parents=True)
    name, run = next(iter(made.runs.items()))
    asked = [asdict(m) for m in run.measurements]
    (tmp_path / f"runs/{name}.json").write_text(json.dumps({"asked": asked}, indent=1))
    (tmp_path / f"benchmarks/runs/{name}.tsv").write_text("s\tmax_rss\n60\t1\n")
    said = screen(made, tmp_path)
    assert re.search(r"^mine +12 +1 ", said, re.M)
    assert "left: 11 runs" in said and "from runs that are done here" in said
    model = {"m": {"source": "path", "path": "x", "edit_modules": ["a.0.b"]}}
    assert "(12 runs on models of unknown size are not counted)" in screen(
        plan(models=model), tmp_path
    )


def test_a_plan_of_which_all_is_done_says_so(tmp_path):
    made = plan("one: {methods: [MEND]}", seeds=[0])
    (tmp_path / "runs").mkdir()
    for name, run in made.runs.items():
        asked = [asdict(m) for m in run.measurements]
        (tmp_path / f"runs/{name}.json").write_text(json.dumps({"asked": asked}, indent=1))
    assert screen(made, tmp_path).splitlines()[-1] == "nothing is left to run"


# --- which results are whole ----------------------------------------------------------------------


def results_of(made, folder):
    """A result for each run that holds what is asked of it."""
    (folder / "runs").mkdir(exist_ok=True)
    for name, run in made.runs.items():
        asked = [asdict(m) for m in run.measurements]
        (folder / f"runs/{name}.json").write_text(json.dumps({"asked": asked}, indent=1))


def dates(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}


def test_a_result_that_lacks_something_is_out_of_date(tmp_path):
    made = plan()
    assert whole_runs(made, tmp_path) == set()
    results_of(made, tmp_path)
    assert whole_runs(made, tmp_path) == set(made.runs)
    own = dates(tmp_path)
    grown = plan(n_requests=48)
    assert set(grown.runs) == set(made.runs)
    assert whole_runs(grown, tmp_path) == set()
    assert all(date == own[file] - BACK for file, date in dates(tmp_path).items())
    less = yaml.safe_load(EXAMPLE)["experiments"]["mine"] | {"train_batches": [1]}
    smaller = plan(yaml.safe_dump({"mine": less}))
    assert whole_runs(smaller, tmp_path) == set(smaller.runs) == set(made.runs)
    assert dates(tmp_path) == own


def test_archived_results_are_of_the_same_data(tmp_path):
    facts, results = tmp_path / "facts.json", tmp_path / "results"
    mine = {"format": "facts", "source": "file", "path": str(facts), "train_on": "worldfacts-qa"}
    facts.write_text("[]")
    made = plan(datasets={"mine": mine})
    results.mkdir()
    assert same_data(made, results) == set()  # there is no archive
    results_of(made, results)
    for name in made.runs:
        file = results / f"runs/{name}.json"
        write_result({**json.loads(file.read_text()), "dataset_spec": made.datasets["mine"]}, file)
    pack(results, lambda result: [facts])
    assert same_data(made, results) == {"mine"}
    facts.write_text("[1]")
    assert same_data(made, results) == same_data(made, results, absent=True) == set()
    facts.unlink()
    assert same_data(made, results, absent=True) == {"mine"}


def test_what_other_sources_froze_is_out_of_date(tmp_path):
    made = plan()
    (tmp_path / "frozen").mkdir()
    needed = made.rows_needed("smollm2-135m", "worldfacts-qa")
    held = {"rows": {split: {"count": count} for split, count in needed.items()}, "perplexity": [1]}
    names = list(frozen(made))
    for name, sources in zip(names, (frozen_checksum(), "other"), strict=True):
        file = tmp_path / f"frozen/{name}.json"
        file.write_text(json.dumps({**held, "sources": sources}))
    own = {name: (tmp_path / f"frozen/{name}.json").stat().st_mtime_ns for name in names}
    whole_runs(made, tmp_path)
    back = [own[n] - (tmp_path / f"frozen/{n}.json").stat().st_mtime_ns for n in names]
    assert back == [0, BACK]


def test_a_result_is_not_whole_once_its_data_changes(tmp_path):
    facts = tmp_path / "facts.json"
    facts.write_text("[]")
    mine = {"format": "facts", "source": "file", "path": str(facts), "train_on": "worldfacts-qa"}
    made = plan(datasets={"mine": mine})
    results_of(made, tmp_path)
    assert whole_runs(made, tmp_path) == set(made.runs)
    grown = plan(datasets={"mine": mine}, n_requests=48)
    assert whole_runs(grown, tmp_path) == set()
    assert whole_runs(made, tmp_path) == set(made.runs)
    os.utime(facts, (2**32, 2**32))
    assert whole_runs(made, tmp_path) == set()


def asides(folder):
    return {path.stem for path in (folder / "runs").glob(f"*{EARLIER}")}


def test_a_result_that_lacks_something_is_set_aside(tmp_path):
    facts = tmp_path / "facts.json"
    facts.write_text("[]")
    mine = {"format": "facts", "source": "file", "path": str(facts), "train_on": "worldfacts-qa"}
    made, grown = (plan(datasets={"mine": mine}, **more) for more in ({}, {"n_requests": 48}))
    results_of(made, tmp_path)
    name, *_ = made.runs
    file = tmp_path / f"runs/{name}.json"

    def read(plan):
        set_aside(plan, tmp_path)
        whole_runs(plan, tmp_path)

    read(made)
    assert not asides(tmp_path)
    text = file.read_text()
    read(grown)
    assert asides(tmp_path) == set(made.runs)
    assert file.with_suffix(EARLIER).read_text() == text
    # Its job has removed the result, and failed: what was asked of it is asked again.
    file.unlink()
    read(grown)
    assert asides(tmp_path) == set(made.runs)
    job = run_job(grown, grown.runs[name], "cpu", file)
    assert all(m in job["asked"] for m in json.loads(text)["asked"])
    assert len(not_held(job["asked"], file)) == len(grown.runs[name].measurements)
    # In a plan that asks for no more it is the result again.
    read(made)
    assert not asides(tmp_path) and file.read_text() == text
    assert whole_runs(made, tmp_path) == set(made.runs)
    # Of other data none is kept.
    results_of(made, tmp_path)
    read(grown)
    os.utime(facts, (2**32, 2**32))
    file.unlink()
    read(grown)
    assert not asides(tmp_path)


def test_an_archive_gives_what_a_result_has(tmp_path):
    made, grown = plan(), plan(n_requests=48)
    results_of(made, tmp_path)
    for name, run in made.runs.items():
        file = tmp_path / f"runs/{name}.json"
        spec = made.datasets[run.settings.dataset]
        write_result({**json.loads(file.read_text()), "dataset_spec": spec}, file)
    pack(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert go_on(grown, tmp_path) == set()
    set_aside(grown, tmp_path)
    assert asides(tmp_path) == set(made.runs) and len(dates(tmp_path)) == len(made.runs)
    assert go_on(grown, tmp_path) == set()
    set_aside(grown, tmp_path)
    assert asides(tmp_path) == set(made.runs) and len(dates(tmp_path)) == len(made.runs)
    assert go_on(made, tmp_path) == set(made.runs)


def test_chosen_values_may_differ_and_nothing_else():
    text = """
    search: {methods: [SMEdit], edit_lr: [1.0e-4, 1.0e-3], rows: tune}
    chosen: {methods: [SMEdit], chosen_in: search, n_requests: 64}
    """
    run = next(run for run in plan(text).runs.values() if run.chosen)
    (asked,) = map(asdict, run.measurements)
    assert has_all(run, [asked | {"edit_lr": 0.3}])
    assert not has_all(run, [asked | {"n_requests": 32}])
