"""Two runs in one folder: the second says so, and the first is not disturbed."""

import socket
import subprocess
import sys
import time

import pytest
from runs import ROOT, copy_suite, kill, run, start

from smedit.errors import UserError
from smedit.hosting.run_lock import hold

HOLD = """
import sys
from pathlib import Path
from smedit.hosting.run_lock import hold
hold(Path(sys.argv[1]))
print(1, flush=True)
input()
"""


def holder(path):
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"1\n"
    return process


def test_the_lock_goes_with_the_process_even_when_it_is_killed(tmp_path):
    path = tmp_path / "new" / "lock"
    process = holder(path)
    where = f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(UserError, match=f"another run is at work in .*{where}"):
        hold(path)
    kill_one(process)
    holder(path).communicate(b"\n")


def kill_one(process):
    process.kill()
    process.communicate()


@pytest.mark.long
def test_a_second_run_in_the_same_folder_says_so(tmp_path):
    folder = copy_suite(tmp_path / "suite")
    first = start(folder, folder / "first.log")
    deadline = time.monotonic() + 60
    while not (folder / ".snakemake/smedit.lock").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    try:
        status, text = run(folder)
        assert status == 1
        assert f"another run is at work in {folder} (process {first.pid} on " in text
        assert "wait until it has ended, or end it" in text
        assert "Traceback" not in text
        assert first.poll() is None
    finally:
        kill(first)
