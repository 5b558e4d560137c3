"""Bad inputs of every kind: each gives one line that says what, where and what to do.

None ends in a traceback: a configuration is refused before any job, a command exits with status 2.
Further cases stand in tests/unit (test_config.py, test_readers.py, test_model_sources.py).
"""

import copy
import json
import pickle
import re
import shutil

import pytest
import torch
import yaml
from run_jobs import QA, make_freeze, make_job
from runs import ROOT, planned, snakemake

from conftest import make_model, put_in_place
from smedit.cli import main
from smedit.data.formats.counterfact import FLAT_FILES
from smedit.data.formats.zsre import ZSRE_FILES
from smedit.data.readers import load_requests
from smedit.errors import UserError
from smedit.models.architectures import check_models
from smedit.plan.catalogue import named
from smedit.plan.config import check_data, completed
from smedit.plan.plan import make_plan
from smedit.store.results import write_result

TINY_LLAMA = ROOT / "tests/conformance/cases/tiny-llama"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAN, INFINITY = float("nan"), float("inf")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


# --- configurations -------------------------------------------------------------------------------

LLAMA = "models/tiny-llama"
DATA = "datasets/worldfacts-qa"
MBPS = "experiments/in_batches/methods/2"
ZSRE_HUB = {"format": "zsre", "target": "alt", "source": "hub", "repository": "a/b"}
WHEEL = {"name": "some-wheel", "version": "1.0", "member": "model.gguf"}


def pypi(**wheel):
    return {
        "source": "pypi",
        "wheels": [{**WHEEL, **wheel}],
        "gguf_sha256": "0" * 64,
        "edit_modules": ["x"],
    }


def hub_files(train):
    return {**ZSRE_HUB, "revision": COMMIT, "files": {"train": train, "eval": "b.json"}}


def without_files():
    return {**ZSRE_HUB, "revision": COMMIT}


