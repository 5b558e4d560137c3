import pytest

from smedit.errors import UserError
from smedit.plan.tuning import chosen_values, tuning_table


def result(dataset, reg_coef, efficacy, specificity, method="SMEdit"):
    score = "accuracy" if dataset == "qa" else "token_success"
    settings = {"model": "m", "dataset": dataset, "method": method, "lr": 1e-6}
    scores = [
        {"stage": 0, "metric": "efficacy", "score": score, "rows": [[1.0]]},
        {"stage": 2, "metric": "efficacy", "score": score, "rows": [[efficacy], [efficacy]]},
        {"stage": 2, "metric": "efficacy", "score": "sequence_success", "rows": [[1.0]]},
        {"stage": 2, "metric": "generalization", "score": score, "rows": [[0.5, 0.5]]},
        {"stage": 2, "metric": "specificity", "score": score, "rows": [[specificity]]},
    ]
    return {"settings": {**settings, "reg_coef": reg_coef, "eval_edits": 2}, "scores": scores}


RESULTS = [
    result("qa", 0.5, 0.2, 0.9),
    result("cf", 0.5, 0.4, 0.9),
    result("qa", 0.05, 0.9, 0.6),
    result("cf", 0.05, 0.9, 0.5),
]


def test_the_highest_mean_over_metrics_and_datasets_is_chosen():
    table = tuning_table(RESULTS)
    # Last stage only, the objective's score only: (20 + 50 + 90) / 3 and so on, in percent.
    assert table.objective.tolist() == pytest.approx([(160 + 180) / 6] * 2 + [(200 + 190) / 6] * 2)
    assert table.efficacy.tolist() == pytest.approx([20, 40, 90, 90])
    assert table.chosen.tolist() == [False, False, True, True]
    assert chosen_values(table) == {"SMEdit": {"lr": 1e-6, "reg_coef": 0.05}}


def with_metric(made, metric, value):
    """A result with one more metric, measured with the objective's own score."""
    score = made["scores"][1]["score"]
    more = {"stage": 2, "metric": metric, "score": score, "rows": [[value]]}
    return {**made, "scores": [*made["scores"], more]}


def without_specificity(made):
    return {**made, "scores": [s for s in made["scores"] if s["metric"] != "specificity"]}


def test_another_metric_does_not_enter_the_objective():
    more = [with_metric(RESULTS[0], "harm", 9.0), *(with_metric(r, "harm", 0) for r in RESULTS[1:])]
    assert tuning_table(more).equals(tuning_table(RESULTS))


def test_a_dataset_may_lack_a_metric_but_not_one_of_its_points():
    less = [without_specificity(r) if r["settings"]["dataset"] == "cf" else r for r in RESULTS]
    table = tuning_table(less)
    assert table.objective[0] == pytest.approx((160 / 3 + 90 / 2) / 2)
    assert table.specificity.isna().tolist() == [False, True, False, True]
    with pytest.raises(UserError, match=r"dataset cf, method SMEdit, .* 0\.05 has no specificity"):
        tuning_table([*RESULTS[:3], without_specificity(RESULTS[3])])
    nothing = {**RESULTS[0], "scores": [{**RESULTS[0]["scores"][0], "score": "exact_match"}]}
    with pytest.raises(UserError, match="has no efficacy, which the objective needs; delete"):
        tuning_table([nothing])


def test_at_a_tie_the_first_of_the_grid():
    table = tuning_table([result("qa", 0.5, 0.4, 0.4), result("qa", 0.05, 0.4, 0.4)])
    assert chosen_values(table)["SMEdit"]["reg_coef"] == 0.5


def test_each_method_has_its_own_choice():
    other = [result("qa", 0.5, 0.9, 0.9, "MEND"), result("qa", 0.05, 0.1, 0.1, "MEND")]
    chosen = chosen_values(tuning_table([*RESULTS, *other]))
    assert (chosen["SMEdit"]["reg_coef"], chosen["MEND"]["reg_coef"]) == (0.05, 0.5)


def test_nothing_searched_nothing_chosen():
    assert tuning_table([]).empty
    assert chosen_values(tuning_table([])) == {}


def test_a_point_that_diverged_is_never_chosen():
    diverged = {**result("qa", 5.0, 0, 0), "scores": [], "diverged": "non-finite shift"}
    table = tuning_table([diverged, *RESULTS[:1], result("cf", 5.0, 1.0, 1.0)])
    assert chosen_values(table)["SMEdit"]["reg_coef"] == 0.5
    assert table.objective.isna().tolist() == [True, False, True]
