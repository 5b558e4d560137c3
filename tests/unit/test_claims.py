"""Verdicts: from what was measured, by the rules that were written before."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from smedit.plan.config_files import read_file
from smedit.report import claims, sides, statistics, timed

RULES = sides.rules()


def found(mean, half, seeds=3):
    ends = {"low": mean - half, "high": mean + half}
    return [{"complete": True, "difference": mean, **ends, "seeds": seeds}]


@pytest.mark.parametrize(
    ("mean", "half", "seeds", "expected"),
    [
        (10, 3, 3, "shown"),
        (4, 3, 3, "slight"),  # above 0, below the margin of 5 points
        (1, 3, 3, "absent"),
        (-9, 3, 3, "absent"),
        (6, 8, 3, "open"),
        (10, 3, 2, "open"),  # of two seeds there is no interval
    ],
)
def test_what_a_comparison_shows(mean, half, seeds, expected):
    assert claims.finding(found(mean, half, seeds), margin=5) == expected


@pytest.mark.parametrize(
    ("mean", "half", "expected"), [(0, 3, "shown"), (9, 3, "absent"), (4, 3, "open")]
)
def test_what_is_kept_loses_less_than_the_margin(mean, half, expected):
    assert claims.finding(found(mean, half), margin=5, kept=True) == expected


@pytest.mark.parametrize(
    ("published", "chosen", "expected"),
    [
        ("shown", "shown", "holds"),
        ("open", "slight", "holds in direction"),
        ("shown", "absent", "holds as published only"),
        ("open", "absent", "does not hold"),
        ("shown", "open", "not settled"),
        ("shown", "", "not settled"),  # the other recipe was not asked for
        ("shown", None, "holds"),  # the claim has no other recipe
        ("open", None, "not settled"),
        (None, "absent", "does not hold"),
        ("", "", "not tested here"),
        ("", None, "not tested here"),
    ],
)
def test_verdicts(published, chosen, expected):
    findings = {"published": published, "chosen": chosen}
    assert claims.verdict({k: v for k, v in findings.items() if v is not None}) == expected


def test_of_several_comparisons_each_must_be_shown():
    assert claims.finding(found(10, 3) + found(4, 3), margin=5) == "slight"
    assert claims.finding(found(10, 3) + found(6, 8), margin=5) == "open"
    assert claims.finding(found(10, 3) + found(1, 3), margin=5) == "absent"
    lacking = [{"complete": False}]
    assert claims.finding(found(10, 3) + lacking, margin=5) == claims.finding(lacking, 5) == "open"
    assert claims.finding([], margin=5) == ""


def scores_of(experiment, variant, seeds, value, harm=0.1, rows="eval", **more):
    """Rows of the scores table: before editing, and after."""
    common = {
        **{"experiment": experiment, "variant": variant, "model": "m", "dataset": "d"},
        **{"rows": rows, "n_edits": 4, "edit_steps": 1},
        **dict.fromkeys([*sides.STRENGTHS, *sides.SAME]),
        **{"protocol": "batch", "train_batches": 5},
        **{"diverged": None, "within_bound": None},
        "batches": 2,
        **more,
    }
    return [
        {
            **common,
            **{"seed": seed, "run": f"{variant}-{seed}", "scope": scope, "metric": metric},
            **{"score": score, "stage": stage, "value": before if stage == 0 else after + seed / 9},
            **({"batches": 0} if stage == 0 else {}),
        }
        for seed in range(seeds)
        for stage in (0, 1)
        for scope, metric, score, before, after in (
            ("all", "generalization", "accuracy", 20.0, value),
            ("text", "harm", "nats", 0.0, harm),
        )
    ]


def compared(rows, experiment, a, b, asked=None, score="generalization"):
    points = sides.last_points(pd.DataFrame(rows))
    pair = {"a": {"variant": a}, "b": {"variant": b}}
    asked = pd.DataFrame(rows if asked is None else asked)
    return claims.compare(points, asked, {"experiment": experiment, **pair}, score)


def test_differences_are_paired_by_seed():
    rows = scores_of("e", "one", 3, 50.0) + scores_of("e", "two", 3, 40.0)
    it = compared(rows, "e", "one", "two")
    assert it["difference"] == pytest.approx(10) and it["seeds"] == 3
    assert it["low"] == pytest.approx(10) == it["high"]  # the seeds differ, their pairs do not
    assert compared(rows, "e", "one", "three") is None


def test_a_run_that_diverged_scores_0():
    rows = scores_of("e", "one", 3, 50.0) + scores_of("e", "two", 3, 40.0)
    rows = [r | {"diverged": "why"} if (r["variant"], r["seed"]) == ("one", 1) else r for r in rows]
    rows = [r for r in rows if not (r["diverged"] and r["stage"])]
    assert compared(rows, "e", "one", "two")["a"] < 35


def test_step_sizes_are_chosen_on_tune_rows_within_the_budget():
    rows = []
    for lr, value, harm in ((1e-4, 40.0, 0.1), (1e-3, 60.0, 0.3), (1e-2, 90.0, 2.0)):
        for part in ("tune", "eval"):
            rows += scores_of("e", "one", 3, value - 30 * (part == "eval"), harm, part, edit_lr=lr)
    points = sides.last_points(pd.DataFrame(rows))
    reached = sides.side(points, {"experiment": "e", "variant": "one"}, "generalization")
    assert reached.value.tolist() == pytest.approx([30, 30 + 1 / 9, 30 + 2 / 9])
    broken = [r | {"value": 5.0} if r["metric"] == "harm" and r["stage"] else r for r in rows]
    points = sides.last_points(pd.DataFrame(broken))
    reached = sides.side(points, {"experiment": "e", "variant": "one"}, "generalization")
    assert reached.value.tolist() == [20.0] * 3  # the unedited model is a candidate, too


def test_a_configuration_that_asks_for_none_of_it_has_no_claims():
    mine = pd.DataFrame(scores_of("mine", "one", 1, 50.0))
    assert list(claims.judged(mine, mine, None)) == []
    asked = pd.DataFrame(scores_of("published", "SMEdit", 3, 50.0))
    judged = list(claims.judged(asked, asked, None))
    assert {row["id"] for row in judged} == set(RULES["claims"])
    assert {row["verdict"] for row in judged} == {"not tested here"}


def test_what_is_asked_for_and_not_done_settles_nothing():
    rows = scores_of("published", "MALMEN + MBPS", 3, 50.0) + scores_of(
        "published", "MALMEN", 3, 30.0
    )
    more = [r | {"dataset": "other"} for r in rows]
    it = compared(rows, "published", "MALMEN + MBPS", "MALMEN", asked=rows + more)
    assert not it["complete"] and it["difference"] == pytest.approx(20)
    done = compared(rows, "published", "MALMEN + MBPS", "MALMEN")
    assert done["complete"] and done["b_harm"] == pytest.approx(0.1 + 1 / 9)
    for part in (rows, []):
        table = pd.DataFrame(part, columns=rows[0])
        judged = claims.judged(table, pd.DataFrame(rows + more), None)
        verdicts = {row["id"]: row["verdict"] for row in judged}
        assert verdicts["mbps_improves_malmen"] == "not settled"


def test_one_that_diverged_is_not_the_least_harmful():
    rows = scores_of("e", "one", 3, 50.0) + scores_of("e", "two", 3, 40.0)
    rows = [r | {"diverged": "why"} if (r["variant"], r["seed"]) == ("one", 1) else r for r in rows]
    rows = [r for r in rows if not (r["diverged"] and r["stage"])]
    it = compared(rows, "e", "one", "two", score="harm")
    assert it["difference"] == math.inf and claims.finding([it], 0.1, kept=True) == "open"


def test_a_step_that_diverged_scores_0_and_the_one_before_it_counts():
    rows = scores_of("e", "one", 3, 50.0, edit_steps=2)
    lost = {"diverged": "why"}
    rows = [r | lost if (r["seed"], r["stage"]) == (1, 0) else r for r in rows]
    rows += [r | {"stage": 2} for r in rows if r["seed"] != 1 and r["stage"]]
    points = sides.last_points(pd.DataFrame(rows))
    reached = sides.side(points, {"experiment": "e", "variant": "one"}, "generalization")
    assert reached.value.tolist() == pytest.approx([50, 0, 50 + 2 / 9])
    tuned = scores_of("e", "one, 1 step", 3, 60.0, rows="tune")
    tuned = [r | {"run": f"one-{r['seed']}"} for r in tuned]
    points = sides.last_points(pd.DataFrame(rows + tuned))
    reached = sides.side(points, {"experiment": "e", "variant": "one, 1 step"}, "generalization")
    assert reached.value.tolist() == pytest.approx([50, 50 + 1 / 9, 50 + 2 / 9])


def test_other_parts_of_the_same_run_are_another_measurement():
    rows = []
    for lr, value in ((1e-4, 40.0), (1e-3, 60.0)):
        rows += scores_of("e", "one", 3, value, rows="tune", edit_lr=lr, edit_parts="all")
        rows += scores_of("e", "one", 3, value, edit_lr=lr, edit_parts="all")
        rows += scores_of("parts", "one", 3, 0.0, edit_lr=lr, edit_parts="only_blocks")
    points = sides.last_points(pd.DataFrame(rows))
    reached = sides.side(points, {"experiment": "e", "variant": "one"}, "generalization")
    assert reached.value.tolist() == pytest.approx([60, 60 + 1 / 9, 60 + 2 / 9])


def test_a_choice_waits_until_each_candidate_is_measured_everywhere():
    rows = scores_of("e", "one", 3, 40.0, rows="tune", edit_lr=1e-4)
    rows += scores_of("e", "one", 2, 60.0, rows="tune", edit_lr=1e-3)
    points = sides.last_points(pd.DataFrame(rows))
    assert sides.choice(points) is None
    whole = rows + [
        r | {"diverged": "why"}
        for r in scores_of("e", "one", 3, 60.0, rows="tune", edit_lr=1e-3)
        if r["seed"] == 2 and r["stage"] == 0
    ]
    best = sides.choice(sides.last_points(pd.DataFrame(whole)))
    assert best["edit_lr"] == "0.0001"  # the other one diverged on a seed


def test_every_claim_names_experiments_of_the_study():
    study = set(read_file(Path("config/reference.yaml"))["experiments"]) | {"benchmark"}
    for name, claim in RULES["claims"].items():
        for recipe in claims.RECIPES:
            assert recipe not in claim or claim[recipe]["experiment"] in study, name


def test_sign_flips_are_exact_and_holm_steps_down():
    assert statistics.sign_flips([1.0, 2.0, 3.0, 4.0]) == 2 / 2**4
    assert statistics.sign_flips([1.0, -1.0]) == 1.0
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == []


@pytest.mark.parametrize("n", [3, 5])
def test_t_intervals_cover_at_few_seeds_and_bootstraps_do_not(n):
    """Of 2,000 samples of n seeds, about 95 % of the t intervals hold the true mean."""
    draws = np.random.default_rng(0).normal(size=(2000, n))
    bounds = np.array([statistics.over_seeds(sample)[1:] for sample in draws])
    covered = np.mean((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0))
    assert 0.935 <= covered <= 0.965
    again = draws[
        np.arange(2000)[:, None, None], np.random.default_rng(1).integers(n, size=(2000, 400, n))
    ]
    low, high = np.quantile(again.mean(-1), [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.90


def test_the_smallest_effect_is_found_four_times_out_of_five():
    rng = np.random.default_rng(0)
    effect = np.mean([statistics.smallest_effect(rng.normal(size=5)) for _ in range(4000)])
    found = stats.ttest_1samp(rng.normal(effect, size=(4000, 5)), 0, axis=1).pvalue < 0.05
    assert 0.74 <= found.mean() <= 0.90


def test_a_choice_that_breaks_the_bound_counts_as_the_unedited_model():
    rows = scores_of("fair", "one", 3, 90.0, within_bound=False) + scores_of("fair", "two", 3, 40.0)
    it = compared(rows, "fair", "one", "two")
    assert it["a"] == pytest.approx(20) and it["difference"] == pytest.approx(-20 - 1 / 9)
    assert (it["a_unedited"], it["b_unedited"]) == (1, 0)
    rows = [
        r | {"variant": {"one": "SMEdit", "two": "SMEdit w/o MBPS"}[r["variant"]]} for r in rows
    ]
    rows += [r | {"experiment": "published", "within_bound": None} for r in rows]
    judged = claims.judged(pd.DataFrame(rows), pd.DataFrame(rows), None)
    row = next(row for row in judged if row["id"] == "mbps_improves_smedit")
    assert row["chosen_a_is"] == "SMEdit (left unedited)" and row["chosen_b_is"].endswith("MBPS")


def test_of_an_unfinished_study_all_seeds_see_the_same_settings():
    rows = scores_of("e", "one", 3, 50.0) + scores_of("e", "two", 3, 40.0)
    other = scores_of("e", "one", 1, 90.0) + scores_of("e", "two", 1, 10.0)
    it = compared(rows + [r | {"dataset": "other"} for r in other], "e", "one", "two")
    assert (it["settings"], it["seeds"]) == (1, 3) and it["difference"] == pytest.approx(10)


def test_of_an_unfinished_study_the_settings_have_the_same_seeds():
    rows = scores_of("e", "one", 3, 50.0) + scores_of("e", "two", 3, 40.0)
    other = scores_of("e", "one", 3, 90.0) + scores_of("e", "two", 3, 10.0)
    lacking = {("d", 2), ("other", 0)}
    rows += [r | {"dataset": "other"} for r in other]
    it = compared(
        [r for r in rows if (r["dataset"], r["seed"]) not in lacking], "e", "one", "two", asked=rows
    )
    assert (it["complete"], it["settings"], it["seeds"]) == (False, 1, 2)
    assert it["difference"] == pytest.approx(10)


def test_harm_of_two_that_diverged_is_no_difference():
    rows = scores_of("e", "one", 3, 50.0) + scores_of("e", "two", 3, 40.0)
    for row in rows:
        if row["seed"] == 1:
            row["diverged"] = "the loss is not finite"
    it = compared(rows, "e", "one", "two", score="harm")
    assert (it["complete"], it["seeds"]) == (False, 2)


def test_nothing_is_chosen_from_a_part_of_what_is_to_be_tried():
    rows = []
    for variant in ("one", "two"):
        for step_size, value in ((1e-4, 40.0), (1e-3, 60.0)):
            for split in ("tune", "eval"):
                rows += scores_of("e", variant, 3, value, rows=split, edit_lr=step_size)
    known = [row for row in rows if row["edit_lr"] == 1e-4]
    assert compared(rows, "e", "one", "two")["a"] == pytest.approx(60 + 1 / 9)
    assert compared(known, "e", "one", "two", asked=rows) == {"complete": False}
    more = [row | {"model": "other"} for row in rows]
    it = compared(rows + [r for r in more if r in known], "e", "one", "two", asked=rows + more)
    assert not it["complete"] and it["settings"] == 1 and it["a"] == pytest.approx(60 + 1 / 9)


def test_a_verdict_stands_beside_what_each_model_alone_would_say():
    rows = []
    for model, value in (("one", 60.0), ("other", 40.0)):
        for variant, reached in (("MALMEN + MBPS", value), ("MALMEN", 40.0)):
            rows += scores_of("published", variant, 3, reached, model=model)
            rows += scores_of("fair", variant, 3, reached, model=model)
    judged = claims.judged(pd.DataFrame(rows), pd.DataFrame(rows), None)
    row = next(row for row in judged if row["id"] == "mbps_improves_malmen")
    assert row["by_model"] == "one: holds; other: does not hold"
    less = pd.DataFrame(r for r in rows if (r["model"], r["seed"]) != ("other", 1))
    row = next(
        row
        for row in claims.judged(less, pd.DataFrame(rows), None)
        if row["id"] == "mbps_improves_malmen"
    )
    assert row["verdict"] == "not settled"
    assert row["by_model"] == "one: holds"
    mixed = pd.DataFrame(r for r in rows if (r["model"], r["experiment"]) != ("one", "fair"))
    row = next(
        row
        for row in claims.judged(mixed, pd.DataFrame(rows), None)
        if row["id"] == "mbps_improves_malmen"
    )
    assert row["by_model"] == "one: appears as published; other: does not hold"


def test_claims_on_time_and_memory_are_read_from_the_benchmark():
    measured = [
        {"part": "locality", "model": "m", "n_edits": n, "locality": locality, "quantity": quantity}
        | {"phase": phase, "value": value * n}
        for n in (1, 2, 4)
        for locality, quantity, phase, value in (
            ("kl", "seconds", "total", 10.0),
            ("kl", "seconds", "locality loss", 3.0),
            ("norm", "seconds", "total", 6.0),
            ("kl", "peak_memory_mb", "total", 200.0),
            ("norm", "peak_memory_mb", "total", 190.0),
        )
    ]
    benchmark = pd.DataFrame(measured)
    shares = {score: timed.timed(benchmark, score)[0] for score in timed.TIMED}
    means = {score: one["difference"] for score, one in shares.items()}
    assert means == pytest.approx({"share_of_kl": 30, "seconds_saved": 40, "memory_saved": 5})
    assert shares["share_of_kl"]["settings"] == 3
    asked = pd.DataFrame(scores_of("published", "SMEdit", 3, 50.0))
    verdicts = {row["id"]: row["verdict"] for row in claims.judged(asked, asked, benchmark)}
    assert verdicts["kl_takes_time"] == verdicts["norm_saves_time"] == "holds"
    assert verdicts["norm_saves_memory"] == "holds in direction"
    assert timed.timed(None, "share_of_kl") == []