CONFIGURATIONS = [
    # numbers
    ("lr", True, "lr: True is not of type 'number'"),
    ("lr", "1e-5", "'1e-5' is not of type 'number'; write it without quotes, and"),
    ("lr", 1e308, "lr: the number is too large; the largest is 3e"),
    ("lr", -INFINITY, "lr: -inf is not a finite number"),
    ("lr", None, "lr: None is not of type 'number'"),
    ("loc_coef", -0.1, "loc_coef: -0.1 is less than the minimum of 0"),
    ("minibatch", 2.0, "minibatch: 2.0 is not of type 'integer'; write 2"),
    ("rank", 10**6, "rank: 1000000 is greater than the maximum of 65536"),
    ("experiments/search/lr", [1e-3, NAN], "experiments.search.lr.1: nan is not a finite number"),
    ("experiments/search/lr", [], "experiments.search.lr: [] should be non-empty"),
    ("seeds", [0, 0], "seeds: [0, 0] has non-unique elements"),
    ("seeds", [-1], "seeds.0: -1 is less than the minimum of 0"),
    ("seeds", [10**400], "seeds.0: the number is too large; the largest is 9.0072e+15"),
    ("threads", 10**6, "threads: 1000000 is greater than the maximum of 1024"),
    (f"{MBPS}/bp_steps", -2, "methods.2.bp_steps: -2 is less than the minimum of 1"),
    ("time_decay", 1.5, "time_decay: 1.5 is greater than the maximum"),
    # names and folders
    ("results_dir", "a b; rm -rf c", "results_dir: 'a b; rm -rf c' is not a plain path; use"),
    ("results_dir", "../x", "results_dir: '../x' begins with '-' or has a part '.' or '..'; leave"),
    ("results_dir", "a\0b", r"results_dir: 'a\x00b' has a character that cannot be printed; remo"),
    ("results_dir", "x" * 5000, "results_dir: 'xxx"),
    ("results_dir", "README.md/x", "'README.md/x': README.md is a file; name another folder"),
    ("figures_dir", "smoke/results", "figures_dir: 'smoke/results' is results_dir, too; name an"),
    ("figures_dir", "smoke/results/", "'smoke/results/' is not a plain path; use letters"),
    ("models", {"../x": {}}, "models: '../x' is not a plain name; use at most 100 letters"),
    ("models", {"tiny\n": {}}, r"models: 'tiny\n' has a character that cannot be printed; remove"),
    ("models", {"x" * 300: {}}, "is not a plain name; use at most 100 letters"),
    ("datasets", {7: {}}, "datasets: the key 7 is not text; put it in quotes"),
    # models
    (f"{LLAMA}/edit_modules", ["h.{3..2}.up"], "the range of 'h.{3..2}.up' has 0 indices; write"),
    (f"{LLAMA}/edit_modules", ["h.{2..3..0}.up"], "'h.{2..3..0}.up' has 0 indices; write it as"),
    (f"{LLAMA}/edit_modules", ["h.{0..999999}.up"], "'h.{0..999999}.up' has 1000000 indices; wr"),
    (f"{LLAMA}/edit_modules", ["h.{2..3}.up", "h.3.up"], "'h.3.up' stands there twice; leave one"),
    (f"{LLAMA}/edit_modules", ["model.layers.{2,3}.mlp"], "has no edit module 'model.layers.{2,3}"),
    (f"{LLAMA}/step", 3, "tiny-llama: unknown key 'step'; did you mean 'steps'?"),
    (f"{LLAMA}/path", "here", "tiny-llama.path: has no effect with the other keys beside it; leav"),
    (f"{LLAMA}/architecture", "", "tiny-llama.architecture: '' is not a path; write one whose"),
    (f"{LLAMA}/architecture", "x" * 300, "x… is not a path; write one whose parts have at most"),
    (f"{LLAMA}/architecture", "config/smoke.yaml", "smoke.yaml: transformers cannot build it"),
    (LLAMA, pypi(version=">=1"), "wheels.0.version: '>=1' is not one exact version; write it as"),
    (LLAMA, pypi(member="../x"), "wheels.0.member: '../x' is not a path inside the wheel; write"),
    (LLAMA, pypi(name="--index-url"), "wheels.0.name: '--index-url' is not the name of a package"),
    # datasets
    (DATA, ZSRE_HUB, "worldfacts-qa: the key 'revision' is missing"),
    (DATA, {**hub_files("a.json"), "revision": "main"}, "'main' is not a full commit hash; write"),
    (DATA, {**hub_files("a.json"), "repository": "../x"}, "'../x' is not a repository of the hub;"),
    (DATA, without_files(), "worldfacts-qa: the key 'files' is missing"),
    (DATA, hub_files("../a.json"), "files.train: '../a.json' is not a .json, .jsonl, .csv or"),
    (DATA, hub_files("a.pkl"), "files.train: 'a.pkl' is not a .json, .jsonl, .csv or"),
    (f"{DATA}/data_dir", "data", "worldfacts-qa.data_dir: has no effect with the other keys"),
    ("datasets/worldfacts-cloze/target", "alt", "cloze.target: has no effect with the other keys"),
]


@pytest.mark.parametrize(("key", "value", "message"), CONFIGURATIONS, ids=lambda v: str(v)[:40])
def test_a_bad_configuration(key, value, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))
    config |= copy.deepcopy({kind: named(config, kind) for kind in ("models", "datasets")})
    *path, last = key.split("/")
    place = config
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    with pytest.raises(UserError) as caught:
        plan = make_plan(completed(config))
        check_data(plan)
        check_models(plan.models)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


def test_a_configuration_that_is_none():
    for config in (None, [], "text", 7):
        with pytest.raises(UserError, match=r"^top level: .* is not of type 'object'"):
            completed(config)
    config = {}
    config["models"] = config
    with pytest.raises(
        UserError, match="top level: holds itself, or is nested too deeply; write it"
    ):
        completed(config)


FOLDER = "{format: zsre, target: alt, source: folder, data_dir: "
TOO_LONG = f"datasets={{worldfacts-qa: {FOLDER}{'x/' * 3000}}}}}"
"""A path at which the system fails, as at one below a folder that one may not enter."""

RUNS = [
    ("lr: 0.1", [TOO_LONG], ": File name too long; correct the path, or the rights to it"),
    *(
        pytest.param(*case, marks=pytest.mark.long)  # each starts Snakemake, which takes seconds
        for case in (
            ("lr: .nan", [], "error: FILE: lr: nan is not a finite number"),
            ("lr: 1e-3", [], "error: FILE: lr: '1e-3' is not of type 'number'; write it without"),
            ("lr: [", [], "error: FILE, line 18: not YAML (expected ',' or ']', but got ':'); use"),
            ("lr: 0.1", ["seeds=0"], "error: config: seeds: 0 is not of type 'array'; write [0]"),
            ("lr: 0.1", ["results_dir=a b"], "config: results_dir: 'a b' is not a plain path; use"),
        )
    ),
]


