# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real quickemu, with the QEMU and the two settings of docs/with/quickemu.md."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from guest.build import CACHE, build_guest
from guest.command import GuestError
from guest.console import Console
from launchers.host import LauncherHost, launcher_host
from tests.launchers.pages import blocks
from tests.launchers.programs import launchers
from tests.launchers.steered import STARTS_A_GUEST, Launched, check_every_flow
from tests.support.census import wait_until

pytestmark = [*STARTS_A_GUEST]

PAGE: Final = "quickemu.md"
PREPARE, START = blocks(PAGE, "sh")
[SETTINGS] = blocks(PAGE, "ini")

CONFIGURATION: Final = f"""\
guest_os="linux"
disk_img="web/disk.qcow2"
iso="web/boot.iso"
boot="legacy"
cpu_cores="4"
ram="1G"
{SETTINGS}"""

OF_QEMU: Final = """\
set -e
mkdir -p "$1/net" "$1/dmi/id"
echo QEMU >"$1/dmi/id/sys_vendor"
mount --bind /sys/class/net "$1/net"
mount --rbind "$1" /sys/class
"""
"""quickemu takes KVM, or ends, unless the firmware says that its host is a VM of QEMU's."""

START_S: Final = 20.0
"""How long bpferry may take until it is QEMU: quickemu does not wait for that."""


@contextmanager
def _quickemu(host: LauncherHost) -> Iterator[Launched]:
    """Start the VM as the page says, and end the QEMU that quickemu leaves running."""
    guest = build_guest(CACHE, print)
    host.space.run(["sh", "-c", OF_QEMU, "sh", str(host.place.folder / "class")])
    host.put("web.conf", CONFIGURATION)
    host.run("mkdir", "web")
    host.put("web/boot.iso", "\0" * 65536)
    host.run("qemu-img", "create", "-q", "-f", "qcow2", "web/disk.qcow2", "64M")
    host.run("sh", "-c", PREPARE)
    more = f"--extra_args '-kernel {guest.kernel} -initrd {guest.initrd} -append console=ttyS0'"
    found = f"PATH={launchers()}/usr/bin:$PATH; "
    said = host.run("sh", "-c", f"{found}{START.rstrip()} --viewer none {more}")
    [pid] = map(int, re.findall(r"Started web\.conf as web \((\d+)\)", said))
    log = host.place.home / "web/web.log"
    try:
        with socket.socket(socket.AF_UNIX) as serial:
            path = str(host.place.home / "web/web-serial.socket")
            assert wait_until(lambda: serial.connect_ex(path) == 0, START_S), log.read_text()
            yield Launched(Console(serial, serial), pid)
    except GuestError as error:
        error.add_note(log.read_text(errors="replace"))
        raise
    finally:
        os.kill(pid, signal.SIGTERM)
        # Its parent has ended, so it is ours: see nothing_left.
        os.waitpid(pid, 0)


def test_a_vm_of_quickemu_is_steered() -> None:
    """Its card has four queues, and each flow comes in as predicted."""
    with launcher_host() as host, _quickemu(host) as machine:
        check_every_flow(host, machine)
        assert machine.pid == host.qemu_pid()
        log = (host.place.home / "web/web.log").read_text(encoding="utf-8")

    assert "4 queues, in place of '-nic bridge,br=br0,model=virtio-net-pci,mac=" in log
