"""One loaded process per run, from which the jobs' processes are forked.

Importing PyTorch and transformers takes seconds of CPU time, a run has hundreds of jobs, and most
of them are short. So a run on one machine has a *server* that imports them once. A job stays what
it was: one command, one process, one log. The command that the workflow calls, the *client*, hands
its arguments, environment, working directory and open files to the server and waits; the command
itself runs in a *worker*, forked from the server::

    Snakemake ── shell ── client (smedit job run)
        └─ server ── keeper ── worker (runs the command)

The *keeper*, one per job, passes the client's signals on to the worker and the worker's exit status
back. It kills the worker if the client or Snakemake is gone. What client and keeper say to each
other is JSON, on a socket that only processes of the same user may use.

The server runs no command itself, so every worker starts from the same state: libraries imported,
nothing computed. A job whose environment is not the server's is refused, because a library may have
read a variable when it was imported. A refused job, or one that finds no server, runs in its own
process and says so.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SERVER = "SMEDIT_WARM_START"
"""The environment variable that names a run's server to its jobs."""

THREADS = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What Snakemake sets to a job's number of threads. Libraries read it when they are imported."""

PER_JOB = {
    *("TMPDIR", "TMP", "TEMP", "TEMPDIR", "PWD", "OLDPWD", "SHLVL", "_"),
    *("PS1", "PS2", "PS4", "OPTIND"),  # an activated virtual environment exports PS1
    "CUDA_VISIBLE_DEVICES",  # a job that asks for GPUs has its own; this server uses none
    SERVER,
}
"""Variables that Snakemake or a job's shell sets or removes; none changes a number."""

LARGEST = 2**20
"""Bytes of the longest message; the system sends no longer one as a whole."""

log = logging.getLogger("smedit")


# --- Snakemake's side -----------------------------------------------------------------------------


def start(threads: int) -> None:
    """Start a server for the jobs that this process will start.

    The server ends when this process does, however that happens: the server reads from a pipe whose
    other end is open here and nowhere else.

    Parameters
    ----------
    threads : int
        Threads per job.
    """
    name = f"smedit-{os.urandom(16).hex()}"
    from_here, _held_open = os.pipe()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            # It listens before any job can ask. The address is no file: none is ever left behind.
            listener.bind(_address(name))
            listener.listen()
            subprocess.Popen(
                ["smedit", "job", "warm-start", "--listener", str(listener.fileno())],
                stdin=from_here,
                pass_fds=[listener.fileno()],
                env=os.environ | dict.fromkeys(THREADS, str(threads)),
                start_new_session=True,  # Ctrl-C is for the jobs
            )
    except OSError as error:
        log.warning("no warm start (%s): every job loads its libraries itself", error)
    else:
        os.environ[SERVER] = name
    finally:
        os.close(from_here)


# --- the job's side -------------------------------------------------------------------------------


def forward(arguments: Sequence[str]) -> int | None:
    """Have the server run a command, with this process's files, environment and signals.

    Parameters
    ----------
    arguments : sequence of str
        The command line, without the program's name.

    Returns
    -------
    int or None
        The command's exit status, 128 + n if signal n killed it; None if there is no server or it
        cannot be used, so that this process has to run the command itself.
    """
    name = os.environ.get(SERVER)
    if name is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        refusal = _ask(connection, name, arguments)
        if refusal:
            log.warning("no warm start (%s): loading the libraries here", refusal)
            return None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, _: _send(connection, {"signal": n}))
        status = _receive(connection).get("status", -signal.SIGKILL)
    if status < 0:
        print(f"error: killed by signal {-status}: {signal.strsignal(-status)}", file=sys.stderr)
    return status if status >= 0 else 128 - status


def _ask(connection: socket.socket, name: str, arguments: Sequence[str]) -> str:
    """Send the command to the server: empty once it runs, else why the server does not run it."""
    try:
        request = {
            "arguments": list(arguments),
            "folder": str(Path.cwd()),
            "python": sys.executable,
            "environment": {key: value for key, value in os.environ.items() if key != SERVER},
        }
        connection.connect(_address(name))
        if _user(connection) != os.getuid():
            return "the server is another user's"
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
    except OSError as error:
        return f"the server cannot be reached: {error}"
    return _receive(connection).get("refused", "the server has ended")


