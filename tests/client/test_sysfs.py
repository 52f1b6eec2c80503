# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many queues of a tap are switched on, in a network of the test's own."""

import os
import sys
from typing import Final

import pytest

from guest.netns import bridged

pytestmark = [pytest.mark.privileged]

SCRIPT: Final = """
from bpferry.network.sysfs import count_queues, find_folder
from tests.support.tuns import IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE, open_queue, set_queue

queues = [open_queue("tap0") for _ in range(4)]
print(count_queues("tap0"))
for queue in queues[1:]:
    assert not set_queue(queue, IFF_DETACH_QUEUE)
    print(count_queues("tap0"))
assert not set_queue(queues[1], IFF_ATTACH_QUEUE)
print(*map(count_queues, ("tap0", "br0", "none", "x" * 99, "")))
print(find_folder("br0"))
"""


def test_a_queue_that_is_detached_is_switched_off() -> None:
    """QEMU detaches those that a guest does not use; of what is no tap, nothing is known."""
    path = os.pathsep.join(sys.path)
    with bridged("br0", [], 1500) as space:
        said = space.run(["env", f"PYTHONPATH={path}", sys.executable, "-Bc", SCRIPT]).split()

    assert ["4", "3", "2", "1", "2", *["None"] * 4, "/sys/class/net/br0"] == said


def test_a_namesake_in_another_network_is_not_counted() -> None:
    """Where sysfs is that of the host, an interface of that name there is another one."""
    script = "from bpferry.network.sysfs import *; print(find_folder('lo'), find_folder('eth0'))"
    path = os.pathsep.join(sys.path)
    with bridged("br0", [], 1500) as space:
        space.run(["ip", "link", "add", "eth0", "index", "9999", "type", "bridge"])
        space.run(["umount", "/sys"])
        said = space.run(["env", f"PYTHONPATH={path}", sys.executable, "-Bc", script]).split()

    assert ["/sys/class/net/lo"] == said
