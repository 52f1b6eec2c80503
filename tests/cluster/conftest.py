# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cluster for all tests: two nodes, in the long form three, or as many as BPFERRY_NODES says."""

import os
from collections.abc import Iterator

import pytest

from tests import requires
from tests.abuse.amounts import amount
from tests.cluster.jobs import END_S, PATIENCE_S, Cluster, bring_jobs, held
from tests.cluster.nodes import USER, booted_nodes
from tests.cluster.slurm import start_slurm
from tests.support.census import wait_until


@pytest.fixture(scope="session")
def booted_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster in which nothing runs."""
    for name in ("systemd-nspawn", "mmdebstrap", "nsenter"):
        requires.program(name)
    count = int(os.environ.get("BPFERRY_NODES", amount(2, 3)))
    with booted_nodes(count, tmp_path_factory.mktemp("cluster")) as nodes:
        for node in nodes:
            bring_jobs(node)
        start_slurm(nodes)
        yield Cluster(nodes)


@pytest.fixture
def cluster(booted_cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with nothing on its nodes; each test has to leave it like that."""
    yield booted_cluster
    if not wait_until(booted_cluster.is_idle, END_S, pause_s=0.5):
        left = {node.name: held(node) for node in booted_cluster.nodes if node.has_power}
        # The next test begins with nothing all the same.
        booted_cluster.controller.system.check("scancel", f"--user={USER}")
        wait_until(booted_cluster.is_idle, PATIENCE_S, pause_s=0.5)
        pytest.fail(f"still there after {END_S} s: {left}")
