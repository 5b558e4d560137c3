"""A job of the warm start is like one that runs alone, and nothing outlives its run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from smedit.cli import main
from smedit.hosting.warm_start import SERVER

# Stands for the command line: `warm-start` serves, all else is a job. It loads nothing heavy.
SMEDIT = f"""#!{sys.executable}
import os, signal, socket, sys, tempfile, time
from smedit.hosting.warm_start import forward, serve

calls = 0

def run(arguments):
    try:
        return command(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130

def command(arguments):
    global calls
    calls += 1
    print("session", os.getsid(0), "process", os.getpid(), flush=True)
    match arguments:
        case ["describe"]:
            print(calls, sys.argv[1:], os.getcwd(), tempfile.gettempdir(), sys.stdin.read())
            print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD))
            print({SERVER!r} in os.environ)
            print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"))
            print("session: open files", len(os.listdir("/proc/self/fd")))
        case ["fail"]:
            print("error: a bad value", file=sys.stderr)
            return 2
        case ["crash"]:
            print("not flushed", end="")
            raise RuntimeError("unforeseen")
        case ["die", number]:
            os.kill(os.getpid(), int(number))
        case ["wait"]:
            time.sleep(60)
    return 0

if sys.argv[1:3] == ["job", "warm-start"]:
    serve(socket.socket(fileno=int(sys.argv[4])), ["colorsys"], run)
else:
    status = forward(sys.argv[1:])
    sys.exit(run(sys.argv[1:]) if status is None else status)
"""

WORKFLOW = f"""
import os, sys
from smedit.hosting import warm_start

