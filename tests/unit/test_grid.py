from smedit.plan.grid import (
    CELL_COLUMNS,
    candidates,
    cell_path,
    experiment_cells,
    grid_cells,
    rows_needed,
    tuning_cells,
)

CONFIG = {
    "models": {"a": {}, "b": {}},
    "datasets": {"d": {}},
    "seeds": [0, 1],
    "hyperparameters": {"lr": 1e-6, "reg_coef": 0.5},
    "tuning": {
        "n_edits": 4,
        "train_batches": 3,
        "eval_edits": 6,
        "grid": {"SMEdit": {"reg_coef": [0.5, 0.05]}},
    },
    "eval_edits": 8,
    "experiments": {
        "data_size": {
            "methods": [{"method": "SMEdit"}, {"method": "MEND", "bp_steps": 2}],
            "n_edits": [4, 8],
            "train_batches": [2],
        },
        "inner_steps": {
            "methods": [{"method": "SMEdit", "bp_steps": [1, 2]}],
            "n_edits": [8],
            "train_batches": [2],
        },
    },
}


def test_a_cell_of_two_experiments_is_one_job():
    listed, cells = experiment_cells(CONFIG), grid_cells(CONFIG)
    # 2 models × 2 seeds × (2 methods × 2 sizes; 2 steps), of which SMEdit, 2 steps, 8 edits twice.
    assert len(listed) == 2 * 2 * (4 + 2)
    assert len(cells) == len(listed) - 4
    assert not cells.duplicated().any()
    assert list(cells.columns) == CELL_COLUMNS


def test_a_cell_takes_what_the_method_fixes():
    cells = grid_cells(CONFIG)
    smedit = cells[(cells.method == "SMEdit") & (cells.n_edits == 4)].iloc[0]
    assert (smedit.bp_steps, smedit.locality, smedit.train_from) == (2, "norm", "original")
    mend = cells[cells.method == "MEND"].iloc[0]
    assert (mend.bp_steps, mend.locality) == (2, "kl")


def test_adam_repeats_follow_the_steps_unless_they_are_given():
    assert (grid_cells(CONFIG).adam_repeats == grid_cells(CONFIG).bp_steps).all()
    entry = {"method": "SMEdit", "adam_repeats": 1}
    experiment = {"methods": [entry], "n_edits": [8], "train_batches": [2]}
    config = {**CONFIG, "experiments": {"adam_repeats": experiment}}
    assert set(grid_cells(config).adam_repeats) == {1}


def test_only_a_grid_of_several_points_is_searched():
    assert candidates(CONFIG, "MEND") == [{"lr": 1e-6, "reg_coef": 0.5}]
    cells = tuning_cells(CONFIG)
    assert set(cells.method) == {"SMEdit"}
    assert sorted(cells[cells.model == "a"].reg_coef) == [0.05, 0.5]
    assert len(tuning_cells({**CONFIG, "tuning": {**CONFIG["tuning"], "grid": {}}})) == 0


def test_rows_needed_is_the_most_that_any_job_reads():
    assert rows_needed(CONFIG, "a", "d") == {"train": 16, "tune": 6, "eval": 8}
    assert rows_needed(CONFIG, "c", "d") == {"train": 0, "tune": 0, "eval": 0}


def test_rows_for_a_search_are_needed_only_where_something_is_searched():
    config = {**CONFIG, "tuning": {**CONFIG["tuning"], "train_batches": 100}}
    assert rows_needed(config, "a", "d") == {"train": 400, "tune": 6, "eval": 8}
    config["tuning"]["grid"] = {"SMEdit": {"reg_coef": [0.5]}}
    assert rows_needed(config, "a", "d") == {"train": 16, "tune": 0, "eval": 8}


def test_a_cell_path_holds_every_setting():
    assert cell_path({"model": "a", "n_edits": 4}) == "model~a/n_edits~4"
