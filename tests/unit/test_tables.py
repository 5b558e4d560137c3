from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from collect_tables import (
    collect,
    gains_table,
    mean_with_interval,
    paired_gain,
    read_results,
    scores_table,
    timings_table,
)
from smedit.errors import UserError
from smedit.plan.grid import CELL_COLUMNS, cell_path, grid_cells, tuning_cells
from smedit.plan.job_settings import cell_job, tuning_job
from smedit.store.files import set_refused_aside
from smedit.store.results import read_result, write_result

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))


def cell(**changes):
    values = ["m", "d", "MALMEN", 1, "kl", 1, "original", 4, 2, 0]
    return {**dict(zip(CELL_COLUMNS, values, strict=True)), **changes}


def result(rows_by_stage, **changes):
    settings = {**cell(**changes), "lr": 1e-6, "reg_coef": 0.5, "eval_edits": 4, "split": "eval"}
    steps = settings["bp_steps"]
    return {
        "settings": settings,
        "environment": {"device": "cpu", "precision": "float32", "threads": 1},
        "training": [
            {"seconds": {"trace": 2.0, "shift": 1.0} if s == 0 else {"shift": 3.0}}
            for s in range(steps)
        ],
        "scores": [
            {"stage": stage, "metric": "efficacy", "score": "accuracy", "rows": rows}
            for stage, rows in rows_by_stage.items()
        ],
        "seconds": {"load": 1.0, "train": 9.0, "edit": 0.5, "score": 0.25},
        "memory_mb": {"load": 100.0},
    }


def test_a_mean_is_over_rows_and_its_interval_over_requests():
    rows = [[1.0, 0.0], [1.0], [0.0, 0.0, 0.0], [0.5]]
    measured = mean_with_interval(rows)
    assert measured["value"] == pytest.approx(100 * 2.5 / 7)
    assert (measured["n_rows"], measured["n_requests"]) == (7, 4)
    assert 0 <= measured["ci_low"] < measured["value"] < measured["ci_high"] <= 100
    assert mean_with_interval(rows) == measured  # the resampling is seeded


def test_no_spread_no_interval():
    measured = mean_with_interval([[1.0], [1.0]])
    assert (measured["value"], measured["ci_low"], measured["ci_high"]) == (100, 100, 100)
    assert measured["standard_error"] == 0


def test_one_request_has_no_interval():
    measured = mean_with_interval([[1.0, 0.0]])
    assert measured["value"] == 50
    assert np.isnan(measured["ci_low"])


def test_a_request_without_rows_counts_for_nothing():
    assert mean_with_interval([[1.0], [], [0.0]]) == mean_with_interval([[1.0], [0.0]])
    assert np.isnan(mean_with_interval([[], []])["value"])
    ours, theirs = [[1.0], [], [1.0]], [[0.0], [], [1.0]]
    assert paired_gain(ours, theirs) == paired_gain(ours[::2], theirs[::2])


def test_the_interval_is_that_of_a_binomial_share():
    rng = np.random.default_rng(1)
    hits = (rng.random(400) < 0.3).astype(float)
    expected = 100 * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    measured = mean_with_interval([[hit] for hit in hits])
    assert measured["standard_error"] == pytest.approx(expected, rel=0.1)


def test_scores_have_a_row_per_stage_and_every_setting():
    table = scores_table([result({0: [[0.0]] * 2, 1: [[1.0]] * 2})])
    assert table.stage.tolist() == [0, 1]
    assert table.value.tolist() == [0, 100]
    assert set(CELL_COLUMNS) <= set(table.columns)
    assert table.variant[0] == "MALMEN"
    assert (table["rank"][0], table.lr[0]) == (1024, 1e-6)  # the method's, where none was set


def test_gains_are_paired_by_request():
    single = result({0: [[0.0]] * 3, 1: [[0.0], [1.0], [0.0]]})
    double = result({1: [[9.0]] * 3, 2: [[1.0], [1.0], [0.0]]}, bp_steps=2, adam_repeats=2)
    once = result({1: [[9.0]] * 3, 2: [[0.0], [1.0], [0.0]]}, bp_steps=2, adam_repeats=1)
    gains = gains_table([single, double, once])
    assert dict(zip(gains.adam_repeats, gains.gain, strict=True)) == pytest.approx(
        {2: 100 / 3, 1: 0}
    )
    assert gains.n_requests.tolist() == [3, 3]