@pytest.mark.parametrize(("lr", "overrides", "message"), RUNS)
def test_a_bad_run_stops_before_any_job(lr, overrides, message, tmp_path):
    smoke = (ROOT / "config/smoke.yaml").read_text(encoding="utf-8")
    file = tmp_path / "bad.yaml"
    file.write_text(re.sub(r"(?m)^lr: .*$", lr, smoke))
    config = ["--config", *overrides] if overrides else []
    status, said = snakemake("--dry-run", "--configfile", file, *config)
    assert status != 0
    assert message.replace("FILE", str(file)) in said
    assert "Traceback" not in said


def test_a_file_that_snakemake_cannot_read(tmp_path):
    """Snakemake reads it before the Snakefile; the profile comes before that."""
    file = tmp_path / "latin1.yaml"
    file.write_bytes(b"device: cpu\nresults_dir: caf\xe9\n")
    status, said = snakemake("--dry-run", "--configfile", file)
    assert status != 0
    assert f"error: {file}, line 2: the byte 0xe9 is not UTF-8; save the file as UTF-8" in said
    assert "Traceback" not in said


@pytest.mark.long
@NO_GPU
def test_that_there_is_no_gpu_is_said_before_any_job(tmp_path):
    smoke = (ROOT / "config/smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "cuda.yaml").write_text(smoke.replace("device: cpu", "device: cuda"))
    where = ("--snakefile", ROOT / "Snakefile", "--configfile", "cuda.yaml")
    status, said = snakemake("tables", *where, cwd=tmp_path)
    assert status != 0
    assert "error: cuda.yaml: device: cuda, but this machine has no CUDA GPU; use" in said
    assert not (tmp_path / "resources/models").exists()


@pytest.mark.long
def test_a_job_of_a_run_does_not_read_the_data_again(tmp_path):
    """The run has read it; here nobody could."""
    for file in (*ZSRE_FILES.values(), *FLAT_FILES.values()):
        (tmp_path / file).write_text("half")
    data = f"source: folder, data_dir: {tmp_path}"
    qa, cloze = f"{{format: zsre, target: alt, {data}}}", f"{{format: counterfact, {data}}}"
    datasets = f"datasets={{worldfacts-qa: {qa}, worldfacts-cloze: {cloze}}}"
    planned("--mode", "remote", "--configfile", "config/smoke.yaml", "--config", datasets)


# --- commands -------------------------------------------------------------------------------------

SMALL = {"n_edits": 2, "n_requests": 2, "edit_modules": ["model.layers.2.mlp.down_proj"]}
ROWS = {"train": 2, "tune": 1, "eval": 2}
FREEZE = make_freeze(rows=ROWS, sequential=False, dataset="d", **SMALL)
RUN = make_job(dataset="d", **SMALL)


def refused(capsys, *arguments):
    """Run a command that must fail: its one line on standard error that begins with error."""
    status = main(list(map(str, arguments)))
    text = capsys.readouterr().err
    assert status == 2
    assert "Traceback" not in text
    (line,) = re.findall(r"(?m)^error: (.*)$", text)
    assert len(line) < 700
    assert text.endswith(f"{line}\n")  # one line
    return line


def freeze(folder, spec, **changes):
    job = {**FREEZE, "dataset_spec": spec, **changes}
    out = [folder / "states.safetensors", "--before", folder / "before.json"]
    return ["job", "freeze", "--job", json.dumps(job), "--out", *out]


# --- datasets -------------------------------------------------------------------------------------


def row(i, **changes):
    subject = f"Tower {i}"
    return {
        "subject": subject,
        "src": f"Who built {subject}?",
        "rephrase": f"{subject} was built by whom?",
        "alt": "Ona Tresk",
        "loc": f"nq question: who saw {subject} fall",
        "loc_ans": "nobody",
        **changes,
    }


def rows(*changed, start=0):
    """Forty rows; the first ones are changed as asked."""
    return [row(start + i, **(changed[i] if i < len(changed) else {})) for i in range(40)]


def text(*changed):
    return json.dumps(rows(*changed)).encode()


def twice(times):
    return json.dumps(rows() + rows()[:times]).encode()


LONG = " ".join(f"w{i % 60}" for i in range(3000))  # about 10,000 characters and 3,000 tokens

DATASETS = [
    # files
    (b"", "zsre_mend_train.json: not complete JSON (Expecting value: line 1 column 1 (char 0)); d"),
    (text()[:-100], "zsre_mend_train.json: not complete JSON (Unterminated string"),
    (b'[{"subject": "Caf\xc3', "can't decode byte 0xc3 in position 17: unexpected end of data"),
    (json.dumps(rows()).encode("utf-16"), "not complete JSON ('utf-8' codec can't decode byte"),
    (b"\n".join(json.dumps(r).encode() for r in rows()), "Extra data: line 2 column 1 (char"),
    (b"subject,src\nTower,Who?\n", "not complete JSON (Expecting value: line 1"),
    (pickle.dumps(rows()), "not complete JSON ('utf-8' codec can't decode byte 0x80"),
    (b"[" * 100_000, "not complete JSON (maximum recursion depth exceeded"),
    (b"[" + b"9" * 5000 + b"]", "not complete JSON (Exceeds the limit"),
    (b'{"rows": []}', "zsre_mend_train.json: an object instead of a list of rows; restore it"),
    (b"[]", "zsre_mend_train.json: no rows"),
    (b"[null]", "zsre_mend_train.json, row 1: null instead of an object; restore the file"),
    # rows
    (text({}, {"src": ""}), "zsre_mend_train.json, row 2, field src: empty; fill it in or remove"),
    (text({"loc": " \t\n\u00a0\u2003"}), "row 1, field loc: empty; fill it in or remove the row"),
    (text({"rephrase": "\u200b\u2060\ufeff"}), "row 1, field rephrase: empty; fill it in or rem"),
    (text({"alt": ""}, {"alt": " "}, {"alt": "\u200b"}), "row 1, field alt: the target is empty;"),
    (text({"alt": NAN}), "row 1, field alt: a number instead of a text; correct it"),
    (text({"alt": [["Ona"]]}), "row 1, field alt: a list instead of a text; correct it"),
    (text({"src": ["Who?"]}), "row 1, field src: a list instead of a text; correct it"),
    (text({"loc_ans": None}), "row 1, field loc_ans: missing; add it or remove the row"),
    (text({"alt": "Ona \ud83d"}), r"field alt: holds '\ud83d', which is no character; correct it"),
    (text({"subject": "Tower\0 0"}), r"field subject: holds '\x00', which is no character; corr"),
    (text(*3 * [{"subject": "Gate"}]), "the prompt does not name the subject 'Gate'; correct the"),
    (twice(30), "row 41: the same as row 1; remove one of them (30 of 70 rows are unusable; at"),
]


def dataset(folder, train):
    (folder / "zsre_mend_train.json").write_bytes(train)
    (folder / "zsre_mend_eval.json").write_text(json.dumps(rows(start=100)))
    return {"format": "zsre", "source": "folder", "data_dir": str(folder), "target": "alt"}


@pytest.mark.parametrize(("train", "message"), DATASETS, ids=lambda v: str(v)[:40])
def test_a_bad_dataset(train, message, tiny, tmp_path, capsys):
    spec = dataset(tmp_path, train)
    assert message in refused(capsys, *freeze(tmp_path, spec))
    assert {path.name for path in tmp_path.iterdir()} == {
        "zsre_mend_train.json",
        "zsre_mend_eval.json",
    }


def test_a_long_prompt_is_shown_in_part(tiny, tmp_path, capsys):
    spec = dataset(tmp_path, text(*40 * [{"rephrase": LONG}]))
    line = refused(capsys, *freeze(tmp_path, spec))
    assert re.search(r"w\d*… with its answer has 300\d tokens, more than the model's context", line)
    assert line.endswith("of 2048; shorten or remove the row")
    assert len(line) < 250


SOURCES = [
    ({"data_dir": "nowhere"}, "dataset d, key data_dir: no folder nowhere; correct the path"),
    ({"data_dir": "~nobody-here/x"}, "key data_dir: no folder ~nobody-here/x; correct the path"),
    ({"data_dir": ""}, "dataset d, key data_dir: missing; name the folder with the files"),
    ({"data_dir": "a\0b"}, r"--job: dataset_spec.data_dir: 'a\x00b' has a character that cannot"),
    ({"data_dir": 7}, "--job: dataset_spec.data_dir: 7 is not of type 'string'"),
    ({"source": "hub"}, "dataset d, key repository: missing; name it as owner/name"),
    ({"source": "hub", "repository": "a/b", "revision": "v1"}, "'v1' is not a full commit (40 hex"),
    ({"source": ["hub"]}, "dataset d, key source: ['hub'] is unknown; did you mean hub?"),
]


@pytest.mark.parametrize(("changes", "message"), SOURCES, ids=lambda v: str(v)[:40])
def test_a_bad_source_of_data(changes, message, tiny, tmp_path, capsys):
    spec = {"format": "zsre", "source": "folder", "data_dir": ".", "target": "alt", **changes}
    assert message in refused(capsys, *freeze(tmp_path, spec))


ODD_BUT_RIGHT = {
    "emoji": {"src": "Who built Tower 0 🏗️👩‍👩‍👧?", "alt": "🦊"},
    "right to left": {"src": "מי בנה את Tower 0؟", "alt": "أونا"},
    "accents apart from letters": {"subject": "Caf\u00e9", "src": "Who built Cafe\u0301?"},
    "several lines": {"src": "Tower 0.\n\tWho built it?\r\n"},
    "10,000 characters that fit the context": {"src": f"Tower 0 {'long' * 2500}?"},
    "text that looks like code": {"src": "Tower 0 {} %s ${HOME} `id` '; --", "alt": "../../x"},
}


@pytest.mark.parametrize("changes", ODD_BUT_RIGHT.values(), ids=ODD_BUT_RIGHT)
def test_odd_rows_that_are_right_are_taken(changes, tiny, tmp_path):
    spec = dataset(tmp_path, text(changes))
    job = freeze(tmp_path, spec, rows={"train": 40, "tune": 1, "eval": 2})
    assert main(list(map(str, job))) == 0
    tokens = json.loads((tmp_path / "before.json").read_text(encoding="utf-8"))["tokens"]
    assert changes.get("src", "").strip() in tokens["prompts"]
    answers = {answer for known in tokens["answers"].values() for answer in known}
    assert f" {changes.get('alt', 'Ona Tresk')}" in answers


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path):
    lines = json.dumps(rows(), indent=1).replace("\n", "\r\n").encode("utf-8-sig")
    assert len(load_requests("d", dataset(tmp_path, lines), 0).train) == 40


