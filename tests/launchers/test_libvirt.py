# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real libvirt session of an ordinary user, with bpferry-qemu-system-x86_64 as its emulator."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from guest.build import CACHE, build_guest
from launchers.host import LauncherHost, launcher_host
from launchers.libvirt import copy_bridge_helper
from launchers.virsh import PROGRAMS
from steering_demo.stations import FIRST
from tests import requires
from tests.launchers.pages import blocks
from tests.launchers.session import Session, session
from tests.launchers.steered import STARTS_A_GUEST, Launched, check_every_flow

PAGE: Final = "libvirt.md"
EMULATOR, BRIDGED, NAMED = blocks(PAGE, "xml")
OURS, SETUID = blocks(PAGE, "sh")

NAME: Final = FIRST.name

DISK: Final = """\
<disk type='file'>
  <driver name='qemu' type='raw'/>
  <source file='{path}'/>
  <target dev='vdb' bus='virtio'/>
</disk>
"""

pytestmark = [*STARTS_A_GUEST]


@pytest.fixture
def host() -> Iterator[LauncherHost]:
    """Return a host with libvirt on it."""
    for program in PROGRAMS:
        requires.program(program)
    with launcher_host() as made:
        yield made


@pytest.fixture(params=["ours", "setuid"])
def _bridge_helper(request: pytest.FixtureRequest, host: LauncherHost) -> None:
    """Do what the page says, as the user or as the administrator."""
    if request.param == "ours":
        host.run("sh", "-c", OURS)
    else:
        copy_bridge_helper(host)
        host.space.run(["sh", "-c", SETUID])


@pytest.fixture
def libvirt(host: LauncherHost) -> Iterator[Session]:
    """Return the user's libvirt."""
    with session(host) as made:
        yield made


@pytest.mark.usefixtures("_bridge_helper")
def test_a_domain_on_a_bridge_is_steered_and_lives_as_before(
    host: LauncherHost, libvirt: Session
) -> None:
    """Defined, started, spoken to, given a disk, and shut down; each flow comes in as predicted."""
    libvirt.define(build_guest(CACHE, print), FIRST, EMULATOR, BRIDGED)
    libvirt.virsh("start", NAME)
    with libvirt.console(NAME) as console:
        check_every_flow(host, Launched(console, host.qemu_pid()))
        disk = host.put("disk.img", "\0" * 4096)
        libvirt.virsh("attach-device", NAME, str(host.put("d.xml", DISK.format(path=disk))))
        assert str(disk) in libvirt.virsh("domblklist", NAME)
        assert "index=3,type=tap" in libvirt.virsh(
            "qemu-monitor-command", NAME, "--hmp", "info network"
        )
        libvirt.virsh("shutdown", NAME)
        libvirt.wait_for_end(NAME)

    assert "4 queues, in place of '-netdev" in libvirt.log(NAME)
    assert "steering by eBPF" in libvirt.log(NAME)


def test_a_tap_that_stays_has_its_queues_and_is_steered(
    host: LauncherHost, libvirt: Session
) -> None:
    """The one that bpferry made, with the element that it printed: which is the page's."""
    printed = host.run("bpferry", "tap", "create", "br0", "--queues", "4")
    [element] = re.findall(r"<interface.*?</interface>", printed, re.DOTALL)
    [tap] = re.findall(r"bfp[0-9a-f]{12}", element)
    libvirt.define(build_guest(CACHE, print), FIRST, EMULATOR, element)
    libvirt.virsh("start", NAME)
    with libvirt.console(NAME) as console:
        check_every_flow(host, Launched(console, host.qemu_pid()))
    shown = libvirt.virsh("domiflist", NAME)
    libvirt.virsh("destroy", NAME)
    host.run("bpferry", "tap", "delete", tap)

    assert tap in shown
    assert NAMED.split() == element.replace(tap, "bfp0a1b2c3d4e5f").split()
    assert "in place of" not in libvirt.log(NAME)
