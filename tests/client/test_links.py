# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rtnetlink says of bridges and their ports, in a network of the test's own."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from bpferry.network.learning import find_learning_limit
from bpferry.network.tap_bridge import find_bridge
from tests.support.learning import set_learning_limit
from tests.support.tap_process import in_network

pytestmark = [pytest.mark.privileged]

BEFORE_6_7 = tuple(int(one) for one in re.findall(r"\d+", os.uname().release)[:2]) < (6, 7)

SCRIPT = """
ip link add br0 type bridge
ip link add port0 type veth peer name far0
ip link set port0 master br0
echo ready
exec cat
"""


@pytest.fixture
def network() -> Iterator[int]:
    """Yield a process in a network with the bridge br0, which has the port port0."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-ec", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.terminate()


def test_a_port_is_one_of_its_bridge(network: int) -> None:
    """The other end, the bridge itself and what is not there are ports of none."""
    names = ("port0", "far0", "br0", "none", "x" * 99)

    assert ["br0", "", "", "", ""] == in_network(network, lambda: [*map(find_bridge, names)])


def test_the_kernel_tells_how_many_addresses_a_bridge_learns(network: int) -> None:
    """As many as it is told; any number at first, and of what is no bridge nothing is known."""

    def limits() -> list[int | None]:
        found = [find_learning_limit(name) for name in ("br0", "lo", "none", "x" * 99)]
        set_learning_limit("br0", 77)
        return [*found, find_learning_limit("br0")]

    expected = [None] * 5 if BEFORE_6_7 else [0, None, None, None, 77]
    assert expected == in_network(network, limits)