# --- command lines --------------------------------------------------------------------------------


def without(job, *keys):
    job = copy.deepcopy(job)
    place = job
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return json.dumps(job)


def having(job, part, **changes):
    return json.dumps({**job, part: {**job[part], **changes}})


def measured(**changes):
    return json.dumps({**RUN, "asked": [{**RUN["asked"][0], **changes}]})


JOBS = [
    ("freeze", "{", "--job: not JSON: Expecting property name enclosed in double quotes"),
    ("freeze", "[" * 100_000, "--job: not JSON: maximum recursion depth exceeded"),
    ("freeze", "7", "--job: top level: 7 is not of type 'object'"),
    ("freeze", without(FREEZE, "device"), "--job: top level: the key 'device' is missing"),
    ("freeze", having(FREEZE, "rows", evl=3), "--job: rows: unknown key 'evl'; did you mean 'eva"),
    ("freeze", having(FREEZE, "settings", threads="two"), "'two' is not of type 'integer'"),
    ("freeze", json.dumps({**FREEZE, "device": "gpu"}), "device: unknown value 'gpu'; did you me"),
    ("freeze", having(FREEZE, "settings", edit_modules=[]), "edit_modules: [] should be non-empty"),
    ("freeze", having(FREEZE, "rows", eval=10**6), "1000000 rows of the eval split are needed, th"),
    ("freeze", having(FREEZE, "settings", edit_modules=["h.9.up"]), "tiny has no such module"),
    ("run", without(RUN, "settings", "method"), "--job: settings: the key 'method' is missing"),
    ("run", having(RUN, "settings", method="SMEdt"), "'SMEdt'; did you mean 'SMEdit'? known"),
    ("run", having(RUN, "settings", shift_rule="x"), "unknown shift rule 'x'; known: least_squ"),
    ("run", having(RUN, "settings", shift_rule="a:x"), "shift rule 'a:x': No module named 'a'; c"),
    ("run", measured(n_requests=1), "1 requests are fewer than n_edits 2; use more, or a smaller"),
    ("run", having(RUN, "settings", bp_steps=0), "settings.bp_steps: 0 is less than the minimum"),
    ("run", having(RUN, "settings", n_edits=2.0), "2.0 is not of type 'integer'; write 2"),
    ("run", having(RUN, "settings", lr=NAN), "settings.lr: nan is not a finite number"),
    ("run", having(RUN, "settings", lr=-INFINITY), "lr: -inf is not a finite number"),
    ("run", measured(rows="train"), "asked.0.rows: unknown value 'train'; known: eval, tune"),
    ("run", json.dumps({**RUN, "asked": []}), "--job: asked: [] should be non-empty"),
    ("run", measured(n_requests=10**6), "1000000 rows of the eval split are needed, there are"),
    ("run", measured(n_requests=4), "before.json: made for 2 eval rows of dataset d, 4 are need"),
    ("run", having(RUN, "settings", seed=1), "before.json: made for another seed; delete it"),
    pytest.param(
        *(
            "run",
            json.dumps({**RUN, "device": "cuda"}),
            "device: cuda, but this machine has no CUDA",
        ),
        marks=NO_GPU,
    ),
    ("benchmark", "{}", "--job: top level: the key 'settings' is missing"),
]


