import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from print_headline import headline, main, stream_headline
from print_seeds import retention, spread

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
AS_COMMITTED = ["git", "diff", "--quiet", "HEAD", "--", "results"]
PLACE = {"model": "smollm2-135m", "dataset": "worldfacts-qa", "variant": "SMEdit"}


pytestmark = pytest.mark.skipif(
    subprocess.run(AS_COMMITTED, cwd=ROOT, capture_output=True).returncode != 0,
    reason="results/ holds another run than the one that is documented",
)


@pytest.mark.parametrize(
    ("printed", "results", "page", "n_rows"),
    [
        (headline, RESULTS, "results.md", 32),
        (stream_headline, RESULTS, "results.md", 44),
        (headline, RESULTS / "seeds", "seeds.md", 32),
        (stream_headline, RESULTS / "seeds", "seeds.md", 44),
        (retention, RESULTS / "seeds", "seeds.md", 40),
        (spread, RESULTS / "seeds", "seeds.md", 6),
    ],
)
def test_the_documented_tables_are_those_of_the_results(printed, results, page, n_rows):
    documented = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    rows = [f"| {' | '.join(row)} |" for row in printed(results).itertuples(index=False)]
    assert len(rows) == n_rows
    assert [row for row in rows if row not in documented] == []


@pytest.fixture
def two_seeds(tmp_path):
    """The committed tables, and again with another seed and 4 more in each score."""
    for name in ("scores", "experiments", "sequential", "sequential_experiments"):
        table = pd.read_csv(RESULTS / f"{name}.csv")
        other = table.assign(seed=1)
        if "value" in table:
            other["value"] += 4
        pd.concat([table, other]).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def row(table):
    """SMEdit on SmolLM2's questions."""
    return table.set_index(list(PLACE)).loc[tuple(PLACE.values())]


@pytest.mark.parametrize("printed", [headline, stream_headline])
def test_of_several_seeds_it_prints_the_median_and_the_range(printed, two_seeds):
    one = float(row(printed(RESULTS)).efficacy.split()[0])
    median, low, high = map(float, re.findall(r"\d+", row(printed(two_seeds)).efficacy))
    assert [median, low, high] == pytest.approx([one + 2, one, one + 4], abs=1)


def test_a_stream_that_diverged_says_when(two_seeds):
    path = two_seeds / "sequential.csv"
    table = pd.read_csv(path)
    mine = (table[list(PLACE)] == pd.Series(PLACE)).all(axis=1) & (table.seed == 1)
    table.loc[mine, "diverged_after"] = 3
    table[~(mine & (table.edited_sequences > 3))].to_csv(path, index=False)
    assert row(stream_headline(two_seeds)).efficacy == "1 of 2 diverged after 3 batches"


def test_the_spread_is_between_seeds_and_not_between_settings(two_seeds):
    table = spread(two_seeds).set_index("experiment")
    assert all(text.startswith("2.8 / ") for text in table.efficacy)  # 4 / √2
    between, within, ratio = map(float, re.findall(r"[\d.]+", table.efficacy["comparison"]))
    assert ratio == pytest.approx(between / within, abs=0.05)


def test_retention_follows_the_first_quarter(two_seeds):
    """Two seeds that differ by 4 everywhere lose the same."""
    mine = row(retention(two_seeds))
    fresh, kept, lost = (float(re.match(r"−?\d+", text)[0]) for text in mine.iloc[-3:])
    assert lost == pytest.approx(fresh - kept, abs=1)
    lowest, highest = re.search(r"\((.+)–(.+)\)", mine["lost"]).groups()
    assert lowest == highest


@pytest.mark.parametrize(("more", "table"), [([], "scores"), (["--sequential"], "sequential")])
def test_without_tables_there_is_one_clear_line(more, table, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main([str(folder), *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {folder}/{table}.csv: not a table ([Errno 2] No such file")
        assert line.endswith("; make the tables again")


def test_without_the_experiment_there_is_one_clear_line(two_seeds, capsys):
    path = two_seeds / "experiments.csv"
    table = pd.read_csv(path)
    table[table.experiment != "data_size"].to_csv(path, index=False)
    assert main([str(two_seeds)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: has no experiment 'data_size', whose cells are printed")
