"""The figures, drawn from invented results that went through the real tables' functions."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.image import imread

from smedit.errors import UserError
from smedit.methods import variant_name
from smedit.plan.grid import experiment_cells, grid_cells
from smedit.store.sums import write_sums

ROOT = Path(__file__).parents[2]
SEVEN = {
    "data_size",
    "train_batches",
    "inner_steps",
    "adam_repeats",
    "step_time",
    "mbps_gain",
    "tradeoff",
}


def script(name: str) -> ModuleType:
    folder = str(ROOT / "workflow/scripts")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def default_config(**changes: Any) -> dict[str, Any]:
    text = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    return {**yaml.safe_load(text), **changes}


def fake_scores(cell: dict[str, Any], eval_edits: int) -> list[dict[str, Any]]:
    """Rows of 0 and 1: more steps, updates and training edit better and forget more."""
    cloze = cell["dataset"] == "worldfacts-cloze"
    strength = {"MEND": 0.4, "MALMEN": 0.9, "SMEdit": 1.0}[cell["method"]]
    strength *= (0.5 + 0.25 * cell["adam_repeats"]) * cell["train_batches"] ** 0.3
    start, known = (0.3, 0.8) if cloze else (0.05, 0.35)
    scores = []
    for stage in range(cell["bp_steps"] + 1):
        learned = 1 - np.exp(-strength * stage * (0.6 + 0.4 * stage) / cell["n_edits"] ** 0.4 * 3)
        chances = {
            "efficacy": start + (1 - start) * learned,
            "generalization": start + (0.85 - start) * learned,
            "specificity": known * (1 - 0.2 * learned),
        }
        for score in ("token_success", "sequence_success") if cloze else ("accuracy",):
            for place, (metric, chance) in enumerate(chances.items()):
                # The same draws for every cell: the unedited scores agree, as in real results.
                rng = np.random.default_rng([place, len(score), len(cell["model"]), cell["seed"]])
                prompts = 2 if cloze and metric != "efficacy" else 1
                rows = (rng.random((eval_edits, prompts)) < chance).astype(float).tolist()
                scores.append({"stage": stage, "metric": metric, "score": score, "rows": rows})
    return scores


def fake_training(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """Training steps; a batch is traced at its first step only."""
    second = cell["n_edits"] / 16 * (2.0 if cell["model"].startswith("gemma") else 1.2)
    seconds = {
        "shift": 0.1 * second,
        "edit loss": 0.8 * second,
        "locality loss": (0.9 if cell["locality"] == "kl" else 0.01) * second,
        "hypernetwork update": 0.15 + 0.05 * second,
    }
    return [
        {
            "batch": batch,
            "bp_step": step,
            "edit_loss": 3.0,
            "locality_loss": 0.1,
            "gradient_norm": 1.0,
            "shift_norms": {"a": 0.5, "b": 0.25},
            "seconds": {"trace": 0.7 * second, **seconds} if step == 1 else seconds,
        }
        for batch in range(1, cell["train_batches"] + 1)
        for step in range(1, cell["bp_steps"] + 1)
    ]


def fake_result(cell: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What `smedit run-cell` writes."""
    training = fake_training(cell)
    settings = {**cell, **config["hyperparameters"], "split": "eval"}
    return {
        "settings": {**settings, "eval_edits": config["eval_edits"]},
        "environment": {"device": "cpu", "precision": "float32", "threads": 1},
        "diverged": None,
        "training": training,
        "scores": fake_scores(cell, config["eval_edits"]),
        "seconds": {
            "load": 1.5,
            "train": sum(sum(step["seconds"].values()) for step in training),
            "edit": 0.05 * cell["n_edits"] * cell["bp_steps"],
            "score": 0.07 * cell["n_edits"] * cell["bp_steps"],
        },
        "memory_mb": {"load": 800.0, "train": 1200.0, "evaluate": 1200.0},
    }


def ended_early(result: dict[str, Any]) -> dict[str, Any]:
    """What `smedit run-cell` writes of a cell whose training diverged."""
    before = [score for score in result["scores"] if score["stage"] == 0]
    loading = {name: {"load": result[name]["load"]} for name in ("seconds", "memory_mb")}
    return result | loading | {"diverged": "non-finite loss", "training": [], "scores": before}


def write_tables(
    config: dict[str, Any], out: Path, resamples: int, diverges: Any = lambda cell: False
) -> Path:
    """The tables of invented results, by the real tables' functions."""
    collect = script("collect_tables")
    before, collect.RESAMPLES = collect.RESAMPLES, resamples
    results = [
        ended_early(result) if diverges(result["settings"]) else result
        for result in (fake_result(cell, config) for cell in grid_cells(config).to_dict("records"))
    ]
    tables = {
        "scores": collect.scores_table(results),
        "gains": collect.gains_table(results),
        "timings": collect.timings_table(results),
        "experiments": experiment_cells(config),
    }
    collect.RESAMPLES = before
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(small_config(), tmp_path_factory.mktemp("results"), resamples=10)