# --- the server's side ----------------------------------------------------------------------------


def serve(
    listener: socket.socket, preload: Sequence[str], run: Callable[[Sequence[str]], int]
) -> None:
    """Run each command that comes in a process of its own, until standard input ends.

    Parameters
    ----------
    listener : socket.socket
        Where jobs connect. It listens already.
    preload : sequence of str
        Modules to import once the first job asks. What they set up must survive a fork: no use of a
        GPU, and no threads but those whose library starts them again (OpenBLAS, pyarrow's memory).
    run : callable
        Takes the command line, runs it and returns the exit status.
    """
    environment = dict(os.environ)  # before a library adds to it
    if _job_waits(listener):
        for module in preload:
            importlib.import_module(module)
        gc.freeze()  # a worker's garbage collector leaves these pages alone, so they stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers that ended vanish, as nobody waits
    while _job_waits(listener):
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                listener.close()
                _end_with(_keep, connection, environment, run)


def _job_waits(listener: socket.socket) -> bool:
    """Wait until a job connects, or until standard input ends."""
    return 0 not in select.select([0, listener], [], [])[0]


def _keep(
    connection: socket.socket,
    environment: Mapping[str, str],
    run: Callable[[Sequence[str]], int],
) -> int:
    """Start one job's worker, pass signals on to it and its status back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, files, _, _ = socket.recv_fds(connection, LARGEST, 3)
    if not message or _user(connection) != os.getuid():
        return 1
    request = json.loads(message)
    refusal = _refusal(request, environment)
    if refusal:
        _send(connection, {"refused": refusal})
        return 0
    ended, held_by_worker = os.pipe()
    worker = os.fork()
    if worker == 0:
        connection.close()
        os.close(ended)
        _end_with(_work, request, files, run)
    for file in (held_by_worker, *files):
        os.close(file)
    _send(connection, {"refused": ""})
    watched = [ended, connection, 0]
    while ended not in (ready := select.select(watched, [], [])[0]):
        order = {} if 0 in ready else _receive(connection)
        os.kill(worker, order.get("signal", signal.SIGKILL))
        if not order:  # the client or Snakemake is gone
            watched = [ended]
    _, status = os.waitpid(worker, 0)
    _send(connection, {"status": os.waitstatus_to_exitcode(status)})
    return 0


def _refusal(request: Mapping[str, Any], ours: Mapping[str, str]) -> str:
    """Why a worker would differ from a process that the job started itself; empty if it would not.

    The worker takes over the variables of `PER_JOB`; all others must be the server's.
    """
    if request["python"] != sys.executable:
        return f"the server runs {sys.executable}, this job {request['python']}"
    theirs = request["environment"]
    changed = {key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)} - PER_JOB
    return f"the server has another value of {', '.join(sorted(changed))}" if changed else ""


def _work(
    request: Mapping[str, Any], files: Sequence[int], run: Callable[[Sequence[str]], int]
) -> int:
    """Run the command as the client would have."""
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    for key in PER_JOB:
        os.environ.pop(key, None)
        if key in request["environment"]:
            os.environ[key] = request["environment"][key]
    tempfile.tempdir = None  # the server's may be another
    os.chdir(request["folder"])
    sys.argv[1:] = request["arguments"]
    return run(request["arguments"])


def _end_with(function: Callable[..., int], *arguments: Any) -> NoReturn:
    """Call a function in a forked process and end it there: no cleanup that is the server's."""
    status = 1
    try:
        status = function(*arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _address(name: str) -> str:
    """A socket address in Linux's abstract namespace: it vanishes with its last process."""
    return f"\0{name}"


def _user(connection: socket.socket) -> int:
    """The user who owns the process at the other end."""
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _pid, user, _group = struct.unpack("3i", credentials)
    return user


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Send a message; that the other end is gone shows when reading from it."""
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode())


def _receive(connection: socket.socket) -> dict[str, Any]:
    """The next message; empty if the other end is gone."""
    try:
        return json.loads(connection.recv(LARGEST) or "{}")
    except ConnectionResetError:
        return {}
