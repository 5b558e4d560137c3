"""The report: one page that holds all it needs, also of a run that is not whole yet."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_report import configured, write

import quote_results
from smedit.cli import main
from smedit.editing import studied
from smedit.plan import jobs
from smedit.report import collect
from smedit.report.at_budget import at_budgets
from smedit.report.page.verdicts import WIDTH, verdicts
from smedit.report.quoted import quoted
from smedit.report.sides import rules
from smedit.report.tables import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_suite(monkeypatch):
    monkeypatch.chdir(ROOT)


class Read(HTMLParser):
    """What a page refers to, and what it has."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []


def reported(config):
    collect.write_tables(config, all_done=False)
    collect.draw_figures(config)
    return collect.write_report(config).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of a whole run, one of whose questions has signs that HTML knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = configured(tmp_path_factory.mktemp("page"))
        config["experiments"]["best"]["question"] = "Is 2 > 1 & <b>bold</b>?"
        write(config)
        return reported(config)


def test_the_page_needs_nothing_else(page):
    read = Read(page)
    assert read.sources and all(s.startswith("data:image/svg+xml;base64,") for s in read.sources)
    outside = {link for link in read.links if not link.startswith("#")}
    assert outside == {"https://arxiv.org/abs/2508.04012"}
    assert "@import" not in page and "url(" not in page


def test_every_link_of_the_page_has_its_place(page):
    read = Read(page)
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)


def test_words_of_a_configuration_are_no_html(page):
    assert "Is 2 &gt; 1 &amp; &lt;b&gt;bold&lt;/b&gt;?" in page and "<b>bold" not in page


def test_the_best_of_a_column_is_marked(page):
    assert page.count('class="best"') > 4
    assert 'title="summary.csv, line 2"' in page


def test_of_a_run_that_is_not_whole_there_is_what_is_done(tmp_path):
    config = configured(tmp_path)
    plan = write(config)
    folder = Path(config["results_dir"])
    lost = next(n for n, r in plan.runs.items() if "norm" in n and not r.chosen)
    (folder / f"runs/{lost}.json").unlink()
    text = reported(config)
    runs = pd.read_csv(folder / "runs.csv")
    waiting = {name for name, run in plan.runs.items() if run.chosen and "norm" in name}
    assert set(plan.runs) - set(runs.run) == waiting | {lost}  # of what is not chosen yet
    assert runs.whole.all() and f"{len(runs)} of {len(plan.runs)} runs are done" in text
    chosen = pd.read_csv(folder / "chosen.csv")
    assert set(chosen.variant) == {"MALMEN"}  # the search for SMEdit lacks a point
    summary = pd.read_csv(folder / "summary.csv")
    best = summary[summary.experiment == "best"]
    assert set(best.variant) == {"MALMEN", "MALMEN + MBPS"}
    assert best.within_bound.all()


def test_kept_results_of_other_data_are_no_part_of_a_report(tmp_path, monkeypatch, caplog):
    config = configured(tmp_path)
    plan, folder = write(config), tmp_path / "results"
    monkeypatch.setattr(jobs, "same_data", lambda *_, **__: set())
    name = next(name for name, run in plan.runs.items() if run.settings.training != "none")
    os.utime(folder / f"runs/{name}.json", (0, 0))  # as if it came from an archive
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config))
    assert main(["report", str(file)]) == 0
    assert name not in set(pd.read_csv(folder / "runs.csv").run)
    assert "worldfacts-qa: its files are not those of the kept results" in caplog.text


def test_nothing_done_is_told_too(tmp_path):
    text = reported(configured(tmp_path))
    assert "0 of " in text and "(not measured yet)" in text


def test_a_verdict_shows_its_numbers_on_one_scale():
    row = dict.fromkeys(TABLES["claims"][0], float("nan")) | {
        **{"id": "x", "claim": "c", "where": "w", "score": "generalization", "margin": 5},
        **{"verdict": "holds", "kept": False},
        **{"chosen_a_is": "SMEdit", "chosen_a": 70.2, "chosen_b_is": "MALMEN", "chosen_b": 50.0},
        **{"chosen_difference": 20.2, "chosen_low": 10.0, "chosen_high": 300.0},
        **{"chosen_seeds": 3, "chosen_settings": 4},
    }
    (shown,) = verdicts(pd.DataFrame([row]))
    chosen = shown["recipes"]["chosen"]
    assert chosen["numbers"] == [("70", "SMEdit"), ("50", "MALMEN")]
    assert chosen["counts"] == "3 seeds, 4 settings"
    assert chosen["difference"] == "+20 (+10 to +300)" and list(shown["recipes"]) == ["chosen"]
    assert shown["zero"] < shown["margin"] < chosen["x"] < chosen["to"] < WIDTH


def test_what_the_paper_has_stands_beside_a_claim():
    claims = rules()["claims"]
    assert quoted(claims["mbps_improves_malmen"]).startswith("2 steps: ")
    assert quoted(claims["one_batch_beats_many"]).startswith("SMEdit, 1 training batch, 2 steps: ")
    assert quoted(claims["general_ability"]) == ""
    for name, claim in claims.items():
        assert ("quoted" in claim) == bool(quoted(claim)), name


