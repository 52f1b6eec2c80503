# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry exec on a host that has vhost: a line that says nothing about it has it.

The VMs run with KVM, and wait with their guest.
"""

import json
from typing import Final

import pytest

from tests.vm.documents import BINARIES, NEWER, OWN, QUEUES
from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.user import PATIENCE_S, learn

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

OBSERVER: Final = ("python3", "-B", f"{CLONE}/tests/vm/inside/launched.py")

LINE: Final = (
    "-M", "q35,accel=kvm", "-smp", str(QUEUES), "-m", "64", "-nodefaults", "-display", "none", "-S",
    "-netdev", "bridge,id=n0,br=br0",
    "-device",
)  # fmt: skip
CARD: Final = "virtio-net-pci,netdev=n0,mac=52:54:00:85:00:09"


@pytest.mark.parametrize(
    ("version", "asked", "vhosts", "said"),
    [
        (OWN, "", QUEUES, "n0: steering by eBPF"),
        (NEWER, "", QUEUES, "RSS is not asked for, so vhost stays"),
        (NEWER, ",rss=on", 0, "vhost is given up for RSS"),
    ],
)
def test_a_line_has_vhost_unless_it_asks_for_what_vhost_cannot(
    version: str, asked: str, vhosts: int, said: str, host: Host
) -> None:
    """One for each queue, from the user who started it."""
    learn(host, "alice", BINARIES[version])

    command = ("bpferry", "exec", "--", BINARIES[version], *LINE, CARD + asked)
    done = host.run(*OBSERVER, *command, user="alice", timeout=PATIENCE_S)

    assert 0 == done.status, done.errors
    files = json.loads(done.output)
    assert (QUEUES, vhosts) == (files["/dev/net/tun"], files.get("/dev/vhost-net", 0))
    assert said in done.errors
