# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's session mode, with a domain of our guest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from guest.build import KERNEL_ARGUMENTS, Guest
from guest.console import Console
from launchers.host import LauncherHost
from launchers.libvirt import daemons
from launchers.virsh import VIRSH
from steering_demo.stations import Station
from steering_demo.vm import MEMORY_MIB
from tests.launchers.terminal import on_terminal
from tests.support.census import wait_until

PATIENCE_S: Final = 60.0

DOMAIN: Final = f"""\
<domain type='qemu'>
  <name>{{station.name}}</name>
  <memory unit='MiB'>{{memory}}</memory>
  <vcpu>{{station.queues}}</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{{guest.kernel}}</kernel>
    <initrd>{{guest.initrd}}</initrd>
    <cmdline>{KERNEL_ARGUMENTS}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    {{emulator}}
    {{interface}}
    <serial type='pty'/>
  </devices>
</domain>
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One user's libvirt. Borrows the host."""

    host: LauncherHost

    def virsh(self, *words: str) -> str:
        """Return what virsh printed; its failure fails the test."""
        return self.host.run(*VIRSH, *words).strip()

    def define(self, guest: Guest, station: Station, emulator: str, interface: str) -> None:
        """Define the domain of *station* with two elements as they stand in a document."""
        text = DOMAIN.format(
            station=station, guest=guest, memory=MEMORY_MIB, emulator=emulator, interface=interface
        )
        self.virsh("define", str(self.host.put(f"{station.name}.xml", text)))

    @contextmanager
    def console(self, name: str) -> Iterator[Console]:
        """Yield the domain's console: ``virsh console``, on a terminal."""
        argv = self.host.words([*VIRSH, "console", name])
        with on_terminal(argv) as terminal:
            yield Console(terminal, terminal)

    def log(self, name: str) -> str:
        """Return what the domain's QEMU, and bpferry before it, wrote to standard error."""
        path = self.host.place.home / f".cache/libvirt/qemu/log/{name}.log"
        return path.read_text(encoding="utf-8", errors="replace")

    def wait_for_end(self, name: str) -> None:
        """Wait until the domain is shut off."""
        assert wait_until(lambda: self.virsh("domstate", name) == "shut off", PATIENCE_S)


@contextmanager
def session(host: LauncherHost) -> Iterator[Session]:
    """Start the user's libvirt, and end it with all its domains."""
    with daemons(host):
        yield Session(host)
