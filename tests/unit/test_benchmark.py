"""The benchmark, whole, on a tiny model; and its figure."""

import contextlib
import dataclasses
from pathlib import Path

import own_peak
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.image import imread

from conftest import make_model, make_requests
from smedit.benchmark import in_sequence as benchmark_in_sequence
from smedit.benchmark import paths as benchmark_paths
from smedit.benchmark import points as benchmark_points
from smedit.benchmark import process as benchmark_process
from smedit.benchmark import run as benchmark
from smedit.benchmark.figure import FIGURES
from smedit.benchmark.figure import main as draw
from smedit.benchmark.pieces import Evaluation, Variant, Work, check_agreement, differences, run
from smedit.benchmark.settings import check_enough_rows, models_of, read_settings
from smedit.benchmark.table import COLUMNS, KEYS, PATHS, slope_row
from smedit.data.facts import Splits
from smedit.engine.execution import Execution
from smedit.engine.frozen_states import FrozenStates
from smedit.engine.memory import peak_memory_mb
from smedit.errors import UserError

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow/schemas/benchmark.schema.yaml"
CONFIG = {
    kind: yaml.safe_load((ROOT / f"config/{kind}.yaml").read_text(encoding="utf-8"))
    for kind in ("models", "datasets")
}
HYPER = {
    "minibatch": 2,
    "meta_lr": 1e-5,
    "loc_coef": 0.6,
    "reg_coef": 0.5,
    "max_grad_norm": 1.0,
    "lr": 1e-2,
    "rank": 4,
    "n_blocks": 1,
}
TRAINING = ["trace", "shift", "edit loss", "locality loss", "hypernetwork update", "total"]
EDITING = ["edit", "score", "total"]


def small_settings():
    settings = read_settings(ROOT / "config/benchmark.yaml", CONFIG, SCHEMA)
    for name in ("paths", "n_edits", "bp_steps"):
        settings[name]["model"] = "tiny"
    settings["paths"] |= {"n_edits": 4, "repetitions": 2}
    settings["paths"]["methods"] = settings["paths"]["methods"][1:]  # enough, and faster
    settings["n_edits"]["n_edits"] = [1, 2, 4]
    settings["bp_steps"] |= {"n_edits": [2], "bp_steps": [1, 2, 3]}
    settings["locality"] |= {"models": ["tiny"], "n_edits": [2, 4]}
    size = {"n_edits": 2, "train_sequences": 3, "repetitions": 1}
    settings["in_sequence"] |= {"models": ["tiny"]} | size
    return settings


@pytest.fixture
def tiny(monkeypatch):
    """Every model that is opened is a tiny one, in this process."""
    models = {}

    def opened(job, states=None):
        model = models.setdefault(job["model"], make_model())
        made = FrozenStates.open(states, model.owner) if states else FrozenStates(model.owner)
        model.states, model.execution = made, Execution()
        return model

    def load_requests(name, spec, seed):
        return Splits(make_requests(8), make_requests(4, start=8), make_requests(8, start=12))

    for module in (benchmark_process, benchmark_in_sequence):
        monkeypatch.setattr(module, "opened", opened)
    for module in (benchmark_paths, benchmark_points, benchmark_in_sequence):
        monkeypatch.setattr(module, "in_new_process", lambda function, *args: function(*args))
    for module in (benchmark_process, benchmark_in_sequence):
        monkeypatch.setattr(module, "load_requests", load_requests)
    monkeypatch.setattr(benchmark_paths, "MATRIX_SIZE", 32)
    return opened


def measure(folder, settings=None):
    settings = settings or small_settings()
    models = {"tiny": {"edit_modules": list(make_model().edit_modules)}}
    hyper = {"hyperparameters": HYPER}
    job = {"settings": settings, "models": models, "dataset_spec": {}, **hyper}
    benchmark.run_benchmark(job, folder / "benchmark.csv")
    return pd.read_csv(folder / "benchmark.csv")


