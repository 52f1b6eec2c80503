# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real libvirt session of an ordinary user, with bpferry-qemu-system-x86_64 as its emulator."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from guest.build import CACHE, build_guest
from guest.command import GuestError
from launchers.host import LauncherHost, launcher_host
from launchers.libvirt import copy_bridge_helper
from launchers.virsh import PROGRAMS
from steering_demo.stations import FIRST
from tests import requires
from tests.launchers.pages import blocks
from tests.launchers.session import PATIENCE_S, Session, session
from tests.launchers.steered import STARTS_A_GUEST, Launched, check_every_flow
from tests.support.census import wait_until

PAGE: Final = "libvirt.md"
EMULATOR, BRIDGED, NAMED = blocks(PAGE, "xml")
OURS, SETUID = blocks(PAGE, "sh")

NAME: Final = FIRST.name

BARE_QEMU: Final = "/usr/bin/qemu-system-x86_64"
OUR_QEMU: Final = "/usr/local/bin/bpferry-qemu-system-x86_64"

NOT_LOADED: Final = "load of migration failed"
"""What libvirt tells of QEMU, which finds a card's state that does not fit its features."""

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


def test_what_the_page_says_to_look_at(host: LauncherHost) -> None:
    """A card that is plugged in has one queue; a saved domain needs its emulator; VMs go on.

    All of it in one session: libvirt takes longest to ask both emulators what they can do.
    """
    host.run("sh", "-c", OURS)
    with session(host) as libvirt:
        _start(libvirt, BARE_QEMU)
        _check_saved(libvirt, BARE_QEMU, OUR_QEMU)
        libvirt.virsh("destroy", NAME)
        libvirt.virsh("undefine", NAME)
        _start(libvirt, OUR_QEMU)
        _check_saved(libvirt, OUR_QEMU, BARE_QEMU)
        _check_plugged(libvirt)
        _check_end_of_libvirt(libvirt)


def _start(libvirt: Session, emulator: str) -> None:
    element = EMULATOR.replace(OUR_QEMU, emulator)
    libvirt.define(build_guest(CACHE, print), FIRST, element, BRIDGED)
    libvirt.virsh("start", NAME)


def _check_saved(libvirt: Session, own: str, other: str) -> None:
    """Save the domain; the *other* emulator cannot restore it, and its *own* one can."""
    file = str(libvirt.host.place.home / "saved")
    libvirt.virsh("save", NAME, file)
    document = libvirt.virsh("save-image-dumpxml", file)
    changed = libvirt.host.put("other.xml", document.replace(f">{own}<", f">{other}<"))
    with pytest.raises(GuestError, match=NOT_LOADED):
        libvirt.virsh("restore", file, "--xml", str(changed))
    assert "shut off" == libvirt.virsh("domstate", NAME)
    libvirt.virsh("restore", file)
    assert "running" == libvirt.virsh("domstate", NAME)


def _check_plugged(libvirt: Session) -> None:
    """Plug a card in, beside the one that the domain was started with."""
    libvirt.virsh("attach-interface", NAME, "bridge", "br0", "--model", "virtio")
    shown = libvirt.virsh("qemu-monitor-command", NAME, "--hmp", "info network")

    assert 4 == len(re.findall(r"hostnet0: .*type=tap", shown)), shown
    assert 1 == len(re.findall(r"hostnet1: .*type=tap", shown)), shown


def _check_end_of_libvirt(libvirt: Session) -> None:
    """End the daemon; the next one finds the domain, with the same QEMU."""
    host = libvirt.host
    daemon, qemu = host.pid_of("libvirtd"), host.qemu_pid()
    os.kill(daemon, signal.SIGTERM)
    assert wait_until(lambda: not Path(f"/proc/{daemon}").exists(), PATIENCE_S)

    assert qemu == host.qemu_pid()
    assert wait_until((host.place.home / "run/libvirt/libvirt-sock").exists, PATIENCE_S)
    assert "running" == libvirt.virsh("domstate", NAME)
    assert qemu == host.qemu_pid()
