import csv
import os

import pytest

from smedit.hosting.failures import Submission, describe, find_failures, were_made, write_table

STARTED = 1000


def job(folder, name, text=None, done=False, written=STARTED):
    """Rule, outputs and log of a job that failed; without a text it was never started."""
    log, output = folder / f"{name}.log", folder / f"{name}.json"
    if text is not None:
        log.write_text(text)
    if done:
        output.write_text("{}")
    for path in (log, output):
        if path.exists():
            os.utime(path, (written, written))
    return ("cell", [str(output)], str(log))


def test_the_reason_is_the_log_s_error_line(tmp_path):
    jobs = [
        job(tmp_path, "a", "12:00:00 loading\nerror: non-finite shift\n12:00:09 bye\n"),
        job(tmp_path, "b", "Traceback (most recent call last):\nKeyError: 'x'\n"),
        job(tmp_path, "c", ""),
        job(tmp_path, "d"),
        job(tmp_path, "e", "12:00:00 loading\n12:00:09 step 3 of 8\n"),
        job(tmp_path, "f", "usage: smedit\nsmedit run-cell: error: no --job\n"),
        job(tmp_path, "interrupted", "interrupted; the same command goes on where it was\n"),
        job(tmp_path, "done", "12:00:00 scored\n", done=True),
    ]
    assert [(f.output, f.why) for f in find_failures(jobs, STARTED)] == [
        (f"{tmp_path}/a.json", "non-finite shift"),
        (f"{tmp_path}/b.json", "KeyError: 'x'"),
        (f"{tmp_path}/c.json", "it ended without a word: killed, or the disk is full"),
        (f"{tmp_path}/d.json", "it was never started; see what Snakemake says of it"),
        (
            f"{tmp_path}/e.json",
            "it ended without an error message (killed?); last line: 12:00:09 step 3 of 8",
        ),
        (f"{tmp_path}/f.json", "no --job"),
    ]


REFUSED = """Job submission failed with exception: The given account mine appears to be invalid. \
Available accounts:
other"""
NO_PARTITION = """SLURM sbatch failed. The error message was 'sbatch: error: invalid partition'.
    sbatch call:
        sbatch --parsable"""
BY_SACCT = "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'. Reason: Unknown."
FAILED = "SLURM-job '7' failed, SLURM status is: 'FAILED'. Reason: Unknown."
KILLED = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0"


@pytest.mark.parametrize(
    ("words", "taken", "of_slurm", "text", "why"),
    [
        (REFUSED, False, "", "", "SLURM did not take it: The given account mine appears to be "),
        (REFUSED, False, "", None, "invalid. Available accounts: other"),
        (
            NO_PARTITION,
            False,
            "",
            None,
            "The error message was 'sbatch: error: invalid partition'.",
        ),
        (BY_SACCT, True, "", "12:00:00 step 3 of 8\n", f"SLURM ended it: {BY_SACCT}"),
        (FAILED, True, f"Submitted\n{KILLED}\nbye\n", "12:00:00 step 3\n", KILLED),
        (FAILED, True, "Submitted\n", "12:00:00 step 3\n", "(killed?); last line: 12:00:00 step 3"),
        (FAILED, True, "Submitted\n", "", "it ended without a word: killed, or the disk is full"),
        (FAILED, True, KILLED, "12:00:00 step 3\nerror: non-finite shift\n", "non-finite shift"),
    ],
)
def test_what_slurm_explains_is_told_in_its_words(tmp_path, words, taken, of_slurm, text, why):
    failed = job(tmp_path, "a", text)
    log = tmp_path / "7.log"
    log.write_text(of_slurm)
    said = {failed[2]: Submission(words, taken, (str(log), str(tmp_path / "gone.log")))}
    (failure,) = find_failures([failed], STARTED, said)
    assert why in failure.why
    assert "\n" not in failure.why and "sbatch call" not in failure.why


def test_what_an_earlier_run_left_says_nothing_of_this_one(tmp_path):
    old = job(tmp_path, "old", "error: long mended\n", done=True, written=STARTED - 1)
    (failure,) = find_failures([old], STARTED)
    assert failure.why == "it was never started; see what Snakemake says of it"
    new = job(tmp_path, "new", "12:00:00 scored\n", done=True)
    assert find_failures([new], STARTED) == []


def test_outputs_are_made_if_all_are_there_and_new(tmp_path):
    (old,) = job(tmp_path, "old", done=True, written=STARTED - 1)[1]
    (new,) = job(tmp_path, "new", done=True)[1]
    assert were_made([new], STARTED)
    assert not were_made([new, old], STARTED)
    assert not were_made([new, str(tmp_path / "none")], STARTED)


def test_the_report_names_each_failure_and_counts_the_rest(tmp_path):
    failures = find_failures([job(tmp_path, "bad", "error: cannot, “really”\n")], STARTED)
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