def test_timings_are_means_over_steps_where_a_skipped_phase_counts_as_zero():
    table = timings_table([result({0: [[0.0]]}, bp_steps=2, adam_repeats=2)])
    seconds = table[table.per == "training step"].set_index("phase").seconds
    assert seconds.to_dict() == {"trace": 1.0, "shift": 2.0}
    assert set(table[table.per == "edit batch"].phase) == {"edit", "score"}


def test_results_of_other_settings_and_damaged_ones_are_set_aside(tmp_path):
    cells = [cell(), cell(n_edits=8), cell(n_edits=16)]
    paths = [tmp_path / f"{cell_path(settings)}.json" for settings in cells]
    for path in paths:
        path.parent.mkdir(parents=True)
        write_result(result({0: [[0.0]]}), path, job={"settings": cells[0], "hyperparameters": {}})
    paths[2].write_text(paths[2].read_text()[:50])

    def read():
        def job_of(settings):
            return {"settings": settings, "hyperparameters": {}}

        return read_results(tmp_path, pd.DataFrame(cells), job_of, {})

    with pytest.raises(UserError) as caught:
        read()
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"{paths[1]}: the result of other settings than its place stands for; ")
    assert second.startswith(f"{paths[2]}: not a whole result file; delete it")
    assert set_refused_aside([str(tmp_path)]) == [
        path.with_name("seed~0.json.damaged") for path in sorted(paths[1:])
    ]
    assert [path.exists() for path in paths] == [True, False, False]
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); the same"):
        read()


def write_run(folder, used, best, config=SMOKE):
    """Results of the smoke configuration: the values that cells used, and that are best."""

    def write(part, place, job, efficacy, values):
        scores = {stage: [[efficacy]] for stage in range(1 + job["settings"]["bp_steps"])}
        made = result(scores, **job["settings"]) | {"training": []}
        made["settings"] |= job["hyperparameters"] | values
        path = folder / part / f"{cell_path(place)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(made, path, job)

    for point in tuning_cells(config).to_dict("records"):
        efficacy = float(point["reg_coef"] == best)
        write("tuning", point, tuning_job(config, point), efficacy, {})
    for settings in grid_cells(config).to_dict("records"):
        values = {"reg_coef": used} if settings["method"] == "SMEdit" else {}
        write("cells", settings, cell_job(config, settings), 1.0, values)


def test_cells_with_other_values_than_the_search_chose_are_refused(tmp_path):
    write_run(tmp_path, used=0.001, best=0.001)
    collect(SMOKE, tmp_path)
    write_run(tmp_path, used=0.001, best=0.01)
    with pytest.raises(UserError) as caught:
        collect(SMOKE, tmp_path)
    lines = str(caught.value).split("\n")
    assert len(lines) == sum(grid_cells(SMOKE).method == "SMEdit")
    for line in lines:
        assert "/method~SMEdit/" in line
        assert ": made with reg_coef 0.001, not 0.01; delete it" in line
    assert len(set_refused_aside([str(tmp_path)])) == len(lines)


def test_a_cell_with_another_value_than_the_configuration_s_is_refused(tmp_path):
    write_run(tmp_path, used=0.001, best=0.001)
    path = next((tmp_path / "cells").rglob("method~MEND/**/*.json"))
    settings = read_result(path)["settings"]
    job = cell_job(SMOKE, {name: settings[name] for name in CELL_COLUMNS})
    altered = read_result(path)
    altered["settings"]["meta_lr"] = 0.5
    write_result(altered, path, job)
    with pytest.raises(UserError, match=r"\.json: made with meta_lr 0\.5, not 0\.001; delete it"):
        collect(SMOKE, tmp_path)


def test_without_a_search_cells_keep_the_values_of_the_configuration(tmp_path):
    config = {**SMOKE, "tuning": {**SMOKE["tuning"], "grid": {}}}
    assert tuning_cells(config).empty
    write_run(tmp_path, used=0.001, best=None, config=config)
    collect(config, tmp_path)


def test_a_result_that_was_altered_is_refused(tmp_path):
    path = tmp_path / "result.json"
    write_result({"value": 1.0}, path)
    assert read_result(path) == {"value": 1.0}
    path.write_text(path.read_text().replace("1.0", "2.0"))
    with pytest.raises(UserError, match=r"result\.json: was altered after it was written; del"):
        read_result(path)
