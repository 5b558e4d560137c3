"""Bad configurations: each gives one line that says what, where and what would be right."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml
from public_sizes import flat_trio, nested_pool, zsre_files

from smedit.errors import UserError
from smedit.models.architectures import check_models
from smedit.plan.catalogue import named
from smedit.plan.config import check_data, completed
from smedit.plan.plan import make_plan

ROOT = Path(__file__).parents[2]
DELETE = object()


def read(name):
    """A shipped configuration, with its models and datasets written out."""
    folder = "tests/unit" if name.endswith("grid") else "config"
    config = yaml.safe_load((ROOT / f"{folder}/{name}.yaml").read_text(encoding="utf-8"))
    return config | copy.deepcopy({kind: named(config, kind) for kind in ("models", "datasets")})


def check(config):
    plan = make_plan(completed(config))
    check_data(plan)
    return plan


@pytest.mark.parametrize("name", ["config", "grid", "smoke"])
def test_shipped_configurations_are_right(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_models(check(read(name)).models)


def test_the_paper_s_configuration_fits_the_schema_and_the_architectures(monkeypatch):
    monkeypatch.chdir(ROOT)
    check_models(read("paper")["models"])
    with pytest.raises(UserError, match=r"zsre.*data"):  # only the data is missing
        check(read("paper"))


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A folder that holds `data`: stand-ins for ZsRE and for the flat CounterFact trio."""
    folder = tmp_path_factory.mktemp("public")
    write(folder / "data", zsre_files() | flat_trio())
    return folder


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")


def paper(dataset, **changes):
    """A configuration of published sizes with one dataset."""
    config = read("public_grid")
    config["datasets"] = {dataset: {**config["datasets"][dataset], **changes}}
    for name, experiment in list(config["experiments"].items()):
        if dataset not in experiment.get("datasets", [dataset]):
            del config["experiments"][name]
        else:
            experiment["datasets"] = [dataset]
            sizes = experiment.get("by_dataset", {})
            experiment["by_dataset"] = {k: v for k, v in sizes.items() if k == dataset}
    return config


def test_the_published_recipe_plans_on_files_of_published_size(public, monkeypatch):
    monkeypatch.chdir(public)
    check(read("paper"))


def test_rows_for_a_search_that_is_not_made_are_not_asked_for(public, monkeypatch):
    monkeypatch.chdir(public)
    with pytest.raises(UserError) as caught:
        check(paper("zsre", tune_share=0.2))
    assert str(caught.value) == (
        "datasets.zsre: zsre has 15296 eval rows (of the subjects of its file 20 % are tune, 80 % "
        "are eval), 18000 are needed; use a smaller n_requests, a smaller n_edits or n_batches in "
        "sequence, or a smaller tune_share of the dataset (tune has 3790 rows to spare)"
    )
    config = paper("zsre")
    config["experiments"]["data_size"] |= {"n_edits": 64, "n_requests": 64, "lr": [1.0e-5, 1.0e-6]}
    config["experiments"]["chosen"] = {"methods": ["SMEdit"], "chosen_in": "data_size"}
    config["experiments"]["chosen"]["models"] = config["experiments"]["data_size"]["models"]
    with pytest.raises(UserError, match=r"zsre has 0 tune rows .* 0 % are tune.* a larger tune_sh"):
        check(config)


def test_what_was_left_out_stands_beside_the_rows_that_lack(public, monkeypatch):
    monkeypatch.chdir(public)
    config = paper("counterfact")
    config["experiments"]["data_size"]["train_batches"] = [2]
    with pytest.raises(UserError) as caught:
        check(config)
    assert str(caught.value) == (
        "datasets.counterfact: counterfact has 9300 train rows (left out: 700 rows: subject of "
        "another split; 2800 locality prompts: held by another split), 16384 are needed; use a "
        "smaller n_edits, or fewer train_batches"
    )


def test_the_published_recipe_plans_on_the_nested_file_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", {"counterfact": nested_pool(n_prompts=1)})
    check(paper("counterfact"))
    with pytest.raises(UserError, match=r"6576 eval rows \(of the .* 60 % are train, 10 % are tun"):
        check(paper("counterfact", tune_share=0.1))


