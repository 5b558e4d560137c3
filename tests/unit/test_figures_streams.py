"""The figures of sequential editing, from invented streams that went through the real tables."""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import collect_tables
from collect_streams import gains_table, sequential_table, timings_table
from draw_figures import STREAM_FIGURES, draw
from figures_data import StreamTables, read_stream_tables
from figures_panels import FLOOR
from figures_streams import retention, stream_model, stream_scores
from figures_streams_ends import stream_bp_steps, stream_passes, stream_shapes
from figures_streams_gains import stream_gains
from figures_streams_seconds import stream_seconds
from smedit.errors import UserError
from smedit.methods import load_method
from smedit.plan.stream_grid import stream_cells, stream_experiments
from smedit.run.stream_cell import measuring_points

VARIANTS = [
    {"method": "MEND"},
    {"method": "SMEdit"},
    {"method": "SMEdit", "locality": "kl"},
    {"method": "RLEdit"},
    {"method": "UltraEdit"},
    {"method": "FT-L"},
]
"""MEND diverges after three batches."""

SMALL = {"n_edits": [2], "n_sequences": [8], "train_sequences": [4]}


def config(points: int = 4) -> dict[str, Any]:
    """Two models, two datasets, and every experiment of streams."""
    two = [{"method": "SMEdit"}, {"method": "MEND"}]
    one = {"models": ["m1"], "datasets": ["sentences"]}
    steps = [{"method": name, "bp_steps": [1, 2, 3]} for name in ("SMEdit", "UltraEdit")]
    shapes = {"methods": two, "n_edits": [2, 4], "n_sequences": [4, 8], "train_sequences": [4]}
    return {
        "models": ["m1", "m2"],
        "datasets": ["qa", "sentences"],
        "seeds": [0],
        "sequential": {
            "passes": 1,
            "points": points,
            "experiments": {
                "comparison": {"methods": VARIANTS, **SMALL},
                "bp_steps": {**one, "methods": steps, **SMALL},
                "shapes": {**one, **shapes},
                "passes": {**one, "methods": two, **SMALL, "passes": [0, 1, 4]},
                "long_stream": {**one, "methods": two, **SMALL, "n_sequences": [16]},
            },
        },
    }


def invented(cell: dict[str, Any], points: int) -> dict[str, Any]:
    """What `smedit run-stream` writes: efficacy falls along the stream, perplexity rises."""
    rng = np.random.default_rng(zlib.crc32(repr(cell).encode()))
    end = cell["n_sequences"]
    broken = 3 if cell["method"] == "MEND" else None
    done = [0, *(n for n in measuring_points(end, points) if broken is None or n <= broken)]
    trained = cell["train_sequences"] * cell["passes"]
    phases = {
        "trace": 0.2,
        "shift": 0.05,
        "edit loss": 0.4,
        "locality loss": 0.5 if cell["locality"] == "kl" else 0.01,
        "hypernetwork update": 0.1,
    }
    return {
        "settings": {**cell, "lr": 0.1, "reg_coef": 1.0, "bound": 0.5, "split": "eval"},
        "environment": {"device": "cpu", "precision": "float32", "threads": 1},
        "training": [{"seconds": phases}] * trained,
        "points": [_point(cell, n, end, rng) for n in done],
        "seconds": {"train": 2.0 * trained, "score": 4.0, "held-out text": 1.0},
        "diverged": broken and {"batches": broken, "why": "non-finite shift"},
    }


def _point(cell: dict[str, Any], n: int, end: int, rng: np.random.Generator) -> dict[str, Any]:
    if n == 0:
        rng = np.random.default_rng(0)  # all streams start from one model
    skill = load_method(cell["method"]).rank / 3000 + 0.1 * cell["bp_steps"] % 1
    requests = cell["n_edits"] * (n or end)
    chance = 0.1 if n == 0 else max(0.15, 1 - n / end * (0.8 - skill))
    names = ("accuracy",) if cell["dataset"] == "qa" else ("token_success", "sequence_success")
    harm = 0.05 + n / end * (1 - skill)
    return {
        "n_sequences": n,
        "scores": [
            {
                "metric": metric,
                "score": score,
                "rows": (rng.random((requests, 2)) < chance * share).astype(float).tolist(),
            }
            for metric, share in (("efficacy", 1), ("generalization", 0.8), ("specificity", 0.7))
            for score in names
        ],
        "held_out": [[20 * (3 + harm * (n > 0) + x), 20] for x in (-0.2, 0.0, 0.1)],
        "change_norm": 3.0 * n**0.5 * harm,
        "edit_seconds": 0.1 * n * cell["bp_steps"],
        "memory_mb": 800.0 if n else None,
    }


