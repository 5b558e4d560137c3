import csv

from smedit.failures import describe, find_failures, write_table


def job(folder, name, text=None, done=False):
    """Rule, outputs and log of a job that failed; without a text it was never started."""
    log, output = folder / f"{name}.log", folder / f"{name}.json"
    if text is not None:
        log.write_text(text)
    if done:
        output.write_text("{}")
    return ("cell", [str(output)], str(log))


def test_the_reason_is_the_log_s_error_line(tmp_path):
    jobs = [
        job(tmp_path, "a", "12:00:00 loading\nerror: non-finite shift\n12:00:09 bye\n"),
        job(tmp_path, "b", "Traceback\nKeyError: 'x'\n"),
        job(tmp_path, "c", ""),
        job(tmp_path, "d"),
        job(tmp_path, "interrupted", "interrupted; the same command goes on where it was\n"),
        job(tmp_path, "done", "12:00:00 scored\n", done=True),
    ]
    assert [(f.output, f.why) for f in find_failures(jobs)] == [
        (f"{tmp_path}/a.json", "non-finite shift"),
        (f"{tmp_path}/b.json", "KeyError: 'x'"),
        (f"{tmp_path}/c.json", "it ended without a word: killed, or the disk is full"),
        (f"{tmp_path}/d.json", "it was never started; see what Snakemake says of it"),
    ]


def test_the_report_names_each_failure_and_counts_the_rest(tmp_path):
    failures = find_failures([job(tmp_path, "bad", "error: cannot, “really”\n")])
    table = tmp_path / "new" / "failed.csv"
    assert describe(failures, n_unfinished=8, table=table).splitlines() == [
        f"Failed jobs: 1, listed in {table}",
        f"  {tmp_path}/bad.json",
        "    cannot, “really”",
        f"    log: {tmp_path}/bad.log",
        "7 more have no result: they need one of those, or were not reached.",
        "All other results are safe. The same command tries again what is missing.",
    ]
    write_table(failures, table)
    with table.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "rule": "cell",
        "output": f"{tmp_path}/bad.json",
        "log": f"{tmp_path}/bad.log",
        "why": "cannot, “really”",
    }