@pytest.fixture(scope="module")
def freezer(tmp_path_factory):
    """What `freeze` writes for these jobs."""
    folder, model = tmp_path_factory.mktemp("frozen"), make_model()
    with pytest.MonkeyPatch.context() as patch:
        put_in_place(model, patch)
        assert main(list(map(str, freeze(folder, QA)))) == 0
    return folder


@pytest.fixture
def frozen(tiny, freezer, tmp_path):
    """The same files, for one test."""
    shutil.copytree(freezer, tmp_path, dirs_exist_ok=True)
    return [tmp_path / "states.safetensors", "--before", tmp_path / "before.json"]


@pytest.mark.parametrize(("command", "job", "message"), JOBS, ids=lambda v: str(v)[:40])
def test_a_bad_job(command, job, message, frozen, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "out"
    files = {"freeze": ["--before", tmp_path / "b"], "benchmark": []}
    more = files.get(command, ["--states", *frozen])
    assert message in refused(capsys, "job", command, "--job", job, "--out", out, *more)
    assert not out.exists()


def prepare(spec, out="m"):
    return ["job", "prepare-model", "--name", "m", "--spec", json.dumps(spec), "--out", out]


def cell(*more):
    return ["job", "run", "--job", json.dumps(RUN), *more]


def chosen(*more):
    wanted = {"search": "s", "variant": "SMEdit", "names": ["lr"]}
    return ["job", "run", "--job", json.dumps({**RUN, "chosen": wanted}), *more]


def show(*more):
    return ["show", "--results", "folder", *more]


FROZEN = ("--states", "states.safetensors", "--before", "before.json")
COMMANDS = [
    (["shw"], "No such command 'shw'. Did you mean 'show'?; smedit --help says"),
    (["job", "freze"], "No such command 'freze'. Did you mean 'freeze'?; smedit job --help says"),
    (["job", "freeze", "--job", "{}"], "Missing option '--out'; smedit job freeze --help says"),
    (["show", "--result", "x"], "No such option: --result (Possible options: --results)"),
    (cell(*FROZEN, "--out", "no/where/x.json"), "--out: there is no folder no/where; make it"),
    (cell(*FROZEN, "--out", "folder"), "--out: folder is a folder; name a file in it"),
    (cell("--states", "no", "--before", "before.json", "--out", "x"), "no: is missing"),
    (cell(*FROZEN[:2], "--before", "no", "--out", "x"), "no: cannot be read (No such file or dir"),
    (chosen(*FROZEN, "--out", "x", "--chosen", "file"), "file: not a whole result file; delete it"),
    (chosen(*FROZEN, "--out", "x"), "--chosen: missing; name the file that `choose` wrote"),
    (cell(*FROZEN[:2], "--before", "other.json", "--out", "x"), "other.json: has no 'made_for', s"),
    (chosen(*FROZEN, "--out", "x", "--chosen", "other.json"), "other.json: has no 'chosen', so"),
    (show(), "folder/summary.csv: there is no summary yet; run the workflow, or name --results"),
    (show("--failed", "a"), "--failed: 0 runs begin with 'a'; folder/runs.csv lists all runs"),
    (prepare({}), "--spec: top level: the key 'source' is missing"),
    (prepare({"source": "path", "path": 7}), "--spec: path: 7 is not of type 'string'"),
    (prepare({"source": "path", "path": "no"}), "model 'm': path no is not a folder; correct the"),
    (prepare({"source": "path", "path": "~nobody-here"}), "~nobody-here is not a folder; correct"),
    (prepare({"source": "path", "path": "x"}, "folder"), "folder is there and is no prepared mod"),
    (prepare({"source": "hub", "repository": "a/b", "revision": "v1"}), "'v1' is not a full commi"),
    (prepare({"source": "random", "architecture": "no", "seed": 0}), "architecture no: no such fi"),
    (["job", "warm-start", "--listener", "one"], "--listener: Input should be a valid integer"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=lambda v: " ".join(v)[:60])
def test_a_bad_command(arguments, message, frozen, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("")
    (tmp_path / "file").write_text("no JSON")
    write_result({"another": "kind"}, tmp_path / "other.json")
    capsys.readouterr()
    assert message in refused(capsys, *arguments)
    assert (tmp_path / "folder" / "kept").exists()
    assert not (tmp_path / "x").exists()


def test_a_whole_number_as_step_size_is_taken(frozen, tmp_path):
    job = having(RUN, "settings", lr=1)
    files = ["--states", *map(str, frozen), "--out", str(tmp_path / "x")]
    assert main(["job", "run", "--job", job, *files]) == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.\nMore\nlines"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_too_little_memory(error, frozen, tmp_path, capsys, monkeypatch):
    def train(*_, **__):
        raise error

    monkeypatch.setattr("smedit.run.training.Training.up_to", train)
    capsys.readouterr()
    line = refused(capsys, *cell("--states", *frozen, "--out", tmp_path / "x"))
    assert "memory" in line
    assert line.endswith("; use fewer edits, a smaller model or a machine with more memory")


# --- model files ----------------------------------------------------------------------------------


def change_json(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def spread(folder, file):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": file}}
    (folder / INDEX).write_text(json.dumps(index))


def to_a_dangling_link(file):
    file.unlink()
    file.symlink_to("no")


WEIGHTS, INDEX, TOKENS = "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
MODEL_FILES = [
    (lambda f: (f / "config.json").unlink(), "has no config.json"),
    (lambda f: [path.unlink() for path in f.glob("tokenizer*")], "has no tokenizer files"),
    (lambda f: to_a_dangling_link(f / WEIGHTS), "has no *.safetensors; other formats are not rea"),
    (lambda f: spread(f, "part-2.safetensors"), "does not hold 'part-2.safetensors', which its i"),
    (lambda f: spread(f, "../x.safetensors"), "'../x.safetensors', which its index of weights na"),
    (lambda f: (f / INDEX).write_text("[]"), "cannot be read (TypeError: list indices must be in"),
    (lambda f: (f / WEIGHTS).write_bytes(b"\0" * 1000), "cannot be loaded (SafetensorError: "),
    (lambda f: (f / "config.json").write_text(""), "cannot be loaded (OSError: It looks like the"),
    (lambda f: change_json(f / "config.json", hidden_size=-1), "cannot be loaded (StrictDataclas"),
    (lambda f: (f / TOKENS).write_text("{}"), "cannot be loaded (KeyError: 'added_tokens')"),
    (
        lambda f: change_json(f / TOKENS, added_tokens=[new_token(5000)]),
        "its tokenizer gives token 512, its vocabulary ends at 511; use the tokenizer that bel",
    ),
]


def new_token(number):
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": number, "content": "Tower", **plain}


@pytest.mark.parametrize(("damage", "message"), MODEL_FILES, ids=lambda v: str(v)[:30])
def test_a_bad_model_folder(damage, message, tmp_path, capsys):
    """It is refused when it is prepared or, at the latest, before anything is computed with it."""
    shutil.copytree(TINY_LLAMA, tmp_path / "weights")
    damage(tmp_path / "weights")
    spec = {"source": "path", "path": str(tmp_path / "weights")}
    arguments = prepare(spec, str(tmp_path / "m"))
    status = main(arguments)
    if status == 0:
        (tmp_path / "data").mkdir()
        model = {"model": "m", "model_folder": str(tmp_path / "m")}
        arguments = freeze(tmp_path, dataset(tmp_path / "data", text()), **model)
    capsys.readouterr()
    assert message in refused(capsys, *arguments)
    assert not list(tmp_path.glob("*.part"))