def write_tables(config: dict[str, Any], out: Path, resamples: int = 10) -> Path:
    """The tables of invented streams, by the real tables' functions."""
    before, collect_tables.RESAMPLES = collect_tables.RESAMPLES, resamples
    points = config["sequential"]["points"]
    results = [invented(cell, points) for cell in stream_cells(config).to_dict("records")]
    tables = {
        "sequential": sequential_table(results),
        "sequential_gains": gains_table(results),
        "sequential_timings": timings_table(results),
        "sequential_experiments": stream_experiments(config),
    }
    collect_tables.RESAMPLES = before
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(config(), tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def tables(results: Path) -> StreamTables:
    return read_stream_tables(results)


def of_stream(table: pd.DataFrame, **settings: Any) -> pd.DataFrame:
    """The rows with these values; by default of the comparison's stream of SMEdit."""
    usual = {"model": "m1", "dataset": "qa", "variant": "SMEdit", "n_sequences": 8, "n_edits": 2}
    for name, value in (usual | settings).items():
        table = table[table[name] == value]
    return table


def crosses(panel: Any) -> list[tuple[float, float]]:
    """Where a panel marks streams that diverged."""
    lines = [line for line in panel.lines if line.get_marker() == "x"]
    return [point for line in lines for point in zip(*line.get_data(), strict=True)]


def curves(panel: Any) -> list[list[float]]:
    """The values of each line of a variant, in the order of drawing."""
    plain = ("x", "_", "None")
    lines = [line for line in panel.lines if line.get_marker() not in plain]
    return [list(line.get_ydata()) for line in lines if line.get_linestyle() != "None"]


def test_every_figure_is_written(results, tmp_path):
    draw(results, tmp_path, list(STREAM_FIGURES), dpi=20)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{suffix}" for name in STREAM_FIGURES for suffix in ("png", "pdf")
    }
    for path in tmp_path.glob("*.png"):
        assert imread(path)[..., :3].std() > 0.05, f"{path.name} is empty"


@pytest.mark.parametrize("place, scope", [(0, "first quarter"), (1, "latest batch"), (2, "all")])
def test_retention_draws_the_table_s_efficacy(tables, place, scope):
    panel = retention(tables).axes[4 * place]  # four (model, dataset) pairs
    rows = of_stream(tables.scores, scope=scope, metric="efficacy", passes=1, bp_steps=2)
    assert curves(panel)[1] == rows[rows.edited > 0].value.tolist()
    before = of_stream(tables.scores, edited=0, metric="efficacy", passes=1)
    before = before[before.scope == ("all" if scope == "latest batch" else scope)].value.iloc[0]
    assert panel.lines[0].get_ydata()[0] == pytest.approx(before)


def test_a_diverged_stream_ends_with_a_cross_at_its_last_value(tables):
    figure = retention(tables)
    mend = of_stream(tables.scores, variant="MEND", metric="efficacy", scope="all", edited=4)
    ((x, y),) = crosses(figure.axes[8])
    assert y == mend.value.iloc[0]
    assert abs(x - 4) < 1  # after two of eight batches: the next point would be at four
    assert "diverged" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "×" in figure.texts[-1].get_text()


def test_without_divergence_there_is_no_word_of_it(tables):
    survived = tables.scores[tables.scores.diverged_after.isna()]
    cells = tables.experiments[tables.experiments.method != "MEND"]
    figure = stream_scores(replace(tables, scores=survived, experiments=cells))
    assert not any(crosses(panel) for panel in figure.axes)
    assert "×" not in figure.texts[-1].get_text()


def test_the_score_follows_the_dataset(tables):
    labels = [panel.get_ylabel() for panel in stream_scores(tables).axes]
    assert "accuracy (%)" in labels[0]
    assert labels[4:6] == ["token_success (%)"] * 2


def test_the_model_s_perplexity_and_change_are_the_table_s(tables):
    panels = stream_model(tables).axes
    for panel, metric in ((panels[0], "perplexity"), (panels[4], "change")):
        rows = of_stream(tables.scores, metric=metric)
        assert curves(panel)[1] == rows[rows.edited > 0].value.tolist()
        assert panel.get_yscale() == "log"


def test_a_broken_stream_does_not_flatten_the_others(tables):
    huge = tables.scores.variant.eq("MEND") & (tables.scores.edited > 0)
    spoilt = tables.scores.assign(value=tables.scores.value.where(~huge, 1e30))
    figure = stream_model(replace(tables, scores=spoilt))
    before = of_stream(tables.scores, metric="perplexity", edited=0).value.iloc[0]
    assert figure.axes[0].get_ylim()[1] == pytest.approx(100 * before)
    assert "cut off" in figure.texts[-1].get_text().replace("\n", " ")


def test_seconds_are_per_request_by_phase_and_per_edit(tables):
    left, right = stream_seconds(tables).axes[:2]
    names = [tick.get_text() for tick in left.get_yticklabels()]
    widths = {bar.get_label(): [b.get_width() for b in bar] for bar in left.containers}
    kl, norm = names.index("SMEdit, KL"), names.index("SMEdit")
    locality = list(widths.values())[3]
    assert (locality[kl], locality[norm]) == (pytest.approx(0.25), pytest.approx(0.005))
    texts = [text.get_text() for text in left.texts]
    assert texts[kl] == "0.62 s, 40 %"
    assert texts[names.index("FT-L")] == "no training"
    (dot,) = [line for line in right.lines if line.get_ydata()[0] == norm]
    timing = of_stream(tables.timings, per="edit", passes=1, bp_steps=2)
    assert dot.get_xdata()[0] == timing.seconds.iloc[0]


