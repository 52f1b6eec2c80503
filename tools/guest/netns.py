# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network namespace that plays a host: with a bridge, or with a tap that a user owns.

One process, which only waits, holds the network and the mount namespace. They have no name on the
host, so they go away with their last process: our end of its pipe closes however we end, the
process ends with that, and devices and mounts go with it.

Users may not be able to open the host's /dev/net/tun. Then the mount namespace gets its own
/dev/net, with a node that everybody may open; the tap still decides by its owner who may use it.
"""

import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guest.command import GuestError, run

TUN = Path("/dev/net/tun")
TUN_DEVICE = ("10", "200")  # include/uapi/linux/major.h and miscdevice.h
HINT = "this needs root"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network and a mount namespace, held by the process *holder*. Borrows that process."""

    holder: int
    tap: str = ""
    """The user's tap, if it was made with one."""

    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        """Return *argv* so that it runs in here, in the folder "/", as uid *user* if given."""
        enter = ["nsenter", f"--target={self.holder}", "--net", "--mount", "--"]
        if user is None:
            return [*enter, *argv]
        # Only the group with the same number: the uid may not have a name.
        ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return [*enter, "setpriv", *ids, "--inh-caps=-all", "--", *argv]

    def run(self, argv: Sequence[str], *, user: int | None = None, text: str = "") -> str:
        """Run *argv* in here, with *text* as its input; return its output."""
        return run(self.command(argv, user), text=text)


@contextmanager
def namespace(owner: int, addresses: Sequence[str], tap: str = "tap0") -> Iterator[Namespace]:
    """Make a namespace with a *tap* of uid *owner*, which has *addresses* (with their prefixes)."""
    with _empty(tap) as space:
        # The tap must have the flags with which QEMU opens it.
        flags = ["multi_queue", "vnet_hdr"]
        space.run(["ip", "tuntap", "add", "dev", tap, "mode", "tap", "user", str(owner), *flags])
        _bring_up(space, tap, addresses)
        yield space


@contextmanager
def bridged(bridge: str, addresses: Sequence[str], mtu: int) -> Iterator[Namespace]:
    """Make a namespace with a *bridge* without ports, which has *addresses* (with their prefixes).

    Its ports do not reduce its *mtu*.
    """
    with _empty() as space:
        space.run(["ip", "link", "add", "dev", bridge, "mtu", str(mtu), "type", "bridge"])
        _bring_up(space, bridge, addresses)
        yield space


@contextmanager
def _empty(tap: str = "") -> Iterator[Namespace]:
    """Make a namespace in which there is only "lo", and everybody may open /dev/net/tun."""
    with holder() as pid:
        space = Namespace(pid, tap)
        # The host's /sys would still show the host's network devices.
        space.run(["mount", "-t", "sysfs", "sysfs", "/sys"])
        open_tun(space)
        yield space


def _bring_up(space: Namespace, device: str, addresses: Sequence[str]) -> None:
    """Give *addresses* to *device*, and let it and "lo" carry packets."""
    for address in addresses:
        # Nobody else can have the address, and a tentative one cannot be used yet.
        nodad = ["nodad"] if ":" in address else []
        space.run(["ip", "address", "add", address, "dev", device, *nodad])
    for name in ("lo", device):
        space.run(["ip", "link", "set", name, "up"])


@contextmanager
def holder() -> Iterator[int]:
    """Start the process that holds the namespaces, yield its id, and end it afterwards."""
    argv = ["unshare", "--net", "--mount", "--", "sh", "-c", "echo ready; exec cat"]
    pipe = subprocess.PIPE
    # In its own session, so that Ctrl-C does not kill it while it is in use.
    with subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise GuestError("cannot make a network namespace: unshare failed", HINT)
            yield process.pid
        finally:
            process.kill()


def open_tun(space: Namespace) -> None:
    """Let every user in *space* open /dev/net/tun."""
    if tun_is_open():
        return
    space.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(TUN.parent)])
    space.run(["mknod", "--mode=0666", str(TUN), "c", *TUN_DEVICE])


def tun_is_open() -> bool:
    """Return whether every user can open the host's /dev/net/tun."""
    try:
        mode = TUN.stat().st_mode
    except OSError as error:
        raise GuestError(f"cannot use '{TUN}': {error.strerror}", "modprobe tun") from error
    return bool(mode & stat.S_IWOTH)