def test_what_the_pages_quote_is_what_the_tables_have():
    for name in quote_results.PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search("<!-- progress -->\n.+\n<!-- /progress -->", text), name
        assert quote_results.quoted(text) == text, f"run: python {quote_results.__file__}"
    assert quote_results.STUDIED.read_text(encoding="utf-8") == quote_results.studied()


def test_people_s_edits_begin_where_the_study_ended(monkeypatch, tmp_path):
    columns = TABLES["chosen"][0]
    row = dict.fromkeys(columns, "") | {"search": "search", "model": "m", "chosen": True}
    row |= {"allowed": True, "objective": 60.0, "unedited": 20.0, "runs": "one two"}
    rows = [
        row | {"variant": "SMEdit", "values": "lr 0.0003, edit_lr trained"},
        row | {"variant": "SMEdit", "values": "lr 0.001, edit_lr 1e-05", "chosen": False},
        row | {"variant": "SMEdit w/o MBPS", "values": "lr 0.0003, edit_lr 0.001"},
        row | {"variant": "MEND", "values": "lr 1e-06, edit_lr 3e-05", "allowed": False},
        row | {"variant": "FT-L", "values": "lr 0.002, bound 0.05", "objective": 20.0},
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "chosen.csv", index=False)
    monkeypatch.setattr(quote_results, "RESULTS", tmp_path)
    written = yaml.safe_load(quote_results.studied())
    assert written == {"m": {"SMEdit": {"values": {"lr": 0.0003}, "runs": ["one", "two"]}}}
    monkeypatch.setattr(studied, "_chosen", lambda: written)
    assert studied.studied("m", "SMEdit") == {"lr": 0.0003}
    assert studied.studied("m", "MEND") == studied.studied("other", "SMEdit") == {}


def test_the_choice_within_a_budget_is_made_on_tune_rows():
    assert list(at_budgets(FakeFound([]))) == []
    found = FakeFound([(1e-4, 0.5, 0.1), (1e-3, 0.75, 0.4), (1e-2, 1.0, 2.0)])
    rows = {
        (r["budget"], r["objective"]): r
        for r in at_budgets(found)
        if r["objective"] == "generalization"
    }
    at = {budget: row for (budget, _), row in rows.items()}
    assert [at[b]["value"] for b in (0.1, 0.3, 0.5, 1.0)] == pytest.approx([40, 40, 60, 60])
    assert at[0.5]["chosen"].startswith("lr 1e-06, edit_lr 0.001") and at[0.5]["seeds"] == 2
    assert at[0.5]["harm"] == pytest.approx(0.5) and not at[0.5]["above_budget"]
    assert at[0.3]["ci_low"] <= 40 <= at[0.3]["ci_high"] and 0 < at[0.3]["same_choice"] <= 1


def test_of_a_part_of_what_is_to_be_tried_nothing_is_chosen():
    found = FakeFound([(1e-4, 0.5, 0.1), (1e-3, 0.75, 0.4), (1e-2, 1.0, 2.0)])
    found.asked = found.rows
    assert list(at_budgets(found))
    found.rows = [row for row in found.rows if row["edit_lr"] < 1e-2]
    assert list(at_budgets(found)) == []


class FakeFound:
    """Two seeds, measured at step sizes: on ``eval`` rows a fifth lower, and more harmful."""

    def __init__(self, tried):
        self.rows, self.asked, self.measured = [], [], {}
        for lr, score, harm in tried:
            for rows, value, nats in (("tune", score, harm), ("eval", 0.8 * score, harm * 1.25)):
                for seed in (0, 1):
                    row = {
                        **{"experiment": "e", "model": "m", "dataset": "d", "variant": "SMEdit"},
                        **{"protocol": "batch", "n_edits": 4, "train_batches": 1, "edit_steps": 1},
                        **{"run": f"r{seed}", "rows": rows, "seed": seed, "lr": 1e-6},
                        **{"n_batches": 10, "edit_parts": "all"},
                        **{"edit_lr": lr, "bound": 0.01, "loc_coef": 0.6, "reg_coef": 0.5},
                        **{"method": "SMEdit", "locality": "norm", "training": "in_batches"},
                        "shift_rule": "least_squares",
                    }
                    self.rows.append(row)
                    self.measured[rows, seed, lr] = self.evaluation(value, nats)

    def of(self, row):
        return {}, self.measured[row["rows"], row["seed"], row["edit_lr"]]

    def evaluation(self, value, nats):
        def scores(share):
            rows = [[1.0] if i < round(20 * share) else [0.0] for i in range(20)]
            names = [("generalization", "accuracy"), ("efficacy", "accuracy")]
            names.append(("specificity", "agreement"))
            return [{"metric": m, "score": s, "rows": rows} for m, s in names]

        before = [[2.0, 0.0, 4], [3.0, 0.0, 6]]
        after = [[loss + nats * n, 0.0, n] for loss, _, n in before]
        return {
            "points": [
                {"stage": 0, "scores": scores(0.2), "text": [before]},
                {"stage": 1, "scores": scores(value), "text": [after]},
            ]
        }


def test_a_report_of_no_configuration_says_so(capsys):
    assert main(["report", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
