# SPDX-License-Identifier: LGPL-2.1-or-later
"""CIDs that the kernel gives, on a host that has vhost-vsock."""

import json
import re
from typing import Final

import pytest

from tests.vm.host import IN_THE_HOST, Host

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

NAMES: Final = ("first", "second")

DOCUMENT: Final = """\
<domain type='qemu'>
  <name>{}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><vsock><cid auto='yes'/></vsock><memballoon model='none'/></devices>
</domain>
"""

BOTH: Final = """\
for name in first second; do
    bpferry run /srv/$name.xml >/tmp/$name.log 2>&1 &
    for _ in $(seq 1800); do
        grep -q 'vsock: CID' /tmp/$name.log && break
        sleep 0.1
    done
done
sleep 3
kill -s KILL $(jobs -p)
cat /tmp/first.log /tmp/second.log
"""
"""A script of sh(1) that runs both VMs at the same time, and shows what was said of them."""


@pytest.fixture(scope="module")
def vsock_host(host: Host) -> Host:
    """Return the host with the module loaded, and the documents in it."""
    host.check("modprobe", "vhost_vsock")
    host.check("udevadm", "settle")
    for name in NAMES:
        host.write(f"/srv/{name}.xml", DOCUMENT.format(name))
    return host


def test_dry_run_has_a_name_for_the_cid(vsock_host: Host) -> None:
    """Which number it will be is not known before; nothing is asked of the kernel."""
    done = vsock_host.run("bpferry", "run", "--dry-run=json", "/srv/first.xml", user="alice")
    argv = json.loads(done.output)["argv"]
    (device,) = (json.loads(word) for word in argv if '"vhost-vsock-pci"' in word)

    assert ("vsock0.cid", "vsock0.vhost") == (device["guest-cid"], device["vhostfd"])


def test_two_vms_have_two_cids(vsock_host: Host) -> None:
    """Each gets the lowest that is free, its user is told, and QEMU takes it."""
    said = vsock_host.check("sh", "-c", BOTH, user="alice", timeout=400)

    assert ["3", "4"] == re.findall("vsock: CID ([0-9]+)", said)
    assert "error" not in said