warm_start.start(1)
print(os.environ.get({SERVER!r}), flush=True)
sys.stdin.read()
"""

THREADS = dict.fromkeys(
    [f"{name}_NUM_THREADS" for name in ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")]
    + ["VECLIB_MAXIMUM_THREADS"],
    "1",
)


class Run:
    """A run of the workflow: a process that starts a server, and jobs with its environment."""

    def __init__(self, programs, **variables):
        self.folder = programs
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **variables}
        self.workflow = subprocess.Popen(
            [sys.executable, "-c", WORKFLOW],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.alone = environment | THREADS
        self.warm = self.alone | {SERVER: self.workflow.stdout.readline().strip()}
        (self.server,) = psutil.Process(self.workflow.pid).children()

    def job(self, *arguments, environment=None, **options):
        return subprocess.run(
            ["smedit", *arguments],
            env=environment or self.warm,
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )

    def waiting_job(self):
        """A job that is at work, and its worker."""
        pipe = subprocess.PIPE
        job = subprocess.Popen(
            ["smedit", "wait"], env=self.warm, stdout=pipe, stderr=pipe, text=True
        )
        worker = psutil.Process(int(job.stdout.readline().split()[-1]))
        assert eventually(lambda: catches(job.pid, signal.SIGTERM))
        return job, worker

    def end(self):
        self.workflow.kill()
        self.workflow.communicate()


@pytest.fixture
def run(tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "smedit").write_text(SMEDIT)
    (programs / "smedit").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.delenv(SERVER, raising=False)
    run = Run(programs)
    yield run
    run.end()


def gone(*processes):
    """Whether processes end within seconds; who adopts them may not have waited for them yet."""

    def ended(process):
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return eventually(lambda: all(ended(process) for process in processes))


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def catches(process, number):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def lines(text):
    """What a job wrote, but for the numbers of its processes."""
    return [line for line in text.splitlines() if not line.startswith("session")]


def test_a_job_is_as_if_alone(run, tmp_path):
    options = {"cwd": tmp_path, "input": "some input"}
    elsewhere = {"TMPDIR": str(tmp_path)}
    alone = run.job("describe", environment=run.alone | elsewhere, **options)
    for _ in range(2):  # the second shows that the first left nothing behind
        warm = run.job("describe", environment=run.warm | elsewhere, **options)
        assert warm.stdout.startswith(f"session {run.server.pid} ")
        assert (warm.returncode, warm.stderr) == (alone.returncode, alone.stderr) == (0, "")
        assert lines(warm.stdout) == lines(alone.stdout)
        assert "some input" in warm.stdout
        files = [int(job.stdout.split()[-1]) for job in (alone, warm)]
        assert files[1] == files[0] + 1  # what tells the keeper that the worker has ended


@pytest.mark.parametrize("command", ["fail", "crash"])
def test_a_failed_job_is_as_if_alone(run, command):
    alone, warm = run.job(command, environment=run.alone), run.job(command)
    assert warm.stdout.startswith(f"session {run.server.pid} ")
    assert warm.returncode == alone.returncode == {"fail": 2, "crash": 1}[command]
    assert lines(warm.stdout) == lines(alone.stdout)
    assert warm.stderr.splitlines()[-1] == alone.stderr.splitlines()[-1]


def test_the_command_line_hands_its_jobs_over(tmp_path, capsys, monkeypatch):
    job = {"model": "m", "model_folder": str(tmp_path), "precision": "float32", "device": "cpu"}
    settings = json.dumps(job | {"threads": 1, "edit_modules": []})
    out, before = str(tmp_path / "states.safetensors"), str(tmp_path / "before.json")
    arguments = ["job", "freeze", "--job", settings, "--out", out, "--before", before]
    monkeypatch.delenv(SERVER, raising=False)
    assert main(arguments) == 2
    (message,) = capsys.readouterr().err.splitlines()
    run = Run(Path(sys.executable).parent)
    try:
        warm = run.job(*arguments)
        assert eventually(lambda: not run.server.children())
        assert (warm.returncode, warm.stdout) == (2, "")
        assert warm.stderr.splitlines() == [message]
        assert any("libtorch" in file.path for file in run.server.memory_maps())
    finally:
        run.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_a_signal_killed(run, number):
    job = run.job("die", str(number.value))
    assert job.returncode == 128 + number
    assert f"error: killed by signal {number.value}: " in job.stderr


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "error: killed by signal 15")],
)
def test_a_signal_reaches_the_worker(run, number, status, message):
    job, worker = run.waiting_job()
    job.send_signal(number)
    _, errors = job.communicate(timeout=10)
    assert (job.returncode, errors.splitlines()[0][: len(message)]) == (status, message)
    assert gone(worker)
    assert run.server.is_running()


def test_a_killed_job_takes_its_worker_along(run):
    job, worker = run.waiting_job()
    keeper = worker.parent()
    job.kill()
    job.communicate()
    assert gone(worker, keeper)
    assert run.job("describe", input="").returncode == 0


@pytest.mark.parametrize("end", ["kill", "communicate"])
def test_nothing_outlives_the_workflow(run, end):
    job, worker = run.waiting_job()
    keeper = worker.parent()
    getattr(run.workflow, end)()
    assert gone(worker, keeper, run.server)
    _, errors = job.communicate(timeout=10)
    assert job.returncode == 137
    assert "Traceback" not in errors


def test_a_job_outlives_the_server(run):
    job, worker = run.waiting_job()
    run.server.kill()
    assert gone(run.server)
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=10)
    assert job.returncode == 130
    assert gone(worker)


def test_without_a_server_a_job_runs_by_itself(run):
    run.end()
    assert gone(run.server)
    job = run.job("fail")
    assert job.returncode == 2
    assert "no warm start (the server cannot be reached: " in job.stderr
    assert "error: a bad value" in job.stderr


def test_what_the_shell_of_a_job_takes_away_is_not_another_environment(run):
    prompting = Run(run.folder, PS1="(.venv) $ ", PS2="> ", PS4="++ ", OPTIND="3")
    try:
        shell = ["bash", "-c", "smedit describe"]
        job = subprocess.run(shell, env=prompting.warm, capture_output=True, text=True, timeout=60)
    finally:
        prompting.end()
    assert job.stdout.startswith(f"session {prompting.server.pid} ")
    assert "no warm start" not in job.stderr


def test_the_gpus_of_a_job_are_not_another_environment(run):
    own = run.warm | {"CUDA_VISIBLE_DEVICES": "1"}
    job = run.job("describe", environment=own, input="")
    assert "no warm start" not in job.stderr
    assert f"session {run.server.pid} " in job.stdout
    assert "GPUs 1\n" in job.stdout
    assert "GPUs None\n" in run.job("describe", input="").stdout  # the next worker's are its own


def test_in_another_environment_a_job_runs_by_itself(run):
    changed = run.warm | {"OMP_NUM_THREADS": "7", "TOKEN": "secret"}
    job = run.job("fail", environment=changed)
    assert job.returncode == 2
    reason = "the server has another value of OMP_NUM_THREADS, TOKEN"
    assert f"no warm start ({reason}): loading the libraries here" in job.stderr
    assert "secret" not in job.stderr


def test_a_workflow_that_cannot_start_a_server(tmp_path):
    workflow = subprocess.run(
        [sys.executable, "-c", WORKFLOW],
        env={key: value for key, value in os.environ.items() if key != SERVER}
        | {"PATH": str(tmp_path)},
        input="",
        capture_output=True,
        text=True,
    )
    assert workflow.returncode == 0
    assert workflow.stdout == "None\n"
    assert "no warm start" in workflow.stderr