def test_every_part_is_measured_and_drawn(tiny, tmp_path, caplog):
    with caplog.at_level("INFO", logger="smedit"):
        table = measure(tmp_path)
    assert "100 % done, about 0 s left" in caplog.messages[-1]
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(KEYS).any()
    assert (table.low <= table.value).all() and (table.value <= table.high).all()

    seconds = table[table.quantity == "seconds"]
    for _, rows in seconds.groupby([k for k in KEYS if k != "phase"], dropna=False):
        if (rows.part == "in_sequence").all():
            continue
        assert list(rows.phase) in (TRAINING, EDITING)
        assert rows.low[:-1].sum() <= rows.high.iloc[-1] * (1 + 1e-5)
    paths = table[table.part == "paths"]
    both = paths[(paths.method == "SMEdit") & (paths.phase == "total")]
    assert set(both[both.quantity == "seconds"].path) == set(PATHS)
    timed = both[(both.quantity == "seconds") & (both.piece == "training batch")]
    assert timed.set_index("path").n.to_dict() == {
        path: 2 if path in ("plain", "fast") else 1 for path in PATHS
    }
    work = both[both.quantity == "gflop"].pivot_table(index="piece", columns="path", values="value")
    assert work.fast["training batch"] < 0.9 * work.plain["training batch"]
    apart = paths[paths.quantity == "largest_difference"]
    assert set(apart.path) == set(PATHS) - {"plain"} and apart.value.max() < 1e-3
    assert set(paths[paths.quantity == "peak_memory_mb"].path) == {"plain", "fast"}

    slopes = table[table.quantity.str.startswith("slope_of")]
    assert list(slopes.part) == ["n_edits"] * 2 + ["bp_steps"] * 2 and (slopes.n == 3).all()
    locality = seconds[(seconds.part == "locality") & (seconds.phase == "locality loss")]
    assert list(zip(locality.n_edits, locality.locality, strict=True)) == [
        (2, "kl"),
        (2, "norm"),
        (4, "kl"),
        (4, "norm"),
    ]

    text = (tmp_path / "benchmark.txt").read_text(encoding="utf-8")
    for part in (
        "MALMEN + MBPS, training batch",
        "≤ 9 s: met",
        "The paths agree",
        "n_edits: SMEdit",
    ):
        assert part in text

    for part in FIGURES:
        caption = drawn(tmp_path, part)
        assert "Device: cpu, float32, " in caption, part
        again = (tmp_path / f"{part}.svg").read_bytes()
        assert drawn(tmp_path, part) == caption
        assert (tmp_path / f"{part}.svg").read_bytes() == again


def drawn(folder, part):
    """Draw a part of the benchmark in a folder; its caption."""
    files = [folder / f"{part}.png", folder / f"{part}.svg"]
    table = ["--table", str(folder / "benchmark.csv"), "--part", part]
    arguments = [*table, "--out", *map(str, files), "--caption", str(folder / f"{part}.txt")]
    assert draw(arguments) == 0
    assert imread(files[0])[..., :3].std() > 0.05
    return (folder / f"{part}.txt").read_text(encoding="utf-8")


def test_the_locality_part_stands_alone(tiny, tmp_path):
    settings = read_settings(ROOT / "config/benchmark-gpu.yaml", CONFIG, SCHEMA)
    settings["locality"] |= {"models": ["tiny"], "n_edits": [2, 4], "repetitions": 2}
    table = measure(tmp_path, settings)
    assert set(table.part) == {"locality"}
    assert set(table[table.quantity == "seconds"].n) == {2}
    assert "median of 2" in drawn(tmp_path, "locality")


def test_training_in_sequence_takes_turns(tiny, tmp_path, monkeypatch):
    settings = small_settings()
    for part in ("paths", "n_edits", "bp_steps", "locality"):
        del settings[part]
    settings["in_sequence"]["repetitions"] = 3
    turns, up_to = [], benchmark_in_sequence.Training.up_to

    class FakeClock:
        """The variants take 1, 2, … s per request; the machine is 1,000, 1, 5, 25 times slower."""

        def __init__(self, device):
            turn, variant = divmod(len(turns), 5)
            self.seconds = {"train": 6.0 * (1 + variant) * [1000, 1, 5, 25][turn]}

        def phase(self, name):
            return contextlib.nullcontext()

    def recorded(training, n_batches):
        editor = training._editor
        yield from up_to(training, n_batches)
        turns.append((editor.method.name, len(editor.hypernetworks), editor.method.locality))
        assert len(training.steps) == n_batches == 3

    monkeypatch.setattr(benchmark_in_sequence, "Clock", FakeClock)
    monkeypatch.setattr(benchmark_in_sequence.Training, "up_to", recorded)
    table = measure(tmp_path, settings)
    one_turn = [("SMEdit", 2, "norm"), ("SMEdit", 2, "kl"), ("SMEdit", 1, "norm")]
    one_turn += [("RLEdit", 1, "kl"), ("RLEdit", 2, "kl")]
    assert turns == one_turn * 4

    assert set(table.part) == {"in_sequence"} and (table.n == 3).all()
    timed = table[table.quantity == "seconds"]
    assert list(zip(timed.method, timed.bp_steps, timed.locality, strict=True)) == one_turn
    numbers = table.set_index("quantity")[["value", "low", "high"]]
    assert numbers.loc["seconds"].to_numpy().tolist() == [[5 * k, k, 25 * k] for k in range(1, 6)]
    assert numbers.loc["ratio"].to_numpy().tolist() == [[k] * 3 for k in range(1, 6)]

    text = (tmp_path / "benchmark.txt").read_text(encoding="utf-8")
    assert "on 3 batches of 2 requests" in text and "medians of 3 repetitions in turns" in text
    assert "SMEdit w/o MBPS | 15.000 (3.000–75.000)  | 3.00 (3.00–3.00) |" in text
    assert "medians of 3 repetitions in turns" in drawn(tmp_path, "in_sequence")


