"""One cluster for all tests of this folder, gone when they end, however they end."""

import signal

import pytest
from cluster import Cluster, ClusterError

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
