"""What would run, from any folder, of which files, on GPUs; and a model that is made elsewhere."""

import copy
import json
import shutil
from dataclasses import asdict

import pytest
import yaml
from runs import ROOT, planned, snakemake

from smedit.data.worldfacts import zsre_rows
from smedit.errors import UserError
from smedit.models.architectures import check_models
from smedit.plan.catalogue import named
from smedit.plan.config import completed
from smedit.plan.plan import make_plan
from smedit.store.archives import pack
from smedit.store.results import write_result

SMOKE = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))


def test_without_a_target_everything_is_reproduced_in_any_folder(tmp_path):
    text = planned("--snakefile", ROOT / "Snakefile", "--quiet", "rules", cwd=tmp_path)
    assert "prepare_model" in text and "reproduce " in text and "smoke_" not in text


def test_the_benchmark_is_planned_in_any_folder(tmp_path):
    where = ("--snakefile", ROOT / "workflow/benchmark.smk", "--quiet", "rules")
    text = planned("bench", *where, cwd=tmp_path)
    assert "prepare_model" in text and "measure" in text


def test_a_model_is_made_in_the_folder_where_the_run_is(tmp_path, monkeypatch):
    """By the suite's configuration, which names a file of the suite; given as --directory."""
    models = copy.deepcopy(named(SMOKE, "models"))
    models["tiny-gpt2"]["steps"] = 1
    (tmp_path / "steps.yaml").write_text(yaml.safe_dump({**SMOKE, "models": models}))
    model = "resources/models/tiny-gpt2"
    files = ("--configfile", tmp_path / "steps.yaml")
    status, text = snakemake(model, "--directory", tmp_path, *files)
    assert status == 0, text
    assert (tmp_path / "smoke/results/logs/prepare_model/tiny-gpt2.log").is_file()
    own = "config/architectures/tiny-gpt2.json"
    assert f'"{own}"' in (tmp_path / model / "source.json").read_text()  # wherever it was found

    (tmp_path / own).parent.mkdir(parents=True)
    shutil.copy(ROOT / "config/architectures/tiny-llama.json", tmp_path / own)
    monkeypatch.chdir(tmp_path)
    message = r"models\.tiny-gpt2\.edit_modules: the model has no edit module"
    with pytest.raises(UserError, match=message):  # of the two files, this one comes first
        check_models({"tiny-gpt2": models["tiny-gpt2"]})


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Two files given together, of which the first names the smoke test's models; other data."""
    folder = tmp_path_factory.mktemp("together")
    rows = [row for row in zsre_rows() if row["split"] != "tune"]
    files = [folder / f"zsre_mend_{split}.json" for split in ("train", "eval")]
    for file, split in zip(files, ("train", "eval"), strict=True):
        file.write_text(json.dumps([row for row in rows if row["split"] == split]))
    qa = {"format": "zsre", "target": "alt", "source": "folder", "data_dir": str(folder)}
    datasets = {**named(SMOKE, "datasets"), "worldfacts-qa": qa}
    changed = {**SMOKE, "datasets": datasets, "results_dir": "copy/results"}
    (folder / "copy.yaml").write_text(yaml.safe_dump(changed))
    given = ("--configfile", folder / "copy.yaml", "config/seeds.yaml")
    given += ("--config", "memory_mb=123", "gpus_per_job=2", "--printshellcmds")
    return files, given, planned(*given)


def test_files_given_together_add_up(together):
    _, _, text = together
    assert "_seed2" in text and "mem_mb=123" in text
    assert "copy/results/runs" in text and "smoke/results/runs" not in text


def test_the_files_of_a_dataset_are_what_is_frozen(together):
    """So Snakemake makes anew what depends on one that changed."""
    files, _, text = together
    inputs = f"input: resources/models/tiny-gpt2, {files[0]}, {files[1]}\n"
    assert f"{inputs}    output: copy/results/frozen/tiny-gpt2_worldfacts-qa_seed0-" in text


def test_a_job_takes_gpus_if_it_is_to_have_some(together):
    """What SLURM starts, in mode remote, has them from SLURM."""
    _, given, text = together
    assert "Shell command: python -m smedit.hosting.gpu_slots 2 smedit job freeze " in text
    assert "Shell command: smedit job freeze " in planned(*given, "--mode", "remote")


def test_long_jobs_share_no_submissions_on_a_cluster():
    """That short ones do is tried on a cluster, in tests/slurm."""
    cluster = ("--forceall", "--workflow-profile", "workflow/profiles/slurm", "--printshellcmds")
    text = planned("smoke", *cluster, "--configfile", "config/smoke.yaml", "--config", "minutes=61")
    assert "rule run:" in text and "Group job" not in text
    assert "Shell command: smedit job freeze " in text  # without GPUs


def test_a_configuration_file_stands_alone(tmp_path):
    part = tmp_path / "part.yaml"
    part.write_text("device: cpu\n")
    status, text = snakemake("--dry-run", "--configfile", part)
    assert status != 0
    assert f"error: {part}: top level: the key 'models' is missing" in text


def test_what_the_repository_keeps_is_not_run_again(tmp_path):
    """Though the model has to be made for other runs; but on other data it is."""
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps([{"prompt": f"Osk {i} is a", "target": "baker"} for i in "abcd"]))
    spec = {"format": "facts", "source": "file", "path": str(facts), "train_on": "worldfacts-qa"}
    mine = {"mine": {"methods": ["SMEdit", "MALMEN"], "n_edits": 2, "n_requests": 4}}
    config = {"models": ["tiny-gpt2"], "datasets": {"own": spec}, "experiments": mine}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    plan = make_plan(completed(config, "mine"))
    (kept, run), (other, _) = plan.runs.items()
    results = tmp_path / "results/mine"
    result, there = results / f"runs/{kept}.json", results / f"runs/{other}.json"
    result.parent.mkdir(parents=True)
    asked = [asdict(m) for m in run.measurements]
    write_result({"asked": asked, "dataset_spec": plan.datasets["own"]}, result)
    pack(results, lambda _: [facts])
    result.unlink()

    def jobs():
        text = planned(*targets, "--quiet", "rules", cwd=tmp_path)
        return dict(line.split() for line in text.splitlines() if line.startswith("run "))

    where = ("--snakefile", ROOT / "Snakefile", "--configfile", "mine.yaml")
    targets = [str(path.relative_to(tmp_path)) for path in (result, there)] + [*where]
    assert jobs() == {"run": "1"} and result.is_file()
    assert jobs() == {"run": "1"}  # nor when it lies there already
    facts.write_text(facts.read_text().replace("baker", "judge"))
    assert jobs() == {"run": "2"}
    result.unlink()
    assert jobs() == {"run": "2"} and not result.exists()
