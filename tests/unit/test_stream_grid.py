import copy

from smedit.plan.grid import rows_needed
from smedit.plan.stream_grid import (
    STREAM_COLUMNS,
    all_rows_needed,
    stream_candidates,
    stream_cells,
    stream_experiments,
    stream_hyperparameters,
    stream_tuning_cells,
    streams_of,
)

BATCH = {
    "models": {"a": {}, "b": {}},
    "datasets": {"d": {}, "e": {}},
    "seeds": [0],
    "hyperparameters": {"lr": 1e-6, "reg_coef": 0.5},
    "tuning": {"n_edits": 2, "train_batches": 1, "eval_edits": 2, "grid": {}},
    "eval_edits": 4,
    "experiments": {
        "data_size": {"methods": [{"method": "MEND"}], "n_edits": [2], "train_batches": [1]}
    },
}
CONFIG = BATCH | {
    "sequential": {
        "passes": 3,
        "points": 2,
        "hyperparameters": {"bound": 0.1, "reg_coef": 0.7},
        "tuning": {
            "n_edits": 5,
            "n_sequences": 4,
            "train_sequences": 2,
            "grid": {"FT-L": {"bound": [0.1, 0.2], "lr": [1e-3]}},
        },
        "experiments": {
            "comparison": {
                "methods": [{"method": "SMEdit"}, {"method": "MALMEN"}, {"method": "FT-L"}],
                "n_edits": [5],
                "n_sequences": [6],
                "train_sequences": [7],
            },
            "bp_steps": {
                "models": ["b"],
                "datasets": ["e"],
                "methods": [{"method": "SMEdit", "bp_steps": [1, 2]}],
                "n_edits": [5],
                "n_sequences": [6, 60],
                "train_sequences": [7],
            },
        },
    },
}


def test_a_stream_of_two_experiments_is_one_job():
    listed, cells = stream_experiments(CONFIG), stream_cells(CONFIG)
    assert len(listed) == 2 * 2 * 3 + 2 * 2
    assert len(cells) == len(listed) - 1
    assert list(cells.columns) == STREAM_COLUMNS
    assert set(listed[listed.experiment == "bp_steps"].model) == {"b"}


def test_a_dataset_may_have_sizes_of_its_own():
    config = copy.deepcopy(CONFIG)
    comparison = config["sequential"]["experiments"]["comparison"]
    comparison["by_dataset"] = {"e": {"n_edits": [3], "n_sequences": [9], "points": 5}}
    cells = stream_experiments(config).query("experiment == 'comparison'")
    sizes = cells[["dataset", "n_edits", "n_sequences", "points"]].drop_duplicates()
    assert sizes.values.tolist() == [["d", 5, 6, 2], ["e", 3, 9, 5]]
    assert set(cells.train_sequences) == {0, 7}


def test_a_stream_takes_what_its_method_fixes():
    cells = stream_cells(CONFIG).drop_duplicates("method").set_index("method")
    smedit, malmen, ft_l = (cells.loc[name] for name in ("SMEdit", "MALMEN", "FT-L"))
    assert (smedit.bp_steps, smedit.engine.locality, smedit.adam_repeats, smedit.passes) == (
        2,
        "norm",
        1,
        3,
    )
    assert (malmen.bp_steps, malmen.adam_repeats, malmen.train_sequences) == (1, 1, 7)
    assert (ft_l.bp_steps, ft_l.adam_repeats, ft_l.train_sequences, ft_l.passes) == (25, 0, 0, 0)


def test_values_for_streams_replace_those_of_batches():
    assert stream_hyperparameters(CONFIG) == {"lr": 1e-6, "reg_coef": 0.7, "bound": 0.1}
    assert stream_candidates(CONFIG, "SMEdit") == [{"lr": 1e-6, "reg_coef": 0.7, "bound": 0.1}]
    assert stream_candidates(CONFIG, "FT-L") == [
        {"lr": 1e-3, "reg_coef": 0.7, "bound": bound} for bound in (0.1, 0.2)
    ]


def test_only_methods_with_several_points_are_searched():
    assert set(stream_tuning_cells(CONFIG).method) == {"FT-L"}
    assert len(stream_tuning_cells(CONFIG)) == 2 * 2 * 2


def test_rows_are_those_of_the_longest_stream_of_the_pair():
    assert all_rows_needed(CONFIG, "a", "d") == {"train": 35, "tune": 20, "eval": 30}
    assert all_rows_needed(CONFIG, "b", "e") == {"train": 35, "tune": 20, "eval": 300}


def test_a_configuration_may_have_no_streams():
    assert stream_cells(BATCH).empty
    assert stream_tuning_cells(BATCH).empty
    assert all_rows_needed(BATCH, "a", "d") == rows_needed(BATCH, "a", "d")
    assert streams_of(BATCH, "a", "d").empty


def test_rows_for_a_search_of_streams_are_needed_only_where_something_is_searched():
    config = copy.deepcopy(CONFIG)
    config["sequential"]["tuning"] |= {"train_sequences": 50, "grid": {"FT-L": {"lr": [1e-3]}}}
    assert all_rows_needed(config, "a", "d") == {"train": 35, "tune": 0, "eval": 30}
