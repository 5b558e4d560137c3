"""One cluster for all tests of this folder, gone when they end, however they end."""

import os
import signal
import subprocess
import sys

import pytest
from cluster import Cluster, ClusterError
from runs import ROOT, kill
from slurm_runs import environment_of, small_suite

# `kill` ends pytest like Ctrl-C, so that the cluster is taken down.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    except ClusterError as error:
        pytest.exit(str(error), returncode=1)
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """A run without SLURM, while the other one waits for SLURM: its process and its results."""
    suite = small_suite(tmp_path_factory.mktemp("local"))
    # Models that `make test` has made need not be made again beside the other run.
    models = ROOT / "resources"
    models.mkdir(exist_ok=True)
    (suite / "resources").symlink_to(models)
    log = suite / "run.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "all", "smoke"],
            cwd=suite,
            env=environment_of(suite, os.environ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    yield process, log, suite / "smoke/results"
    if process.poll() is None:
        kill(process)
