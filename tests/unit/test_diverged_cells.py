"""A cell of the batch half that diverges: its result, its rows, and the figures around it."""

import json

import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from test_cli import HYPER, make_job, run_cell
from test_figures import caption, script, small_config, write_tables

from collect_tables import gains_table, memory_table, scores_table, timings_table, training_table
from print_headline import headline
from smedit.engine.editor import Editor
from smedit.errors import DivergedError
from smedit.plan.tuning import tuning_table


def is_smedit_at_64(cell):
    names = ("method", "locality", "bp_steps", "n_edits", "seed")
    return [cell[name] for name in names] == ["SMEdit", "norm", 2, 64, 0]


def is_any(_):
    return True


def made(tmp_path_factory, diverges, **changes):
    folder = tmp_path_factory.mktemp("tables")
    return write_tables(small_config(**changes), folder, resamples=10, diverges=diverges)


@pytest.fixture(scope="module")
def one_ended(tmp_path_factory):
    """SMEdit diverged at 64 edits, on both datasets."""
    return made(tmp_path_factory, is_smedit_at_64)


@pytest.fixture(scope="module")
def all_ended(tmp_path_factory):
    return made(tmp_path_factory, is_any)


# --- results --------------------------------------------------------------------------------------


def test_divergence_in_training_leaves_the_unedited_scores(tiny, tmp_path):
    status, out = run_cell(tmp_path, make_job(hyperparameters={**HYPER, "lr": 1e38}))
    result = json.loads(out.read_text())
    assert status == 0
    assert result["diverged"].startswith("SMEdit, training batch 1, step 1: non-finite ")
    assert {score["stage"] for score in result["scores"]} == {0}
    assert (result["settings"]["lr"], result["environment"]["device"]) == (1e38, "cpu")
    assert (list(result["seconds"]), result["training"]) == (["load"], [])


def test_divergence_in_editing_keeps_what_training_measured(tiny, tmp_path, monkeypatch):
    """The second of two batches diverges: scores of the first alone would be of other requests."""
    edit, calls = Editor.edit, []

    def fail_in_the_second_batch(self, *arguments):
        calls.append(None)
        for shifts in edit(self, *arguments):
            if len(calls) == 2:
                raise DivergedError("non-finite shift")
            yield shifts

    monkeypatch.setattr(Editor, "edit", fail_in_the_second_batch)
    status, out = run_cell(tmp_path, make_job())
    result = json.loads(out.read_text())
    assert (status, result["diverged"]) == (0, "SMEdit, eval batch 2: non-finite shift")
    assert {score["stage"] for score in result["scores"]} == {0}
    assert (list(result["seconds"]), len(result["training"])) == (["load", "train"], 4)
    assert all(torch.tensor(step["edit_loss"]).isfinite() for step in result["training"])


def test_in_the_search_it_counts_as_the_worst(tiny, tmp_path):
    points = []
    for lr in (1e38, 1e-2):
        job = make_job(split="tune", eval_edits=4, hyperparameters={**HYPER, "lr": lr})
        points.append(json.loads(run_cell(tmp_path, job)[1].read_text()))
    table = tuning_table(points)
    assert table.objective.isna().tolist() == [True, False]
    assert table.chosen.tolist() == [False, True]


def test_two_settings_of_one_name_are_an_error(tiny, tmp_path, capsys):
    status, out = run_cell(tmp_path, make_job(hyperparameters={**HYPER, "n_edits": 3}))
    assert (status, out.exists()) == (2, False)
    assert "the setting 'n_edits' stands among" in capsys.readouterr().err


# --- tables ---------------------------------------------------------------------------------------


def test_the_rows_say_so(one_ended):
    scores = pd.read_csv(one_ended / "scores.csv")
    ended = scores[scores.diverged.notna()]
    assert set(ended.diverged) == {"non-finite loss"}
    assert set(ended.stage) == {0} and set(ended.dataset) == {"worldfacts-qa", "worldfacts-cloze"}
    assert ended.apply(is_smedit_at_64, axis=1).all()
    gains = pd.read_csv(one_ended / "gains.csv")
    assert set(gains[gains.n_edits == 64].method) == {"MEND", "MALMEN"}
    assert "SMEdit" in set(gains[gains.n_edits == 16].method)


@pytest.mark.parametrize(
    "table", [scores_table, gains_table, timings_table, memory_table, training_table]
)
def test_a_table_without_rows_has_its_columns(table, tmp_path):
    table([]).to_csv(tmp_path / "t.csv", index=False)
    read = pd.read_csv(tmp_path / "t.csv")
    assert {"model", "dataset", "method", "seed"} < set(read)
    assert read.empty


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tables", ["one_ended", "all_ended"])
def test_every_figure_is_drawn(tables, request, tmp_path):
    script("draw_figures").draw(request.getfixturevalue(tables), tmp_path, dpi=20)
    drawn = list(tmp_path.glob("*.png"))
    assert len(drawn) == len(script("draw_figures").FIGURES)
    assert all(imread(path)[..., :3].std() > 0.02 for path in drawn)


def figure(module, name, folder):
    return getattr(script(f"figures_{module}"), name)(script("figures_data").read_tables(folder))


def crosses(panel):
    """Where a panel has crosses on its floor."""
    marks = [line for line in panel.lines if line.get_marker() == "x" and len(line.get_xdata())]
    return [x for line in marks for x in line.get_xdata()]


def test_a_line_has_a_gap_and_a_cross(one_ended):
    drawn = figure("scores", "data_size", one_ended)
    for panel in drawn.axes:  # the times, too
        (at,) = crosses(panel)
        assert at == pytest.approx(64, rel=0.1)
    lines = [line for line in drawn.axes[0].lines if len(line.get_ydata()) == 2]
    assert sum(pd.isna(line.get_ydata()).tolist() == [False, True] for line in lines) == 1
    assert "diverged" in [text.get_text() for text in drawn.legends[0].get_texts()]
    assert "×: a cell that diverged" in caption(drawn)


def test_a_seed_that_diverged_leaves_no_median_of_the_others(tmp_path_factory):
    folder = made(tmp_path_factory, is_smedit_at_64, seeds=[0, 1])
    assert len(crosses(figure("scores", "data_size", folder).axes[0])) == 1
    assert "SMEdit" not in gain_labels(figure("mbps", "mbps_gain", folder))


def gain_labels(drawn):
    return [text.get_text() for text in drawn.axes[0].get_yticklabels()]


def test_what_has_no_place_in_a_figure_is_named(one_ended):
    gains = figure("mbps", "mbps_gain", one_ended)
    assert gain_labels(gains) == ["MEND", "MALMEN"]
    assert "smollm2-135m worldfacts-cloze SMEdit, " in caption(gains)
    tradeoff = figure("scores", "tradeoff", one_ended)
    assert [t.get_text() for t in tradeoff.axes[0].texts] == ["diverged:\nSMEdit"]
    times = figure("times", "step_time", one_ended)
    above = [text.get_text() for text in times.axes[1].texts]  # 64 edits
    assert above.count("diverged") == 1 and len(above) == 4


def test_the_headline_says_so(one_ended):
    table = headline(one_ended).set_index(["dataset", "variant"])
    assert set(table.loc["worldfacts-qa", :].loc["SMEdit", ["efficacy", "specificity"]]) == {
        "diverged"
    }
    assert "(" in table.efficacy["worldfacts-qa", "SMEdit w/o MBPS"]
