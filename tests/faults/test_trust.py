"""What comes from elsewhere is data: it is not run, and it writes nothing outside its folder."""

import ast
import hashlib
import json
import lzma
import pickle
import re
import secrets
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
import yaml
from run_jobs import call, make_freeze, make_job

import write_provenance
from smedit.cli import main
from smedit.data.readers import load_requests
from smedit.errors import UserError
from smedit.models import wheels
from smedit.models.model_sources import prepare_model
from smedit.plan.catalogue import named

ROOT = Path(__file__).parents[2]
TINY_LLAMA = ROOT / "tests/conformance/cases/tiny-llama"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tree(folder):
    """Every file below a folder, links included, with what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# --- this suite's own code ------------------------------------------------------------------------

CODE = [
    path
    for folder in ("smedit", "baselines", "workflow")
    for pattern in ("*.py", "*.smk")
    for path in sorted((ROOT / folder).rglob(pattern))
]
UNSAFE = re.compile(
    r"^\s*(import|from)\b.*\b(_?c?pickle|dill|cloudpickle|joblib|shelve|marshal)\b"
    r"|\b(torch\.load|torch\.save|read_pickle|to_pickle|np\.load|extractall|os\.system)\("
    r"|\byaml\.(load|unsafe_load|full_load)\(|(?<![\w.])(eval|exec)\("
    r"|\b(trust_remote_code|allow_pickle|shell)\s*=\s*True|weights_only\s*=\s*False",
    re.MULTILINE | re.IGNORECASE,
)


def test_the_code_is_found():
    assert len(CODE) > 50


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_or_runs_foreign_code(path):
    assert not [match[0] for match in UNSAFE.finditer(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "line",
    ["import os, pickle", "from cPickle import x", "torch.load(f)", "x = eval(y)", "shell = True"],
)
def test_unsafe_code_would_be_found(line):
    assert UNSAFE.search(f"a = 1\n{line}\n")


def test_every_model_is_loaded_without_its_own_code():
    """Left out, transformers would ask on a terminal whether to run it."""
    calls = []
    for path in CODE:
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if re.fullmatch(r"Auto\w+\.from_\w+", name):
                calls.append(name)
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}: {name}"
    assert len(calls) >= 6


# --- a hostile wheel ------------------------------------------------------------------------------

OUTSIDE = Path("/tmp", secrets.token_hex(8))

NAMES = [
    "../outside",
    "../../outside",
    str(OUTSIDE),
    "..\\outside",
    "C:\\outside",
    "a/../../outside",
    "a\\..\\..\\outside",
    "outside\0.txt",
    "a\nb",
    "folder/",
    *[f"many/{i}" for i in range(2000)],
]


def link(name, target):
    """A member that unpacks to a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Stand in for the download: serve a wheel with these members."""

    def serve(*members):
        def download(_model, _wheel, folder):
            folder.mkdir()
            with zipfile.ZipFile(folder / "evil.whl", "w") as archive:
                for member, data in members:
                    archive.writestr(member, data)
            return folder / "evil.whl"

        monkeypatch.setattr(wheels, "_download", download)

    return serve


def fetch(folder, member, sha256="0" * 64):
    spec = [{"name": "evil", "version": "1.0", "member": member}]
    wheels.fetch_gguf("m", spec, sha256, folder / "out")


def test_of_a_hostile_wheel_only_the_named_member_is_unpacked(wheel, tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    wheel(*[(name, b"evil") for name in NAMES], link("way", "/etc"), ("way/good", b"good"))
    fetch(folder, "good", hashlib.sha256(b"good").hexdigest())
    assert tree(tmp_path) == {"inside": None, "inside/out": b"good"}
    assert not OUTSIDE.exists()


@pytest.mark.parametrize("member", NAMES[:7])
def test_a_member_that_leads_outside_cannot_be_named(wheel, tmp_path, member):
    wheel((member, b"evil"))
    with pytest.raises(UserError, match=r"is absolute or has '\.\.'; name a path inside it"):
        fetch(tmp_path, member)
    assert tree(tmp_path) == {}


def test_a_link_is_not_followed(wheel, tmp_path):
    (tmp_path / "secret").write_text("secret")
    wheel(link("model.gguf", str(tmp_path / "secret")))
    with pytest.raises(UserError, match=r"has SHA-256 .* but gguf_sha256 is"):
        fetch(tmp_path, "model.gguf", hashlib.sha256(b"secret").hexdigest())
    assert tree(tmp_path) == {"secret": b"secret"}


def test_the_members_of_a_hostile_wheel_are_not_all_listed(wheel, tmp_path):
    wheel(*[(name, b"evil") for name in NAMES])
    with pytest.raises(
        UserError, match=r"correct the key member: it holds 'a\\nb', 'folder/'"
    ) as e:
        fetch(tmp_path, "model.gguf")
    assert len(str(e.value)) < 300
    assert str(e.value).endswith(", …")
    assert str(e.value).isprintable()


def test_a_member_that_would_fill_the_disk_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.gguf", bytes(10**7))
    with (tmp_path / "out").open("wb") as out, pytest.raises(UserError, match="would unpack 9"):
        wheels.copy_member(tmp_path / "bomb.whl", "model.gguf", out)
    assert (tmp_path / "out").stat().st_size == 0


def damaged(path, damage):
    """A wheel with one member and bytes changed in its two headers."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("model.gguf", lzma.compress(b"model" * 1000))
    data = bytearray(path.read_bytes())
    local, central = data.index(b"PK\3\4"), data.index(b"PK\1\2")
    damage(data, local, central)
    path.write_bytes(data)


