# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Linux guest of alice's on br0 of a booted system, and datagrams to it and back."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest.build import CACHE, KERNEL_ARGUMENTS, build_guest
from guest.console import Console
from tests.systemd.container import CLONE, Container
from tests.systemd.user_session import wait_until

FOLDER: Final = "/srv/guest"

DESCRIPTION: Final = f"""
name = "web"
memory = "256 MiB"
vcpus = 2
accelerator = "tcg"
kernel = "{FOLDER}/kernel"
initrd = "{FOLDER}/initrd"
command-line = "{KERNEL_ARGUMENTS} panic=-1"

[[cards]]
bridge = "br0"
queues = 2
rss = true

[[serials]]
type = "stdio"
"""

AS_ALICE: Final = ("env", "HOME=/tmp", "bpferry")

HOST, GUEST = "10.84.0.1", "10.84.0.2"

BOOT_SECONDS: Final = 300
"""Without KVM it takes ten on a quiet machine."""

STEERED: Final = "steering by eBPF in the host's kernel, 2 queues"


@dataclass(frozen=True, slots=True)
class PackagedVm:
    """The VM, while it runs."""

    system: Container
    console: Console

    def datagram_comes_back(self) -> bool:
        """Send one from the bridge to the guest and wait for it."""
        path = f"PYTHONPATH={CLONE}/tools"
        command = ("env", path, "python3", "-B", "-m", "guest.echo", GUEST, "1400")
        return self.system.run(*command, timeout=60).returncode == 0

    def is_steered(self) -> bool:
        """Wait until the maps show what the guest's driver has set up."""
        return wait_until(lambda: STEERED in self._seen())

    def _seen(self) -> str:
        status = self.system.check(*AS_ALICE, "status", "web", "--json", user="alice")
        return " ".join(str(card.get("seen")) for card in json.loads(status)["cards"])


def bring_guest(system: Container) -> None:
    """Copy the guest into *system* and make the bridge br0."""
    guest = build_guest(CACHE, print)
    system.check("mkdir", "-p", FOLDER)
    for path in (guest.kernel, guest.initrd):
        shutil.copy(path, Path(f"/proc/{system.pid}/root{FOLDER}/{path.name}"))
    system.write(f"{FOLDER}/web.toml", DESCRIPTION)
    system.check("ip", "link", "add", "br0", "type", "bridge")
    system.check("ip", "address", "add", f"{HOST}/24", "dev", "br0")
    system.check("ip", "link", "set", "br0", "up")


@contextmanager
def running_vm(system: Container) -> Iterator[PackagedVm]:
    """Let alice run the VM until the block ends, in which its guest is up and has an address."""
    command = (*AS_ALICE, "run", "--require-ebpf", f"{FOLDER}/web.toml")
    with system.running(*command, user="alice") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        console = Console(process.stdout, process.stdin)
        console.wait_until_ready(BOOT_SECONDS)
        console.ask("equal", queues=2)
        console.ask("address", ipv4=f"{GUEST}/24")
        yield PackagedVm(system, console)
        console.ask("poweroff")
        assert 0 == process.wait(BOOT_SECONDS)
