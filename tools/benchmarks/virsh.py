# SPDX-License-Identifier: LGPL-2.1-or-later
"""``virsh start`` in session mode, of one document with two emulators: QEMU, and bpferry as QEMU.

libvirt has qemu-bridge-helper make the tap for both. For the document with bpferry it is replaced
by one with four queues, and an eBPF set comes with it.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.command import BenchError
from benchmarks.domains import end_domain
from guest.command import run
from launchers.host import LauncherHost
from launchers.libvirt import copy_bridge_helper, daemons
from launchers.virsh import VIRSH, is_installed
from steering_demo.workplace import BRIDGE

EMULATORS: Final = {
    "virsh": "/usr/local/bin/bpferry-qemu-system-x86_64",
    "virsh_bare": "/usr/bin/qemu-system-x86_64",
}

DOCUMENT: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>4</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <interface type='bridge'><source bridge='{bridge}'/><model type='virtio'/></interface>
  </devices>
</domain>
"""

USABLE: Final = """\
chmod u+s /usr/lib/qemu/qemu-bridge-helper
mkdir -p /etc/qemu
echo "allow $1" >/etc/qemu/bridge.conf
"""


@contextmanager
def defined(host: LauncherHost) -> Iterator[tuple[str, ...]]:
    """Define a domain for each emulator; yield their names, or none if libvirt is not here."""
    if not is_installed():
        yield ()
        return
    # As tools/install does: the user could not keep what Python compiles.
    trees = [str(host.place.folder / tree) for tree in ("client", "shared")]
    run([sys.executable, "-m", "compileall", "-q", *trees])
    copy_bridge_helper(host)
    host.space.run(["sh", "-c", USABLE, "sh", BRIDGE])
    with daemons(host):
        for name, emulator in EMULATORS.items():
            text = DOCUMENT.format(name=name, emulator=emulator, bridge=BRIDGE)
            host.run(*VIRSH, "define", str(host.put(f"{name}.xml", text)))
            # Once for what libvirt asks each QEMU.
            start(host, name)
        yield tuple(EMULATORS)


def start(host: LauncherHost, name: str) -> int:
    """Start the domain and end it; return how many ns the start took.

    Raises:
        BenchError: it did not start.
    """
    before = time.perf_counter_ns()
    done = subprocess.run(
        host.words([*VIRSH, "start", name]), capture_output=True, text=True, check=False
    )
    taken = time.perf_counter_ns() - before
    if done.returncode != 0:
        raise BenchError(f"libvirt did not start '{name}': {done.stderr}")
    end_domain(host.words(VIRSH), name)
    return taken
