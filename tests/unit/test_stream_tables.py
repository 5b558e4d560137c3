import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from collect_streams import (
    collect,
    gains_table,
    memory_table,
    sequential_table,
    timings_table,
    training_table,
)
from figures_data import REQUIRED_OF_STREAMS
from smedit.errors import UserError
from smedit.plan.grid import cell_path
from smedit.plan.job_settings import stream_job, stream_tuning_job
from smedit.plan.stream_grid import STREAM_COLUMNS, STREAM_TUNED, stream_cells, stream_tuning_cells
from smedit.plan.tuning import chosen_values, tuning_table
from smedit.store.results import write_result

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))


def point(done, hits, held_out=((2.0, 2), (6.0, 2)), norm=1.5):
    """A point where the given requests are right."""
    rows = [[float(hit)] for hit in hits]
    return {
        "n_sequences": done,
        "scores": [{"metric": "efficacy", "score": "accuracy", "rows": rows}],
        "held_out": [list(pair) for pair in held_out],
        "change_norm": norm,
        "edit_seconds": 0.5 * done,
        "memory_mb": 100.0 + done if done else None,
    }


def result(points, diverged=None, **changes):
    values = ["m", "d", "SMEdit", 2, "norm", 1, 2, 4, 3, 2, 2, 0]
    settings = dict(zip(STREAM_COLUMNS, values, strict=True)) | {"lr": 0.1, "reg_coef": 1.0}
    return {
        "settings": settings | {"bound": 0.5, "split": "eval"} | changes,
        "environment": {"device": "cpu", "precision": "float32", "threads": 1},
        "training": [
            {
                "edit_loss": 1.0,
                "locality_loss": 0.5,
                "gradient_norms": [3.0, 2.0],
                "seconds": {"trace": 2.0, "shift": 1.0},
            }
        ]
        * 6,
        "points": points,
        "seconds": {"train": 24.0, "edit": 2.0, "score": 4.0, "held-out text": 1.0},
        "diverged": diverged,
    }


UNEDITED = point(0, [0, 0, 1, 0, 0, 0, 0, 0], norm=0.0)
STREAM = [UNEDITED, point(2, [1, 0, 1, 1]), point(4, [0, 0, 1, 0, 1, 1, 1, 0])]


def value(table, edited, scope, column="value"):
    rows = table[(table.edited == edited) & (table.scope == scope)]
    assert len(rows) == 1
    return rows[column].iloc[0]


def test_each_scope_is_its_part_of_the_requests():
    table = sequential_table([result(STREAM)])
    assert value(table, 0, "all") == pytest.approx(12.5)
    assert value(table, 0, "first quarter") == 0
    assert value(table, 4, "all") == 75
    assert value(table, 4, "first quarter") == 50
    assert value(table, 4, "latest batch") == 100
    assert value(table, 8, "first quarter") == 0
    assert value(table, 8, "latest batch") == 50
    assert value(table, 8, "latest batch", "n_requests") == 2
    assert value(table, 8, "weights") == 1.5
    assert not len(table[(table.edited == 0) & (table.scope == "latest batch")])


def test_perplexity_is_that_of_all_tokens_with_its_interval():
    table = sequential_table([result(STREAM)])
    assert value(table, 8, "held-out text") == pytest.approx(math.exp(8 / 4))
    low, high = (value(table, 8, "held-out text", name) for name in ("ci_low", "ci_high"))
    assert (low, high) == (pytest.approx(math.exp(1)), pytest.approx(math.exp(3)))


def test_gains_are_paired_by_request_at_the_end_of_streams():
    double = result(STREAM)  # right at the end: requests 3, 5, 6 and 7 of 8
    single = result([UNEDITED, point(4, [0, 0, 1, 0, 0, 0, 0, 0])], bp_steps=1)
    kl = result([UNEDITED, point(4, [1, 1, 1, 0, 1, 1, 1, 1])], locality="kl")
    ended = result(STREAM[:2], diverged={"batches": 3, "why": "x"}, bp_steps=1, locality="kl")
    table = gains_table([double, single, kl, ended]).set_index("gain_of")
    assert table.gain.to_dict() == {"second step": 37.5, "norm instead of KL": -37.5}
    assert set(table.n_requests) == {8}
    assert (table.ci_low < table.gain).all() and (table.gain < table.ci_high).all()
    assert set(table.locality) == {"norm"} and set(table.bp_steps) == {2}


def test_memory_is_that_of_every_point_after_the_first():
    table = memory_table([result(STREAM)])
    assert table.edited_sequences.tolist() == [2, 4]
    assert table.memory_mb.tolist() == [102.0, 104.0]


def test_a_diverged_stream_says_so_and_keeps_its_points():
    ended = result(STREAM[:2], diverged={"batches": 3, "why": "non-finite shift"})
    table = sequential_table([ended, result(STREAM)])
    assert table.diverged_after.dropna().unique().tolist() == [3]
    assert set(table[table.diverged_after == 3].edited) == {0, 4}


