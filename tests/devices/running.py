# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real QEMU with the devices of a document, paused before its first instruction.

It is started from the command line that bpferry builds, with everything that bpferry opens for it.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bpferry.domain.document import read_bytes
from bpferry.machine.card_fds import Helpers
from bpferry.machine.companions import Running as Beside
from bpferry.machine.draft import Draft, draft
from bpferry.machine.hindrances import find_all
from bpferry.machine.host_files import HOST, HostFiles
from bpferry.machine.preparation import prepare
from bpferry.machine.secrets import NO_SECRETS, SecretFiles
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.qemu.monitor import Monitor, open_monitor
from bpferry.qemu.process import Child, start_child
from tests.client.support import Record

DOMAIN = """\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  {top}
  <devices>
    {devices}
  </devices>
</domain>
"""


def domain(devices: str, *, machine: str = "q35", top: str = "", name: str = "devices") -> str:
    """Return a whole document around the XML of *devices*; *top* is beside them."""
    return DOMAIN.format(devices=devices, machine=machine, top=top, name=name)


@dataclass(frozen=True, slots=True)
class Running:
    """A QEMU that runs, its guest paused."""

    loop: asyncio.Runner
    monitor: Monitor
    draft: Draft
    child: Child
    companions: tuple[Beside, ...]

    def execute(self, command: str, **arguments: object) -> object:
        """Return QEMU's answer; underscores in the names of *arguments* are hyphens."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.loop.run(self.monitor.execute(command, named or None))

    def qom_type(self, device_id: str) -> str:
        """Return the type of the device *device_id*, as QEMU has made it."""
        return str(self.property_of(device_id, "type"))

    def property_of(self, device_id: str, name: str) -> object:
        """Return the property *name* of the device *device_id*."""
        return self.execute("qom-get", path=f"/machine/peripheral/{device_id}", property=name)


@contextlib.contextmanager
def running(
    text: str, folder: Path, secrets: SecretFiles = NO_SECRETS, files: HostFiles = HOST
) -> Iterator[Running]:
    """Start the VM of the document *text*, paused; relative paths in it begin at *folder*.

    The files of *secrets* hold its passwords and keys; *files* tell of the host's devices.
    Nothing is behind a bridge or a helper here: cards have to be of a type without one.
    """
    suffix = "xml" if text.lstrip().startswith("<") else "toml"
    document = read_bytes(text.encode(), folder / f"vm.{suffix}")
    reporter = Record()
    found = draft(document, reporter, secrets=secrets, files=files)
    # As `bpferry run` does, which is told by a verdict.
    for error in find_all(found):
        raise error
    nowhere = str(folder / "no-helper")
    helpers = Helpers(BpfHelper(nowhere), TapHelper(nowhere))
    with (
        prepare(found, helpers, reporter) as prepared,
        start_child(
            (*prepared.argv, "-S"),
            prepared.pass_fds,
            streams=None if prepared.streams is None else prepared.streams.fileno(),
            environment=prepared.environment,
        ) as child,
        asyncio.Runner() as loop,
    ):
        prepared.inherited.close()
        opening = open_monitor("qemu", prepared.monitor)
        try:
            monitor = loop.run(opening.__aenter__())
        except BaseException as error:
            child.wait(2.0)
            raise AssertionError(f"QEMU did not start: {child.tail()}") from error
        try:
            yield Running(loop, monitor, found, child, prepared.companions)
        finally:
            loop.run(opening.__aexit__(None, None, None))