def encrypt(data, local, central):
    data[local + 6] |= 1
    data[central + 8] |= 1


def unknown_compression(data, local, central):
    data[local + 8] = data[central + 10] = 77


def other_bytes(data, local, central):
    data[local + 50 : local + 80] = bytes(30)


def no_compressed_bytes(data, local, central):
    data[local + 44 : local + 60] = b"\xff" * 16


def cut(data, local, central):
    del data[central:]


DAMAGES = [encrypt, unknown_compression, other_bytes, no_compressed_bytes, cut]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wheel_that_cannot_be_unpacked_is_named(tmp_path, damage):
    damaged(tmp_path / "w.whl", damage)
    with (tmp_path / "out").open("wb") as out, pytest.raises(UserError, match=r"w\.whl is damaged"):
        wheels.copy_member(tmp_path / "w.whl", "model.gguf", out)


# --- a hostile dataset ----------------------------------------------------------------------------

EVIL = "../../../outside\n$(touch outside); `touch outside` {0} %s \\ ' \" ~"


def hostile_rows(start):
    """Rows whose every field tries to be a path or a command."""
    return [
        {
            "case_id": "../../outside",
            "../../outside": "evil",
            "subject": f"{EVIL} {i}",
            "src": f"{EVIL} {i} is",
            "rephrase": f"What is {EVIL} {i}",
            "alt": EVIL,
            "loc": f"{EVIL} {i} was",
            "loc_ans": EVIL,
        }
        for i in range(start, start + 10)
    ]


def test_a_hostile_dataset_writes_nothing_outside(tiny, tmp_path, monkeypatch):
    home = tmp_path / "a/b/c/work"
    (home / "data").mkdir(parents=True)
    (home / "out").mkdir()
    monkeypatch.chdir(home)
    for file, start in (("train", 0), ("eval", 50)):
        text = json.dumps(hostile_rows(start))
        (home / f"data/zsre_mend_{file}.json").write_text(text, encoding="utf-8")
    spec = {"format": "zsre", "source": "folder", "target": "alt", "data_dir": "data"}
    rows = {"train": 2, "tune": 1, "eval": 2}
    before = tree(tmp_path)
    frozen = ["out/states.safetensors", "--before", "out/before.json"]
    job = make_freeze(spec, rows=rows, sequential=False)
    assert main(["job", "freeze", "--job", json.dumps(job), "--out", *frozen]) == 0
    job = json.dumps(make_job(spec=spec, n_edits=2, n_requests=2))
    assert main(["job", "run", "--job", job, "--states", *frozen, "--out", "out/result.json"]) == 0
    new = {name for name in tree(tmp_path) if name not in before}
    written = {"states.safetensors", "before.json", "result.json"}
    assert new == {f"a/b/c/work/out/{name}" for name in written}


def test_only_the_named_files_of_a_repository_are_read(tmp_path, monkeypatch):
    """By the real `datasets`, for which a folder is a repository, with traps beside the files."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    repository, marker = tmp_path / "facts", tmp_path / "marker"
    repository.mkdir()
    (repository / "train.json").write_text(json.dumps(hostile_rows(0)), encoding="utf-8")
    lines = "\n".join(json.dumps(row) for row in hostile_rows(50))
    (repository / "eval.jsonl").write_text(lines, encoding="utf-8")
    (repository / "train.pkl").write_bytes(pickle.dumps(Payload(marker)))
    with zipfile.ZipFile(repository / "more.zip", "w") as archive:
        archive.writestr("train.json", json.dumps(hostile_rows(100)))
    card = "configs: [{config_name: default, data_files: more.zip}]"
    (repository / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")
    spec = {"source": "hub", "repository": str(repository), "revision": COMMIT}
    zsre = {"format": "zsre", "target": "alt", "files": {"train": "train.json"}}
    zsre["files"]["eval"] = "eval.jsonl"

    splits = load_requests("d", {**spec, **zsre}, 0)
    read = {request.subject for part in splits.parts.values() for request in part}
    assert read == {row["subject"].strip() for start in (0, 50) for row in hostile_rows(start)}
    with pytest.raises(UserError, match="dataset d, key files: names nothing; expected pool or"):
        load_requests("d", {**spec, "format": "counterfact"}, 0)
    (repository / "facts.py").write_text(f"open({str(marker)!r}, 'w')")  # once, it would be run
    with pytest.raises(UserError, match=r"dataset d: cannot load train\.json of "):
        load_requests("d", {**spec, **zsre}, 0)
    assert not marker.exists()


# --- pickles and code -----------------------------------------------------------------------------


class Payload:
    """Unpickled, it makes a file; so would the code of `EVIL_MODULE`, once imported."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it-was-run"