def test_seconds_are_per_request_and_per_edit():
    table = timings_table([result(STREAM)]).set_index(["phase", "per"]).seconds
    assert table["train", "training request"] == 24 / (2 * 3 * 2)
    assert table["edit", "edit"] == 2.0 / 8
    assert table["trace", "training batch"] == 2.0
    assert table["score", "stream"] == 4.0


def test_an_untrained_method_has_no_training_times():
    untrained = result(STREAM, train_sequences=0, passes=0) | {"training": []}
    table = timings_table([untrained])
    assert set(table.per) == {"edit", "stream"}
    assert training_table([untrained]).empty


def test_the_training_curve_has_the_last_network_s_gradient_norm():
    table = training_table([result(STREAM)])
    assert table.training_step.tolist() == [1, 2, 3, 4, 5, 6]
    assert set(table.gradient_norm) == {2.0}


def test_the_search_takes_the_end_of_the_stream():
    results = [
        result(STREAM, bound=0.5),
        result([UNEDITED, point(4, [1] * 8)], bound=0.7),
        result(STREAM, diverged={"batches": 4, "why": "x"}, bound=0.9),
    ]
    table = tuning_table(results, STREAM_TUNED)
    assert table.efficacy.tolist()[:2] == [50, 100]
    assert np.isnan(table.efficacy.iloc[2])
    assert set(table.n_requests) == {8}
    assert chosen_values(table, STREAM_TUNED)["SMEdit"] == {
        "lr": 0.1,
        "reg_coef": 1.0,
        "bound": 0.7,
    }


def test_tables_of_a_half_that_is_not_configured_have_their_headers(tmp_path):
    collect({name: value for name, value in SMOKE.items() if name != "sequential"}, tmp_path)
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.glob("*.csv")}
    assert len(tables) == 7
    assert all(table.empty for table in tables.values())
    for name, columns in REQUIRED_OF_STREAMS.items():
        assert set(columns) <= set(tables[name])


def test_a_setting_that_no_table_has_is_an_error():
    with pytest.raises(ValueError, match="the column 'warm_up' is not declared"):
        sequential_table([result(STREAM, warm_up=3)])


def write_run(folder, used, best):
    """Results of the smoke configuration: the step that UltraEdit used, and the best one."""

    def write(part, place, job, efficacy, values):
        done = job["settings"]["n_sequences"]
        hits = [efficacy] * (done * job["settings"]["n_edits"])
        points = [point(0, hits, held_out=()), point(done, hits)]
        made = result(points) | {"training": []}
        made["settings"] = job["settings"] | job["hyperparameters"] | values
        path = folder / "sequential" / part / f"{cell_path(place)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(made, path, job)

    for place in stream_tuning_cells(SMOKE).to_dict("records"):
        write("tuning", place, stream_tuning_job(SMOKE, place), place["lr"] == best, {})
    for place in stream_cells(SMOKE).to_dict("records"):
        values = {"lr": used} if place["method"] == "UltraEdit" else {}
        write("streams", place, stream_job(SMOKE, place), 1, values)


def test_streams_with_other_values_than_the_search_chose_are_refused(tmp_path):
    write_run(tmp_path, used=1e-3, best=1e-3)
    collect(SMOKE, tmp_path)
    write_run(tmp_path, used=1e-3, best=1e-2)
    with pytest.raises(UserError) as caught:
        collect(SMOKE, tmp_path)
    lines = str(caught.value).split("\n")
    assert len(lines) == sum(stream_cells(SMOKE).method == "UltraEdit")
    for line in lines:
        assert "/method~UltraEdit/" in line
        assert ": made with lr 0.001, not 0.01; delete it" in line


HYPER = ("lr", "meta_lr", "loc_coef", "reg_coef", "reg_power", "back_depth", "bound", "rank")


@pytest.mark.parametrize(
    ("method", "locality", "used"),
    [
        ("SMEdit", "norm", {"lr", "meta_lr", "reg_coef", "reg_power", "rank"}),
        ("SMEdit", "kl", {"lr", "meta_lr", "loc_coef", "rank"}),
        ("SMEdit", "none", {"lr", "meta_lr", "rank"}),
        ("MEND", "kl", {"lr", "meta_lr", "loc_coef", "rank"}),
        ("RLEdit", "kl", {"lr", "meta_lr", "loc_coef", "back_depth", "rank"}),
        ("UltraEdit", "none", {"lr"}),
        ("FT-L", "none", {"lr", "bound"}),
    ],
)
def test_a_setting_without_effect_stands_empty(method, locality, used):
    settings = dict.fromkeys(HYPER, 0.5) | {"method": method, "locality": locality}
    table = sequential_table([result(STREAM, **settings)])
    assert {name for name in HYPER if table[name].notna().all()} == used
    assert all(table[name].isna().all() for name in set(HYPER) - used)