def small_config(**changes: Any) -> dict[str, Any]:
    config = default_config(eval_edits=16, **changes)
    config["models"].pop("gemma-3-270m")
    config["experiments"]["data_size"]["n_edits"] = [16, 64]
    config["experiments"]["train_batches"]["train_batches"] = [1, 5]
    return config


@pytest.fixture(scope="module")
def drawn(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every figure, at a low resolution."""
    folder = tmp_path_factory.mktemp("figures")
    script("draw_figures").draw(results, folder, dpi=20)
    return folder


@pytest.fixture
def copied(results: Path, tmp_path: Path) -> Path:
    """The tables, to be spoilt."""
    folder = tmp_path / "results"
    folder.mkdir()
    for path in results.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def sum_up(folder: Path) -> None:
    """Take the tables as they are now for whole."""
    write_sums(folder / "tables.sha256", sorted(folder.glob("*.csv")))


def edit_table(path: Path, change: Any) -> None:
    change(pd.read_csv(path)).to_csv(path, index=False)


def caption(figure: Any) -> str:
    return figure.texts[-1].get_text().replace("\n", " ")


def test_every_figure_is_written(drawn):
    assert set(script("draw_figures").FIGURES) == SEVEN
    assert {path.name for path in drawn.iterdir()} == {
        f"{name}.{suffix}" for name in SEVEN for suffix in ("png", "pdf")
    }
    for path in drawn.glob("*.png"):
        assert imread(path)[..., :3].std() > 0.05, f"{path.name} is empty"


def test_the_same_tables_give_the_same_bytes(results, drawn, tmp_path):
    script("draw_figures").draw(results, tmp_path, ["mbps_gain", "step_time"], dpi=20)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert content == (drawn / path.name).read_bytes(), path.name
        for word in (b"Date", b"Software", b"Producer", bytes(drawn), bytes(results)):
            assert word not in content, path.name


def test_a_cut_table_is_not_drawn_and_is_set_aside(copied, tmp_path, capsys):
    sum_up(copied)
    table = copied / "scores.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[: len(lines) // 2]))
    out = tmp_path / "out"
    arguments = ["--results", str(copied), "--out", str(out), "--figures", "data_size"]
    assert script("draw_figures").main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "scores.csv: was cut or altered after it was written; delete it" in line
    assert not out.exists()


def test_a_folder_that_cannot_be_made_is_one_clear_line(copied, tmp_path, capsys):
    sum_up(copied)
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "figures"
    arguments = ["--results", str(copied), "--out", str(out), "--figures", "step_time"]
    assert script("draw_figures").main(arguments) == 2
    line = f"error: {out}: Not a directory; correct the path, or the rights to it"
    assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.parametrize(
    ("figure", "experiment"),
    [("inner_steps", "inner_steps"), ("step_time", "data_size"), ("adam_repeats", "adam_repeats")],
)
def test_an_absent_experiment_is_one_clear_line(copied, tmp_path, capsys, figure, experiment):
    edit_table(copied / "experiments.csv", lambda t: t[t.experiment != experiment])
    sum_up(copied)
    arguments = ["--results", str(copied), "--out", str(tmp_path / "out"), "--figures", figure]
    assert script("draw_figures").main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no experiment '{experiment}'" in line
    assert "train_batches" in line  # the experiments there are
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "column"), [("scores", "ci_low"), ("gains", "gain"), ("timings", "phase")]
)
def test_a_missing_column_is_named(copied, table, column):
    edit_table(copied / f"{table}.csv", lambda t: t.drop(columns=column))
    with pytest.raises(UserError, match=rf"{table}\.csv: the column '{column}' is missing"):
        script("figures_data").read_tables(copied)


def test_a_missing_table_is_named(copied):
    (copied / "timings.csv").unlink()
    with pytest.raises(UserError, match=r"timings\.csv: not a table"):
        script("figures_data").read_tables(copied)


def test_a_cell_without_scores_is_named(copied):
    edit_table(copied / "scores.csv", lambda t: t[~((t.method == "MEND") & (t.n_edits == 16))])
    with pytest.raises(UserError, match=r"scores\.csv: no row for the cell .*method MEND"):
        script("figures_scores").data_size(script("figures_data").read_tables(copied))


def test_an_incomplete_two_by_two_names_the_cell(copied):
    edit_table(
        copied / "experiments.csv",
        lambda t: t[~((t.method == "SMEdit") & (t.bp_steps == 1) & (t.adam_repeats == 2))],
    )
    with pytest.raises(UserError, match=r"bp_steps 1, adam_repeats 2 of .*method SMEdit"):
        script("figures_mbps").adam_repeats(script("figures_data").read_tables(copied))


def test_no_gain_at_all_is_an_error(copied):
    edit_table(copied / "gains.csv", lambda t: t.iloc[:0])
    with pytest.raises(UserError, match=r"gains\.csv: no method .* both 1 and 2 bp_steps"):
        script("figures_mbps").mbps_gain(script("figures_data").read_tables(copied))


def test_the_gains_drawn_are_those_of_the_table(results):
    figures, style = script("figures_mbps"), script("figures_style")
    with style.theme():
        figure = figures.mbps_gain(script("figures_data").read_tables(results))
    gains = pd.read_csv(results / "gains.csv")
    gains = gains[
        (gains.n_edits == 64)
        & (gains.train_batches == 5)
        & (gains.adam_repeats == 2)
        & (gains.metric == "efficacy")
        & (gains.score == "accuracy")
    ].set_index("method")
    panel = figure.axes[3]  # the second row: worldfacts-qa
    assert [t.get_text() for t in panel.get_yticklabels()] == ["MEND", "MALMEN", "SMEdit"]
    drawn = [float(line.get_xdata()[0]) for line in panel.lines[1:]]  # the first is the zero line
    assert drawn == pytest.approx(gains.gain[["MEND", "MALMEN", "SMEdit"]].tolist())


def test_captions_say_how_much_stands_behind_a_point(results):
    tables = script("figures_data").read_tables(results)
    text = caption(script("figures_scores").train_batches(tables))
    assert "16 to 32 prompts of 16 edit requests; seed 0" in text
    assert "95 % interval" in text


def test_of_several_seeds_the_median_is_drawn_and_named(copied):
    for name in ("scores", "timings", "gains", "experiments"):
        edit_table(copied / f"{name}.csv", lambda t: pd.concat([t, t.assign(seed=1)]))
    edit_table(
        copied / "scores.csv", lambda t: t.assign(value=t.value.where(t.seed == 0, t.value + 10))
    )
    tables = script("figures_data").read_tables(copied)
    figure = script("figures_scores").inner_steps(tables)
    assert "median of seeds 0, 1" in caption(figure)
    shown = tables.experiments[tables.experiments.experiment == "inner_steps"].iloc[0]
    scores = tables.scores[
        (tables.scores.method == "MALMEN")
        & (tables.scores.adam_repeats == tables.scores.bp_steps)
        & (tables.scores.stage == tables.scores.bp_steps)
        & (tables.scores.n_edits == shown.n_edits)
        & (tables.scores.train_batches == shown.train_batches)
        & (tables.scores.dataset == "worldfacts-qa")
        & (tables.scores.metric == "efficacy")
        & (tables.scores.seed == 0)
    ].sort_values("bp_steps")
    malmen = figure.axes[3].lines[1]  # worldfacts-qa; the first line is the unedited model
    assert list(malmen.get_ydata()) == pytest.approx((scores.value + 5).tolist())
    bars = figure.axes[3].collections[0].get_segments()  # from the lowest seed to the highest
    ends = [(low, high) for (_, low), (_, high) in bars]
    expected = [(v, v + 10) for v in scores.value]
    assert ends == [pytest.approx(bounds) for bounds in expected]


def test_a_variant_looks_the_same_in_every_configuration():
    names = {"bp_steps": 2, "locality": "kl", "variant": "MALMEN + MBPS", "label": "MALMEN + MBPS"}
    other = {"bp_steps": 1, "locality": "kl", "variant": "ALPHA", "label": "ALPHA"}
    malmen, alpha = {"method": "MALMEN", **names}, {"method": "ALPHA", **other}
    styles = script("figures_style").variant_styles
    alone, both = styles(pd.DataFrame([malmen])), styles(pd.DataFrame([alpha, malmen]))
    assert alone["MALMEN + MBPS"] == both["MALMEN + MBPS"]
    assert list(both) == ["MALMEN + MBPS", "ALPHA"]
    assert both["ALPHA"].color != both["MALMEN + MBPS"].color
    assert (both["ALPHA"].line, both["ALPHA"].filled) == ("--", False)


def test_a_variant_without_a_locality_loss_looks_like_no_other():
    names = [variant_name("SMEdit", 2, locality) for locality in ("norm", "kl", "none")]
    assert names == ["SMEdit", "SMEdit, KL", "SMEdit, no locality loss"]
    rows = [{"method": "SMEdit", "bp_steps": 2, "variant": n, "label": n} for n in names]
    styles = script("figures_style").variant_styles(pd.DataFrame(rows))
    assert len(set(styles.values())) == 3


def test_nothing_imports_torch():
    for path in (ROOT / "workflow/scripts").glob("*figures*.py"):
        assert "import torch" not in path.read_text(encoding="utf-8")