DATA_SIZE = "experiments.data_size"
BAD = [
    (f"{DATA_SIZE}.methods.2", "SMEdti", "methods.2: unknown method 'SMEdti'; did you mean 'SMEdi"),
    (f"{DATA_SIZE}.methods.1.method", "MENDD", "methods.1.method: unknown method 'MENDD'; did you"),
    (f"{DATA_SIZE}.n_edits", [0], "data_size.n_edits.0: 0 is less than the minimum of 1"),
    (f"{DATA_SIZE}.train_batches", [500], "worldfacts-qa has 2035 train rows, 16000 are"),
    (f"{DATA_SIZE}.n_requests", 100, "n_requests: 100 is not a multiple of n_edits 8; re"),
    ("n_requests", 100, "n_requests: 100 is not a multiple of n_edits 16; requests are scored in"),
    (f"{DATA_SIZE}.n_requests", 96000, "worldfacts-qa has 1042 eval rows, 96000 are needed"),
    (f"{DATA_SIZE}.methods.1.steps", 2, "unknown key 'steps'; did you mean 'bp_steps'?"),
    (f"{DATA_SIZE}.method", [], "data_size: unknown key 'method'; did you mean 'methods'?"),
    (f"{DATA_SIZE}.methods", DELETE, "experiments.data_size: the key 'methods' is missing"),
    ("experiments.a b", {"methods": ["MEND"]}, "experiments: 'a b' is not a plain name; use at mo"),
    (f"{DATA_SIZE}.methods.1.locality", "l2", "unknown value 'l2'; known: kl, none, norm"),
    (f"{DATA_SIZE}.models", ["gpt"], "data_size.models: unknown value 'gpt'; known: gemma"),
    (f"{DATA_SIZE}.by_model", {"gpt": {}}, "data_size.by_model: unknown value 'gpt'; known: gemma"),
    ("experiments.comparison.models", ["smollm2"], "comparison.models: unknown value 'smollm2'; d"),
    ("experiments.comparison.n_batches", 9999, "eval rows, 59994 are needed"),
    ("experiments.search.methods.0", {"method": "MEND", "bound": 1.0}, "bound: has no effect on"),
    (
        "experiments.sequential_search.methods.3",
        {"method": "RLEdit", "reg_coef": 1.0},
        "sequential_search.methods.3.reg_coef: has no effect on RLEdit with the other settings; l",
    ),
    (
        "experiments.comparison.methods",
        [{"method": "UltraEdit", "locality": "kl"}],
        "comparison.methods.0.locality: has no effect on UltraEdit with the other settings; leave",
    ),
    ("experiments.shapes.time_decay", 0.5, "shapes.time_decay: has no effect on any method here; "),
    ("experiments.shapes.edit_steps", 3, "shapes.edit_steps: 3 is more than bp_steps 2, and each "),
    (f"{DATA_SIZE}.methods.0", {"method": "FT-L", "training": "in_batches"}, "FT-L has nothing to"),
    (f"{DATA_SIZE}.methods.0", {"method": "MEND", "shift_rule": "x"}, "unknown shift rule 'x'; kn"),
    (f"{DATA_SIZE}.chosen_in", "serch", "data_size.chosen_in: no experiment 'serch'; did you mean"),
    (f"{DATA_SIZE}.chosen_in", "sequential_search", "sequential_search has no MEND + MBPS on"),
    ("experiments.search.chosen_in", "data_size", "takes values from"),
    ("experiments.search.objective", {"harm_at_most": -1}, "harm_at_most: -1 is less than the min"),
    ("experiments.search.objective", {"mean_of": ["x"]}, "mean_of.0: unknown value 'x'; known: a"),
    ("reg_power", 3, "reg_power: 3 is greater than the maximum of 2"),
    ("modells", {}, "top level: unknown key 'modells'; did you mean 'models'?"),
    ("models.smollm2-135m.source", "pipy", "unknown value 'pipy'; known: hub, path"),
    ("models.smollm2-135m.gguf_sha256", "abc", "gguf_sha256"),
    ("models.smollm2-135m.wheels", DELETE, "models.smollm2-135m: the key 'wheels' is missing"),
    ("models.gemma-3-270m.revision", "main", "revision"),
    ("datasets.worldfacts-qa.format", "zsrre", "unknown value 'zsrre'; did you mean 'zsre'?"),
    ("datasets.worldfacts-qa.target", DELETE, "worldfacts-qa: the key 'target' is missing"),
    ("datasets.worldfacts-qa.source", "folder", "the key 'data_dir' is missing"),
    ("datasets.worldfacts-qa.contradictions", "drop", "unknown value 'drop'; known: keep, leave_o"),
    ("datasets.worldfacts-qa.tune_share", 0.1, "tune_share: has no effect with the other keys"),
    ("datasets", {}, "datasets"),
    ("lr", 0, "lr: 0 is less than or equal to the minimum of 0"),
    ("device", "gpu", "device: unknown value 'gpu'; did you mean 'cuda'? known: auto, cpu, cuda"),
    ("device", "CUDA", "device: unknown value 'CUDA'; did you mean 'cuda'?"),
    ("seeds", 0, "seeds: 0 is not of type 'array'; write [0]"),
    ("experiments.data_size.models", "a", "models: 'a' is not of type 'array'; write ['a']"),
    ("experiments.data_size.methods", {"method": "MEND"}, "is not of type 'array'"),
    ("experiments", DELETE, "top level: the key 'experiments' is missing"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=lambda v: str(v)[:40])
def test_a_bad_value_is_named(key, value, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = copy.deepcopy(read("grid"))
    *path, last = key.split(".")
    place = config
    for part in path:
        place = place[int(part)] if part.isdigit() else place[part]
    last = int(last) if last.isdigit() else last
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(UserError) as caught:
        check(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


MINE = {"source": "random", "architecture": "config/architectures/tiny-llama.json", "seed": 0}


def test_names_of_the_catalogue_stand_beside_what_is_one_s_own():
    mine = MINE | {"edit_modules": ["model.layers.3.mlp.up_proj"]}
    listed = {**read("smoke"), "models": ["tiny-llama", {"mine": mine, "theirs": None}]}
    made = make_plan(completed(listed))
    assert list(made.models) == ["tiny-llama", "mine"]
    assert made.models["mine"] == mine
    with pytest.raises(UserError, match=r"models.1: 'tiny-llama' is listed twice; leave one out"):
        completed(listed | {"models": ["tiny-llama", {"tiny-llama": mine}]})
    with pytest.raises(UserError, match=r"models.1.mine: the key 'edit_modules' is missing"):
        completed(listed | {"models": ["tiny-llama", {"mine": MINE}]})


def test_a_mistake_in_the_catalogue_is_found(monkeypatch):
    broken = {"models": {"mine": MINE}, "datasets": read("smoke")["datasets"]}
    monkeypatch.setattr("smedit.plan.config.catalogue", broken.get)
    with pytest.raises(UserError, match=r"^models.mine: the key 'edit_modules' is missing"):
        completed(read("smoke"))


def test_a_missing_edit_module_is_named_with_its_key_and_the_nearest(monkeypatch):
    monkeypatch.chdir(ROOT)
    models = read("config")["models"]
    models["smollm2-135m"]["edit_modules"] = ["model.layers.{24..29}.mlp.down_prj", "lm_hed"]
    with pytest.raises(UserError) as caught:
        check_models(models)
    assert str(caught.value) == (
        "models.smollm2-135m.edit_modules: the model has no edit module "
        "'model.layers.{24..29}.mlp.down_prj'; did you mean 'model.layers.{24..29}.mlp.down_proj'?"
        ", nor 'lm_hed'; did you mean 'lm_head'?"
    )


def test_a_model_s_path_may_begin_with_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    shutil.copy(ROOT / "config/architectures/tiny-llama.json", tmp_path / "weights/config.json")
    spec = {"source": "path", "path": "~/weights", "edit_modules": ["model.layers.3.mlp.up_proj"]}
    check_models({"m": spec})
    with pytest.raises(UserError, match=r"models.m.path: .*elsewhere is no folder; corr"):
        check_models({"m": {**spec, "path": "~/elsewhere"}})