@pytest.fixture
def weights(tmp_path):
    return Path(shutil.copytree(TINY_LLAMA, tmp_path / "weights"))


def prepare_and_load(folder, capsys):
    """Error lines of the commands that would first read a model, until one fails."""
    spec = {"source": "path", "path": str(folder / "weights")}
    prepare = ["prepare-model", "--name", "m", "--spec", json.dumps(spec), "--out", folder / "m"]
    modules, rows = ["model.layers.1.mlp.down_proj"], {"train": 1, "tune": 1, "eval": 1}
    job = make_freeze(rows=rows, sequential=False, edit_modules=modules)
    job["model_folder"] = str(folder / "m")
    out = [folder / "states", "--before", folder / "before"]
    for command in (prepare, ["freeze", "--job", json.dumps(job), "--out", *out]):
        status = call(*command)
        if status:
            break
    assert status == 2
    (line,) = re.findall(r"(?m)^error: (.*)$", capsys.readouterr().err)
    return line


def test_pickled_weights_are_not_read(weights, marker, tmp_path, capsys):
    (weights / "model.safetensors").unlink()
    (weights / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    assert "has no *.safetensors; other formats are not read" in prepare_and_load(tmp_path, capsys)
    assert not marker.exists()


def test_a_pickle_under_another_name_is_not_read(weights, marker, tmp_path, capsys):
    (weights / "model.safetensors").write_bytes(pickle.dumps(Payload(marker)))
    assert "cannot be loaded (SafetensorError" in prepare_and_load(tmp_path, capsys)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        (
            "config.json",
            {
                "model_type": "evil",
                "auto_map": {"AutoConfig": "evil.X", "AutoModelForCausalLM": "evil.X"},
            },
        ),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["evil.X", None]}},
        ),
    ],
)
def test_code_that_comes_with_a_model_is_not_run(
    file, changes, weights, marker, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    (weights / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass X: pass\n")
    settings = json.loads((weights / file).read_text()) | changes
    (weights / file).write_text(json.dumps(settings))
    line = prepare_and_load(tmp_path, capsys)
    assert "it asks for code that comes with it, which is never run; use a model of an" in line
    assert "trust_remote_code" not in line
    assert not marker.exists()


def test_a_pickled_dataset_is_not_read(marker, tmp_path):
    for name in ("train", "eval"):
        (tmp_path / f"zsre_mend_{name}.json").write_bytes(pickle.dumps(Payload(marker)))
    spec = {"format": "zsre", "source": "folder", "target": "alt", "data_dir": str(tmp_path)}
    with pytest.raises(UserError, match=r"zsre_mend_train\.json: not complete JSON"):
        load_requests("d", spec, 0)
    assert not marker.exists()


# --- pinned and recorded --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config", "smoke", "paper"])
def test_shipped_models_and_datasets_are_pinned(name):
    config = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))
    models, datasets = named(config, "models"), named(config, "datasets")
    for spec in [*models.values(), *datasets.values()]:
        if spec["source"] == "hub":
            assert re.fullmatch("[0-9a-f]{40}", spec["revision"])
        if spec["source"] == "pypi":
            assert re.fullmatch("[0-9a-f]{64}", spec["gguf_sha256"])
            assert all(re.fullmatch(r"[\d.]+", wheel["version"]) for wheel in spec["wheels"])
        assert {"source", "format", "architecture"} & set(spec)


def test_what_models_and_data_were_is_recorded(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(write_provenance, "MODELS", tmp_path / "models")
    model = {"source": "path", "path": str(weights)}
    prepare_model("m", model, tmp_path / "models/m")
    (tmp_path / "counterfact.json").write_text("[]")
    data = {"format": "counterfact", "source": "folder", "data_dir": str(tmp_path)}
    hub = {"format": "counterfact", "source": "hub", "repository": "a/b", "revision": COMMIT}
    config = {"models": {"m": model}, "datasets": {"d": data, "h": hub}}
    config |= {"experiments": {}, "seeds": [0]}
    provenance = write_provenance.provenance(config, tmp_path)
    assert provenance["config"]["datasets"]["h"]["revision"] == COMMIT
    empty_list = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert provenance["data_files"] == {"d": {"counterfact.json": empty_list}, "h": {}}
    assert provenance["rows"] == {"d": {}, "h": {}}  # no job has read them
    files = provenance["model_files"]["m"]
    assert (
        files["model.safetensors"]
        == hashlib.sha256((TINY_LLAMA / "model.safetensors").read_bytes()).hexdigest()
    )
    assert set(files) == {path.name for path in TINY_LLAMA.iterdir()}
    (tmp_path / "models/m/checksums.json").write_text('{"config.json": ')
    with pytest.raises(
        UserError, match=r"m: its file checksums\.json is not a whole list .* again"
    ):
        write_provenance.model_files(tmp_path / "models/m")
