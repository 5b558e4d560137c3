"""What varies decides the figures; what every picture and every caption keeps to."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_tables import made_tables
from matplotlib.figure import Figure
from matplotlib.image import imread

from smedit.plan.config import completed
from smedit.plan.plan import make_plan
from smedit.report.figures import figures, figures_of, scales
from smedit.report.figures.draw import draw
from smedit.report.figures.points import families
from smedit.report.figures.style import COLORS, styles, theme
from smedit.report.figures.vary import axes_of

ROOT = Path(__file__).parents[2]
CONFIG = """
models: [smollm2-135m, gemma-3-270m]
datasets: [worldfacts-qa, worldfacts-cloze]
seeds: [0, 1, 2]
n_edits: 4
n_requests: 8
generate: 0
experiments:
  many:
    datasets: [worldfacts-qa]
    methods:
      - {method: MEND, bp_steps: [1, 2]}
      - {method: MALMEN, bp_steps: [1, 2]}
      - {method: SMEdit, bp_steps: [1, 2], locality: [norm, none]}
      - {method: SMEdit, locality: kl}
    train_batches: [1, 5, 20]
  two: {methods: [MALMEN, SMEdit], models: [smollm2-135m], train_batches: [1, 5]}
  swept:
    models: [smollm2-135m]
    methods:
      - {method: MALMEN, bp_steps: [1, 2], edit_steps: 2}
      - {method: SMEdit, bp_steps: [1, 2], edit_steps: 2}
    train_batches: [0, 1, 5]
    edit_lr: [trained, 1.0e-5, 1.0e-4, 1.0e-3]
  further: {methods: [MALMEN, SMEdit], models: [smollm2-135m], edit_steps: 3}
  stream:
    models: [smollm2-135m]
    methods: [SMEdit, UltraEdit]
    protocol: sequential
    n_batches: 8
    points: 4
