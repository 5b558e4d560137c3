"""A SLURM cluster of one node, from nothing, in a folder of its own.

It shares nothing with a cluster that the machine may belong to: its own munge key and socket, its
own ports, and a slurm.conf that clients find through the variable `SLURM_CONF`.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time

DAEMONS = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd"}
"""Each daemon and the Debian package that has it."""

GPUS = 2
"""SLURM counts them, but no job could use one: their device files are not real."""

SLURM_CONF = """\
ClusterName=smedit
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
# One CPU more than there are, for a job that only sleeps.
SlurmdParameters=config_overrides
# Cores and memory are given out, and who takes more memory than he asked for is killed.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
KillWait=2
# No accounting: finished jobs are remembered by the controller alone.
AccountingStorageType=accounting_storage/none
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class ClusterError(Exception):
    """There can be no cluster here; the message says why."""


class Cluster:
    """The daemons, and how to talk to them.

    Attributes
    ----------
    environment : dict of str to str
        What a process needs to use this cluster.
    """

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
        }
        self._daemons = {}

    def start(self):
        """Start all daemons and wait until the node takes jobs."""
        install_missing()
        self._configure()
        conf = self.folder / "slurm.conf"
        self._run(
            *("munged", "--foreground", "--force"),
            *(f"--key-file={self.folder}/munge.key", f"--socket={self.folder}/munge.socket"),
            *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log"),
            f"--seed-file={self.folder}/munged.seed",
        )
        self._wait("munged", lambda: (self.folder / "munge.socket").is_socket())
        self._run("slurmctld", "-D", "-f", conf)
        self._run("slurmd", "-D", "-f", conf)
        self._wait("slurmd", lambda: self._answer("sinfo", "-h", "-o", "%T") == "idle")

    def stop(self):
        """Cancel all jobs, end the daemons that this object started, and remove the folder."""
        if "slurmd" in self._daemons:
            self._cancel()
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder)

    def jobs(self):
        """Every job so far, as `scontrol show job` describes it: one dictionary per job."""
        lines = self._answer("scontrol", "show", "job", "--oneliner").splitlines()
        return [
            dict(field.split("=", 1) for field in line.split(" ") if "=" in field)
            for line in lines
            if line.startswith("JobId=")
        ]

    def queue(self):
        """Name and state of every job that waits, runs or is just being ended."""
        lines = self._answer("squeue", "-h", "-o", "%j %T").splitlines()
        return [tuple(line.split()) for line in lines]

    def _cancel(self):
        """Cancel all jobs and wait until their processes are gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._answer("scancel", "--user=root")
            deadline = time.monotonic() + 30
            while self.queue() and time.monotonic() < deadline:
                time.sleep(0.5)

    def _configure(self):
        self.folder.chmod(0o755)  # munged refuses a folder that others may write to
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        ports = free_ports(2)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        (self.folder / "slurm.conf").write_text(
            SLURM_CONF.format(
                host=socket.gethostname().split(".")[0],
                folder=self.folder,
                controller_port=ports[0],
                node_port=ports[1],
                cpus=os.cpu_count() + 1,
                memory_mb=int(0.9 * memory / 2**20),
                gpus=GPUS,
            )
        )
        # Snakemake's plugin drops SLURM_CONF from what a job step inherits.
        srun = self.folder / "bin/srun"
        srun.parent.mkdir()
        srun.write_text(
            f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
        )
        srun.chmod(0o755)
        (self.folder / "gres.conf").write_text(
            f"Name=gpu Count={GPUS} File=/dev/tty[0-{GPUS - 1}]\n"
        )

    def _run(self, *command):
        """Start a daemon, out of reach of a Ctrl-C that is meant for the tests."""
        name = command[0]
        with (self.folder / f"{name}.out").open("wb") as out:
            self._daemons[name] = subprocess.Popen(
                command, stdout=out, stderr=out, env=self.environment, start_new_session=True
            )

    def _wait(self, name, ready):
        deadline = time.monotonic() + 30
        while not ready():
            ended = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = (
                    self.folder / f"{n}.{end}" for n in ended or [name] for end in ("out", "log")
                )
                text = "\n".join(f"{p}:\n{p.read_text()[-2000:]}" for p in logs if p.exists())
                raise ClusterError(f"{', '.join(ended or [name])} did not start\n{text}")
            time.sleep(0.2)

    def _answer(self, *command):
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=20
        )
        return done.stdout.strip()


def install_missing():
    """Install SLURM and munge from Debian's packages, or say in one line why that cannot be."""
    if os.getuid() != 0:
        raise ClusterError("the SLURM test needs root: slurmd runs as no other user")
    missing = [package for daemon, package in DAEMONS.items() if not shutil.which(daemon)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(f"the SLURM test needs {', '.join(missing)}, and there is no apt-get")
    for command in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
        done = subprocess.run(
            ["apt-get", "-qq", *command],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ClusterError(f"apt-get could not install slurm-wlm and munge: {reason}")


def free_ports(n):
    """Ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
