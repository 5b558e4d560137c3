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
from smedit.plan.config import check_config, check_data

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
DELETE = object()


def read(name):
    return yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["config", "smoke"])
def test_shipped_configurations_are_right(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_config(read(name), SCHEMA)
    check_data(read(name))
    check_models(read(name)["models"])


def test_the_paper_s_configuration_fits_the_schema_and_the_architectures(monkeypatch):
    monkeypatch.chdir(ROOT)
    check_models(read("paper")["models"])
    check_config(read("paper"), SCHEMA)
    with pytest.raises(UserError, match=r"zsre.*data"):  # only the data is missing
        check_data(read("paper"))


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
    """The paper's configuration with one dataset."""
    config = read("paper")
    config["datasets"] = {dataset: {**config["datasets"][dataset], **changes}}
    for part in (config, config["sequential"]):
        for name, experiment in list(part["experiments"].items()):
            if dataset not in experiment.get("datasets", [dataset]):
                del part["experiments"][name]
            else:
                experiment["datasets"] = [dataset]
    return config


def test_the_published_recipe_plans_on_files_of_published_size(public, monkeypatch):
    monkeypatch.chdir(public)
    check_data(read("paper"))


def test_rows_for_a_search_that_is_not_made_are_not_asked_for(public, monkeypatch):
    monkeypatch.chdir(public)
    config = paper("zsre", tune_share=0.2)
    with pytest.raises(UserError) as caught:
        check_data(config)
    assert str(caught.value) == (
        "datasets.zsre: zsre has 15296 eval rows (of the subjects of its file 20 % are tune, 80 % "
        "are eval), 18000 are needed; use a smaller eval_edits, a smaller n_edits × "
        "n_sequences in sequence, or a smaller tune_share of the dataset (tune has 3790 rows to "
        "spare)"
    )
    config = paper("zsre")
    config["tuning"]["grid"] = {"SMEdit": {"lr": [1.0e-5, 1.0e-6]}}
    with pytest.raises(UserError, match=r"zsre has 0 tune rows .* 0 % are tune.* a larger tune_sh"):
        check_data(config)


def test_what_was_left_out_stands_beside_the_rows_that_lack(public, monkeypatch):
    monkeypatch.chdir(public)
    config = paper("counterfact")
    config["experiments"]["data_size"]["train_batches"] = [2]
    with pytest.raises(UserError) as caught:
        check_data(config)
    assert str(caught.value) == (
        "datasets.counterfact: counterfact has 9300 train rows (left out: 700 rows: subject of "
        "another split; 2800 locality prompts: held by another split), 16384 are needed; use a "
        "smaller n_edits, or smaller train_batches (train_sequences in sequence)"
    )


def test_the_published_recipe_plans_on_the_nested_file_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", {"counterfact": nested_pool(n_prompts=1)})
    check_data(paper("counterfact"))
    with pytest.raises(UserError, match=r"6576 eval rows \(of the .* 60 % are train, 10 % are tun"):
        check_data(paper("counterfact", tune_share=0.1))


BAD = [
    (
        "experiments.data_size.methods.2.method",
        "SMEdti",
        "experiments.data_size.methods.2.method: unknown method 'SMEdti'; did you mean 'SMEdit'?",
    ),
    ("tuning.grid", {"Smedit": {}}, "tuning.grid.Smedit: unknown method 'Smedit'; did you mean 'S"),
    ("experiments.data_size.n_edits", [0], "data_size.n_edits.0: 0 is less than the minimum of 1"),
    (
        "experiments.data_size.n_edits",
        [4096],
        "is less than the largest n_edits 4096",
    ),
    ("experiments.data_size.train_batches", [500], "worldfacts-qa has 2035 train rows, 16000 are"),
    ("eval_edits", 100, "eval_edits: 100 is not a multiple of n_edits 8"),
    ("tuning.eval_edits", 8, "tuning.eval_edits: 8 is not a multiple of n_edits 16"),
    ("eval_edits", 96000, "worldfacts-qa has 1042 eval rows, 96000 are needed"),
    ("experiments.data_size.methods.0.bp_steps", 0, "bp_steps: 0 is less than the minimum of 1"),
    ("experiments.data_size.methods.0.bp_steps", [1, 0], "bp_steps"),
    ("experiments.data_size.methods.0.steps", 2, "unknown key 'steps'; did you mean 'bp_steps'?"),
    ("experiments.data_sizes", {}, "unknown key 'data_sizes'; did you mean 'data_size'?"),
    ("experiments.data_size.methods.0.locality", "l2", "unknown value 'l2'; known: kl, none, norm"),
    ("experiments.data_size.methods.0.method", "RLEdit", "RLEdit edits in sequence only; put it"),
    (
        "experiments.data_size.models",
        ["gpt"],
        "data_size.models: unknown value 'gpt'; known: gemma",
    ),
    (
        "sequential.experiments.comparison.models",
        ["smollm2"],
        "sequential.experiments.comparison.models: unknown value 'smollm2'; did you mean 'smollm2-",
    ),
    ("sequential.experiments.comparison.n_sequences", [9999], "eval rows, 59994 are needed"),
    ("sequential.tuning.grid", {"FTL": {}}, "sequential.tuning.grid.FTL: unknown method 'FTL'"),
    (
        "sequential.experiments.comparison.methods.1.method",
        "MENDD",
        "sequential.experiments.comparison.methods.1.method: unknown method 'MENDD'; did you mean",
    ),
    ("sequential.tuning.grid.MEND.bound", [1], "grid.MEND: bound has no effect on MEND; leave it"),
    ("sequential.tuning.grid.RLEdit.reg_coef", [1], "reg_coef has no effect on RLEdit; leave it"),
    ("sequential.experiments.comparison.methods", [{"method": "MEND"}], "no stream uses this"),
    ("sequential.tuning.grid.FT-L.bounds", [1], "unknown key 'bounds'; did you mean 'bound'?"),
    (
        "sequential.experiments.comparison.methods",
        [{"method": "UltraEdit", "locality": "kl"}],
        "UltraEdit is not trained, so it has no locality loss; leave locality out",
    ),
    ("sequential.hyperparameters.reg_power", 3, "reg_power: unknown value 3; known: 1, 2"),
    ("modells", {}, "top level: unknown key 'modells'; did you mean 'models'?"),
    (
        "models.smollm2-135m.source",
        "pipy",
        "unknown value 'pipy'; known: hub, path",
    ),
    ("models.smollm2-135m.gguf_sha256", "abc", "gguf_sha256"),
    ("models.smollm2-135m.wheels", DELETE, "models.smollm2-135m: the key 'wheels' is missing"),
    ("models.gemma-3-270m.revision", "main", "revision"),
    ("datasets.worldfacts-qa.format", "zsrre", "unknown value 'zsrre'; did you mean 'zsre'?"),
    ("datasets.worldfacts-qa.target", DELETE, "worldfacts-qa: the key 'target' is missing"),
    ("datasets.worldfacts-qa.source", "folder", "the key 'data_dir' is missing"),
    ("datasets.worldfacts-qa.contradictions", "drop", "unknown value 'drop'; known: keep, leave_o"),
    ("datasets.worldfacts-qa.tune_share", 0.1, "tune_share: has no effect with the other keys"),
    ("datasets", {}, "datasets"),
    ("hyperparameters.lr", 0, "hyperparameters.lr: 0 is less than or equal to the minimum of 0"),
    ("hyperparameters.lr", float("nan"), "hyperparameters.lr: nan is not a finite number"),
    ("hyperparameters.reg_coef", float("inf"), "reg_coef: inf is not a finite number"),
    ("hyperparameters.rank", 1.5, "hyperparameters.rank: 1.5 is not of type 'integer'"),
    ("hyperparameters.meta_lr", "1e-5", "meta_lr: '1e-5' is not of type 'number'"),
    ("device", "gpu", "device: unknown value 'gpu'; did you mean 'cuda'? known: auto, cpu, cuda"),
    ("device", "CUDA", "device: unknown value 'CUDA'; did you mean 'cuda'?"),
    ("seeds", [], "seeds"),
    ("seeds", 0, "seeds: 0 is not of type 'array'; write [0]"),
    ("experiments.data_size.n_edits", 8, "n_edits: 8 is not of type 'array'; write [8]"),
    ("experiments.data_size.models", "a", "models: 'a' is not of type 'array'; write ['a']"),
    (
        "models.smollm2-135m.edit_modules",
        "h.1.x",
        "'h.1.x' is not of type 'array'; write ['h.1.x']",
    ),
    ("experiments.data_size.methods", {"method": "MEND"}, "is not of type 'array'"),
    ("threads", DELETE, "top level: the key 'threads' is missing"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=lambda v: str(v)[:40])
def test_a_bad_value_is_named(key, value, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = copy.deepcopy(read("config"))
    *path, last = key.split(".")
    place = config
    for part in path:
        place = place[int(part)] if part.isdigit() else place[part]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(UserError) as caught:
        check_config(config, SCHEMA)
        check_data(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_edit_module_is_named_with_its_key_and_the_nearest(monkeypatch):
    monkeypatch.chdir(ROOT)
    models = read("config")["models"]
    models["smollm2-135m"]["edit_modules"] = ["model.layers.{24..29}.mlp.down_prj"]
    with pytest.raises(UserError) as caught:
        check_models(models)
    assert str(caught.value) == (
        "models.smollm2-135m.edit_modules: the model has no edit module "
        "'model.layers.{24..29}.mlp.down_prj'; did you mean 'model.layers.{24..29}.mlp.down_proj'?"
    )


def test_a_model_s_path_may_begin_with_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    shutil.copy(ROOT / "config/architectures/tiny-llama.json", tmp_path / "weights/config.json")
    spec = {"source": "path", "path": "~/weights", "edit_modules": ["model.layers.3.mlp.up_proj"]}
    check_models({"m": spec})
    with pytest.raises(UserError, match=r"models.m.path: .*elsewhere is no folder; corr"):
        check_models({"m": {**spec, "path": "~/elsewhere"}})
