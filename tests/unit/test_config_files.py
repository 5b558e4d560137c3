"""How the files of a configuration are read, and where a message says that a mistake stands."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from smedit.errors import SettingError, UserError
from smedit.plan.config_files import check_command_line, explained, read_file

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_read_as_yaml(path):
    """Their anchors and merged keys, too."""
    assert read_file(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_merged_keys_may_be_replaced(tmp_path):
    """Also where a mapping is merged into one that YAML makes before it."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "a: &a {k: 1, l: 2}\nx: {b: &b {<<: *a, k: 3}}\nc: {<<: *b, l: 4}\n", encoding="utf-8"
    )
    assert read_file(path)["x"] == {"b": {"k": 3, "l": 2}}
    assert read_file(path)["c"] == {"k": 3, "l": 4}


def test_json_may_be_indented_with_tabs(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": {"b": [1, 2]}}, indent="\t"))
    assert read_file(path) == {"a": {"b": [1, 2]}}


PLAIN = "not YAML (mapping values are not allowed here); use spaces, the same number at each level"
BAD = [
    (b"a: 1\nb:\n  c: 2\n\td: 3\n", ", line 4: begins with a tab; use spaces, the same number at"),
    (b"a:\n\tb: 1\n", ", line 2: begins with a tab; use spaces"),
    (b"a: 1\n  b: 2\n", f", line 2: {PLAIN}, and close every bracket"),
    (b"a:\n    b: 1\n  c: 2\n", ", line 3: not YAML (expected <block end>, but found '<block ma"),
    (b"a: [1, 2\nb: 3\n", ", line 2: not YAML (expected ',' or ']', but got ':'); use spaces"),
    (b"a: 1\nb: 2\na: 3\n", ", line 3: the key 'a' stands twice, first in line 1; leave one out"),
    (b"x:\n  a: {b: 1, b: 2}\n", ", line 2: the key 'b' stands twice, first in line 2; leave one"),
    (b'{"a": 1,\n "a": 2}', ", line 2: the key 'a' stands twice, first in line 1; leave one out"),
    (b"a: caf\xe9\n", ", line 1: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ("a: é\n".encode("utf-16"), ", line 1: the byte 0xff is not UTF-8; save the file as UTF-8"),
    (b"a: 1\nb: \0\n", r", line 2: holds '\x00', which YAML does not allow; remove it"),
    (b"a: !!python/object:os.x 1\n", ", line 1: could not determine a constructor for the tag"),
    (b"a: *nothing\n", ", line 1: not YAML (found undefined alias"),
    (b"a: 2024-99-99\n", ": a value cannot be read (month must be in 1..12); correct it"),
    (b"", ": holds no keys; write them as KEY: VALUE, one a line"),
    (b"- a\n", ": holds no keys; write them as"),
    (b"a: " + 5000 * b"[", ": nested too deeply; write it with fewer levels"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=lambda v: str(v)[:30])
def test_a_bad_file_is_named_with_the_line(data, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("option", ["--configfile", "--configfiles"])
def test_the_command_line_is_checked(option, tmp_path, monkeypatch):
    (tmp_path / "good.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    command = ["snakemake", "-n", "--config", "a=1", option, "good.yaml"]
    monkeypatch.setattr(sys, "argv", [*command, "--cores", "1"])
    check_command_line()
    monkeypatch.setattr(sys, "argv", [*command, "missing.yaml", "--cores", "1"])
    with pytest.raises(SystemExit, match=r"^error: missing.yaml: No such file or directory; corr"):
        check_command_line()


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("seeds: [0]\nmodels: {q-2.5: {steps: 1, seed: 2}}\n")
    (tmp_path / "b.yaml").write_text("seeds: [1]\nmodels: {q-2.5: {steps: 0}}\n")
    monkeypatch.chdir(tmp_path)
    return [tmp_path / "a.yaml", tmp_path / "b.yaml"]


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("seeds", "b.yaml"),
        ("seeds.0", "b.yaml"),
        ("models.q-2.5.steps", "b.yaml"),
        ("models.q-2.5.seed", "a.yaml"),
        ("top level", "a.yaml, b.yaml"),
        ("device", "config"),
    ],
)
def test_a_message_names_the_file_that_has_the_last_word(key, where, files):
    error = SettingError(key, "is wrong")
    assert explained(error, files, {"device": "gpu"}) == f"{where}: {key}: is wrong"


def test_a_message_on_something_else_names_no_configuration(files):
    assert explained(UserError("data.json: damaged"), files, {}) == "data.json: damaged"
    assert explained(SettingError("seeds", "is wrong"), [], {}) == "config: seeds: is wrong"


def test_a_mistake_in_the_catalogue_names_its_file(files, monkeypatch):
    monkeypatch.chdir(ROOT)
    error = SettingError("models.tiny-gpt2.steps", "is wrong")
    assert explained(error, files, {}) == "config/models.yaml: tiny-gpt2.steps: is wrong"