def test_a_broken_path_is_caught(tiny, tmp_path, monkeypatch):
    right = make_model().unedited_logits.__func__

    def wrong(self, chunk):
        return right(self, chunk) * (1.0 if self.execution.max_rows else 0.9)

    monkeypatch.setattr(type(make_model()), "unedited_logits", wrong)
    with pytest.raises(UserError, match=r"MALMEN \+ MBPS, path '.*' against plain: .* differ by"):
        measure(tmp_path)
    assert not (tmp_path / "benchmark.csv").exists()


@pytest.mark.parametrize("spoilt", ["shifts", "learned", "logits", "steps"])
def test_each_result_is_compared(spoilt):
    model = make_model()
    work = Work(model, Variant.of({"method": "SMEdit"}), make_requests(4), HYPER, seed=0)
    good = run(model, work, Evaluation(model, make_requests(4, start=4), 2), Execution())
    check_agreement(differences(good, good), 1e-6, "same")
    value = getattr(good, spoilt)
    if spoilt == "steps":
        value = [dataclasses.replace(step, gradient_norm=float("nan")) for step in value]
    elif spoilt == "logits":
        value = value * 1.01
    else:
        value = {name: tensor * 1.2 for name, tensor in value.items()}
    other = dataclasses.replace(good, **{spoilt: value})
    with pytest.raises(UserError, match="differ by"):
        check_agreement(differences(good, other), 1e-3, "spoilt")


def test_operations_are_counted():
    a = torch.ones(3, 5, requires_grad=True)
    with benchmark_process.OperationCount() as count:
        (a @ torch.ones(5, 7)).sum().backward()
    assert count.total == 2 * (2 * 3 * 5 * 7)  # forward, and the gradient of a


def test_a_slope_is_the_exponent():
    points = [
        {"quantity": "seconds", "phase": "total", "n_edits": n, "value": 0.1 * n**1.5}
        for n in (8, 16, 64)
    ]
    row = slope_row({"part": "n_edits"}, points, "n_edits", "seconds")
    assert row["value"] == pytest.approx(1.5) and row["high"] - row["low"] < 1e-6


def test_a_new_process_measures_its_own_memory():
    ballast = torch.ones(150_000_000)  # 600 MB
    job = {"device": "cpu"}
    with_ballast = peak_memory_mb(torch.device("cpu"))
    alone = benchmark_process.in_new_process(own_peak.of, job)
    assert ballast.numel() and alone < with_ballast - 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(thread=1), r"b\.yaml: top level: unknown key 'thread'; did you mean"),
        (lambda s: s["paths"].update(model="smol"), "model: unknown value 'smol'; did you mean|;"),
        (lambda s: s.update(dataset="zsr"), "dataset: unknown value 'zsr'; did you mean 'zsre'?"),
        (lambda s: s["paths"].update(n_edits=5000), "paths.n_edits: 5000 is more than the"),
        (lambda s: s["paths"].update(tolerance=0), "paths.tolerance: 0"),
        (lambda s: s["paths"]["ablation"].append({"method": "MALMEN"}), None),
        (lambda s: s["paths"]["methods"].pop(), "paths.ablation: every entry must stand"),
        (lambda s: s["n_edits"]["methods"].append({"method": "ROME"}), "unknown method 'ROME'"),
        (
            lambda s: s["in_sequence"]["methods"].append({"method": "MEND"}),
            "in_sequence.methods: MEND is not trained in sequence; remove it",
        ),
        (
            lambda s: s["in_sequence"].update(train_sequences=500),
            "in_sequence.n_edits × train_sequences: 3000 is more than the",
        ),
    ],
)
def test_wrong_settings_are_one_clear_line(tmp_path, change, message):
    settings = yaml.safe_load((ROOT / "config/benchmark.yaml").read_text(encoding="utf-8"))
    change(settings)
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    if message is None:
        check_enough_rows(path, read_settings(path, CONFIG, SCHEMA), CONFIG)
        return
    with pytest.raises(UserError, match=message) as caught:
        check_enough_rows(path, read_settings(path, CONFIG, SCHEMA), CONFIG)
    assert "\n" not in str(caught.value)


def test_the_settings_that_come_along_are_right():
    for name in ("benchmark", "benchmark-gpu"):
        path = ROOT / f"config/{name}.yaml"
        settings = read_settings(path, CONFIG, SCHEMA)
        check_enough_rows(path, settings, CONFIG)
        assert set(settings["models"]) <= set(models_of(settings))


def test_another_table_is_refused(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    arguments = ["--table", str(tmp_path / "t.csv"), "--out", str(tmp_path / "f.png")]
    assert draw([*arguments, "--part", "paths", "--caption", str(tmp_path / "f.txt")]) == 2
    assert "not a benchmark's table" in capsys.readouterr().err