def test_gains_are_the_table_s(tables):
    panel = stream_gains(tables).axes[0]
    (row,) = tables.gains.query(
        "model == 'm1' and dataset == 'qa' and metric == 'efficacy' and passes == 1"
    ).to_dict("records")
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["SMEdit, norm for KL"]
    (dot,) = [line for line in panel.lines if len(line.get_xdata()) == 1]
    assert dot.get_xdata()[0] == row["gain"]


def test_streams_without_a_partner_have_no_gains(tables):
    with pytest.raises(UserError, match=r"no two streams.*stream_gains cannot be drawn; add some"):
        stream_gains(replace(tables, gains=tables.gains[:0]))


def test_gains_that_diverged_streams_would_have_are_named(tables):
    kl = (tables.scores.variant == "SMEdit, KL") & (tables.scores.edited == 0)
    scores = tables.scores.assign(diverged_after=tables.scores.diverged_after.mask(kl, 0))
    figure = stream_gains(replace(tables, scores=scores, gains=tables.gains[:0]))
    told = " ".join(figure.texts[-1].get_text().split())
    assert "Left out, as they diverged: m1 qa SMEdit, KL, " in told and "MEND" not in told


def test_the_ends_against_backpropagation_steps(tables):
    panels = stream_bp_steps(tables).axes
    end = {"dataset": "sentences", "edited": 16, "passes": 1}
    names = {1: "SMEdit w/o MBPS", 2: "SMEdit", 3: "SMEdit"}
    for place, metric, scope in ((0, "efficacy", "all"), (3, "perplexity", "held-out text")):
        values = [
            of_stream(
                tables.scores, **end, variant=name, bp_steps=steps, metric=metric, scope=scope
            ).value.item()
            for steps, name in names.items()
        ]
        assert curves(panels[place])[0] == values
    seconds = tables.timings[(tables.timings.per == "edit")]
    del end["edited"]
    assert curves(panels[4])[0] == [
        of_stream(seconds, **end, variant=name, bp_steps=steps).seconds.item()
        for steps, name in names.items()
    ]


def test_passes_and_shapes_leave_a_gap_where_a_stream_diverged(tables):
    for figure in (stream_passes(tables), stream_shapes(tables)):
        heights = [y for _, y in crosses(figure.axes[0])]
        assert heights
        assert set(heights) == {FLOOR}
        assert np.isnan(curves(figure.axes[0])[0]).all()  # MEND


def test_a_point_needs_all_seeds(tables):
    fine = tables.scores[tables.scores.method != "MEND"]
    other = fine.assign(seed=1, value=fine.value + 10)
    lost = (other.method == "SMEdit") & (other.edited > 8)
    other = other[~lost].assign(diverged_after=other.diverged_after.where(~lost, 5))
    both = replace(
        tables,
        scores=pd.concat([fine, other]),
        experiments=pd.concat([tables.experiments, tables.experiments.assign(seed=1)]).query(
            "method != 'MEND'"
        ),
    )
    drawn = curves(stream_scores(both).axes[0])[0]
    rows = of_stream(tables.scores, scope="all", metric="efficacy", passes=1, bp_steps=2)
    assert drawn == (rows[rows.edited.between(1, 8)].value + 5).tolist()


def test_without_seconds_their_panel_is_left_out(tables):
    timed, untimed = stream_bp_steps(tables), replace(tables, timings=tables.timings[:0])
    figure = stream_bp_steps(untimed)
    assert len(timed.axes) == len(figure.axes) + 1
    told = ["Editing time" in drawn.texts[-1].get_text() for drawn in (timed, figure)]
    assert told == [True, False]
    assert all(panel.lines for panel in figure.axes)


@pytest.mark.parametrize("name, experiment", [("retention", "comparison"), ("long_stream",) * 2])
def test_an_absent_experiment_is_named(tables, name, experiment):
    rest = tables.experiments[tables.experiments.experiment != experiment]
    with pytest.raises(UserError, match=f"no experiment '{experiment}'.*known: .*passes"):
        STREAM_FIGURES[name](replace(tables, experiments=rest))


def test_a_configuration_without_streams_has_readable_tables(tmp_path):
    made = {"": sequential_table, "_gains": gains_table, "_timings": timings_table}
    for name, table in made.items():
        table([]).to_csv(tmp_path / f"sequential{name}.csv", index=False)
    stream_experiments({}).to_csv(tmp_path / "sequential_experiments.csv", index=False)
    with pytest.raises(UserError, match="no experiment 'comparison'"):
        retention(read_stream_tables(tmp_path))