"""


def planned(text):
    return make_plan(completed(yaml.safe_load(text))).resolved()


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return planned(CONFIG)


@pytest.fixture(scope="module")
def tables(rows):
    return made_tables(rows)


@pytest.fixture(scope="module")
def drawn(rows, tables):
    """Every figure of the plan by name, drawn."""
    found = {}
    with theme():
        for name, kind, drawing in figures(rows):
            mine = {key: t[t.experiment == drawing.experiment] for key, t in tables.items()}
            found[name] = kind.draw(replace(drawing, tables=mine))
    return found


def written(rows, tables, experiment, folder):
    return draw([row for row in rows if row["experiment"] == experiment], tables, folder)


# --- which there are ------------------------------------------------------------------------------


def test_what_varies_decides_which_figures_there_are(rows):
    names = figures_of(rows)
    of = {e: [n.partition("-")[2] for n in names if n.startswith(f"{e}-")] for e in ("many", "two")}
    assert of["many"] == [
        *("beside-train_batches", "comparison", "comparison-scores", "comparison-answers"),
        *("curve-train_batches", "curve-train_batches-scores"),
        *("gains", "gains-scores", "phases"),
    ]
    assert {"pairs-train_batches", "comparison"} < set(of["two"])
    assert not any(name.startswith("curve") for name in of["two"])  # no line through two points
    swept = {name for name in names if name.startswith("swept")}
    kinds = {"phases", "trade_off-edit_lr", "trade_off-edit_lr-efficacy"}
    assert swept == {f"swept-{kind}" for kind in kinds}
    assert {"further-stages", "stream-retention"} < set(names)


def test_two_values_of_a_choice_are_no_axis(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = yaml.safe_load(CONFIG)

    def rows(steps):
        config["experiments"] = {"a": {"methods": [{"method": "MALMEN", "bp_steps": steps}]}}
        return planned(yaml.safe_dump(config))

    assert axes_of(rows([1, 2])) == []
    assert axes_of(rows([1, 2, 3])) == ["bp_steps"]


# --- what every picture keeps to ------------------------------------------------------------------


def test_no_panel_has_more_than_six_lines(drawn):
    series = [
        {line.get_label() for line in panel.lines if not line.get_label().startswith("_")}
        for made in drawn.values()
        for panel in made.figure.axes
    ]
    assert max(map(len, series)) == 6
    named = set.union(*series)
    assert {"MEND + MBPS", "MALMEN, edited in 2 steps"} < named
    assert "SMEdit w/o MBPS, untrained, edited in 1 step" in named


def test_nothing_lies_outside_the_axes_without_a_mark(drawn):
    for name, made in drawn.items():
        for panel in made.figure.axes:
            low, high = np.sort([panel.get_xlim(), panel.get_ylim()]).T
            edge = 1e-6 + 1e-6 * abs(high)
            for line in panel.lines:
                if line.get_transform() == panel.transData:
                    points = line.get_xydata()
                    assert ((low - edge <= points) & (points <= high + edge)).all(), name
            for bars in panel.collections:
                for points in bars.get_segments():
                    assert ((low - edge <= points) & (points <= high + edge)).all(), name


def test_a_bar_that_leaves_the_panel_has_an_arrow():
    panel = Figure().add_subplot()
    scale = scales.harm([0.2, 1.0], [-5.0])
    scale.apply(panel, "y")
    points = pd.DataFrame({"x": [1, 2, 3], "low": [0.1, -5.0, 0.0], "high": [0.3, 1.2, 90.0]})
    scales.bars(panel, points, "x", ("low", "high"), "y", scale, color="red")
    below, above = panel.lines
    assert (below.get_label(), below.get_marker(), list(below.get_xdata())) == ("_beyond", "v", [2])
    assert (above.get_marker(), list(above.get_xdata())) == ("^", [3])
    percent = scales.percent("efficacy", [40])
    assert (percent.bounds, percent.high) == ((0, 100), pytest.approx(41.6))


def test_ticks_that_would_touch_are_left_out():
    panel = Figure(figsize=(3, 2)).add_axes((0.1, 0.1, 0.8, 0.8))
    scales.value_axis(panel, [1, 5, 10, 20, 40, 60, 80, 100])
    shown = [int(label.get_text()) for label in panel.get_xticklabels()]
    assert shown == [1, 5, 10, 20, 40, 100]


def test_what_is_compared_in_a_row_has_one_scale(drawn):
    for made in drawn.values():
        rows = {}
        for panel in made.figure.axes:
            rows.setdefault(round(panel.get_position().y0, 3), []).append(panel)
        for panels in rows.values():
            across = len({p.get_ylabel() for p in panels} - {""}) > 1
            if not across and panels[0].get_ylabel():
                assert len({panel.get_ylim() for panel in panels}) == 1


def test_one_run_under_two_names_is_one_line(drawn, rows):
    runs = {row["variant"]: row["run"] for row in rows if row["experiment"] == "many"}
    assert runs["MALMEN + MBPS"] == runs["SMEdit, KL"]
    labels = {t.get_text() for panel in drawn["many-comparison"].figure.axes for t in panel.texts}
    labels |= {
        tick.get_text().replace("\n", " ")
        for panel in drawn["many-comparison"].figure.axes
        for tick in panel.get_yticklabels()
    }
    assert "MALMEN + MBPS = SMEdit, KL" in labels and "SMEdit, KL" not in labels


def test_captions_name_seeds_and_bars_and_stand_in_no_picture(rows, tables, drawn, tmp_path):
    for made in drawn.values():
        assert re.search(r"Means over \d seeds", made.caption)
        assert re.search(r"\b[Bb]ars?\b", made.caption)
    found = written(rows, tables, "swept", tmp_path)
    text = (tmp_path / "swept-trade_off-edit_lr.svg").read_text()
    assert "budget 0.5 nats" in text and "edited in 2 steps" in text
    (caption,) = found[found.figure == "swept-trade_off-edit_lr"].caption
    for sentence in caption.split(". "):
        assert sentence not in text
    assert "A star: the step size as it was trained." in caption


def test_the_same_tables_give_the_same_files(rows, tables, tmp_path):
    found = written(rows, tables, "two", tmp_path / "one")
    written(rows, tables, "two", tmp_path / "two")
    assert list(found.drawn) == ["true"] * len(found)
    for name in found.figure:
        image = imread(tmp_path / f"one/{name}.png")
        assert min(image.shape[:2]) > 150
        assert image[..., :3].std() > 0.05, name
        for suffix in ("png", "svg"):
            files = [tmp_path / f"{folder}/{name}.{suffix}" for folder in ("one", "two")]
            assert files[0].read_bytes() == files[1].read_bytes()


def test_a_figure_that_cannot_be_drawn_says_why_and_stops_nothing(rows, tables, tmp_path, caplog):
    scores = tables["scores"]
    empty = {**tables, "scores": scores[scores.stage == 0]}
    found = written(rows, empty, "two", tmp_path).set_index("figure")
    assert "two-comparison cannot be drawn: no measurement was finished" in caplog.text
    assert found.drawn["two-comparison"] == "no measurement was finished"
    assert found.drawn["two-phases"] == "true"
    assert {path.stem for path in tmp_path.glob("*.svg")} == set(found.index)


def test_what_diverged_is_marked(rows, tables):
    scores = tables["scores"]
    lost = (scores.variant == "MEND") & (scores.train_batches == 20) & (scores.stage > 0)
    mine = {"scores": scores[(scores.experiment == "many") & ~lost], "gains": tables["gains"]}
    made = {
        name: kind.draw(replace(drawing, tables=mine))
        for name, kind, drawing in figures(rows)
        if name in ("many-curve-train_batches", "many-comparison")
    }
    crosses = [
        list(line.get_xdata())
        for panel in made["many-curve-train_batches"].figure.axes
        for line in panel.lines
        if line.get_label() == "_diverged" and len(line.get_xdata())
    ]
    assert crosses == [[20]] * 4  # two models, score and harm
    assert "every run diverged there" in made["many-curve-train_batches"].caption
    texts = [t.get_text() for panel in made["many-comparison"].figure.axes for t in panel.texts]
    assert texts == ["diverged"] * 4


def test_a_variant_without_a_value_within_the_bound_is_marked(rows, tables):
    scores = tables["scores"]
    scores = scores[scores.experiment == "many"]
    scores = scores.assign(within_bound=scores.variant != "MEND")
    kind, drawing = next((k, d) for n, k, d in figures(rows) if n == "many-comparison")
    made = kind.draw(replace(drawing, tables={"scores": scores}))
    marks = [line.get_marker() for panel in made.figure.axes for line in panel.lines]
    assert marks.count("x") == 4 and "left unedited" in made.caption  # two models, score and harm


# --- how lines are told apart ---------------------------------------------------------------------


def test_variants_of_a_method_are_told_apart():
    names = {f"SMEdit {i}": "SMEdit" for i in range(4)} | {"MEND": "MEND", "Mine": "Mine"}
    looks = [
        (s["color"], s["marker"], str(s["linestyle"]), s["markerfacecolor"])
        for s in styles(names).values()
    ]
    assert len(set(looks)) == len(looks)
    assert len({look[0] for look in looks}) == 3
    alone = styles({f"SMEdit {i}": "SMEdit" for i in range(6)} | {"SMEdit": "SMEdit"})
    assert len({look["color"] for look in alone.values()}) == 7
    assert alone["SMEdit"]["color"] == styles({"SMEdit": "SMEdit"})["SMEdit"]["color"]


def test_lines_of_a_method_stay_together():
    methods = {f"{m} {i}": m for m, n in (("A", 2), ("B", 3), ("C", 3), ("D", 8)) for i in range(n)}
    groups = families(methods)
    assert [len(group) for group in groups] == [5, 3, 4, 4]
    whole = families({f"{m} {i}": m for m, n in (("A", 5), ("B", 1), ("C", 2)) for i in range(n)})
    assert [len(group) for group in whole] == [5, 3]
    assert sorted(itertools.chain(*groups)) == sorted(methods)


SEEN = {
    "all cones": np.eye(3),
    "no long": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no middle": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "no short": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
"""Cones → linear RGB as seen with them alone (Machado, Oliveira, Fernandes 2009, severity 1)."""


def lab(color, seen):
    """CIE Lab (D65) of a colour as it is seen."""
    rgb = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = np.array(to_xyz) @ np.clip(np.array(seen) @ linear, 0, 1) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN.values(), ids=list(SEEN))
def test_every_reader_tells_every_two_colours_apart(seen):
    seen_as = [lab(color, seen) for color in COLORS]
    least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen_as, 2))
    assert least > 15
