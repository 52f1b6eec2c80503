# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real virtme-ng, with the command of docs/with/virtme-ng.md.

Its guest would be a copy of this host, if the kernel of our guest could mount that. So it gets the
file system of our own guest, in which somebody counts what comes in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from guest.build import CACHE, build_guest
from guest.console import Console
from launchers.host import LauncherHost, launcher_host
from tests.launchers.pages import blocks
from tests.launchers.programs import launchers
from tests.launchers.steered import STARTS_A_GUEST, Launched, check_every_flow
from tests.launchers.terminal import Terminal, on_terminal

pytestmark = [*STARTS_A_GUEST]

[COMMAND] = blocks("virtme-ng.md", "sh")

PATIENCE_S: Final = 60.0


@contextmanager
def _virtme_ng(host: LauncherHost) -> Iterator[Terminal]:
    """Start the page's command, on a terminal, which virtme-ng wants."""
    guest, root = build_guest(CACHE, print), launchers()
    host.run("cp", str(guest.kernel), "vmlinuz")
    own = "--disable-kvm --memory 512M"
    more = f"{own} -a console=ttyS0 --qemu-opts='-initrd {guest.initrd}'"
    script = f"PATH={root}/usr/bin:$PATH; exec {COMMAND.strip()} {more}"
    modules = f"PYTHONPATH={root}/usr/lib/python3/dist-packages"
    with on_terminal(host.words(["env", modules, "sh", "-c", script])) as terminal:
        yield terminal


def test_a_guest_of_virtme_ng_is_steered() -> None:
    """Its card has four queues, and each flow comes in as predicted; it ends with the guest."""
    with launcher_host() as host, _virtme_ng(host) as terminal:
        console = Console(terminal, terminal)
        console.wait_until_ready()
        check_every_flow(host, Launched(console, host.qemu_pid()))
        console.ask("poweroff")
        terminal.process.wait(PATIENCE_S)
