# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open the queues of a macvtap that root made and gave to this user.

A macvtap has a device of its own, /dev/tapN with the interface's index; each open of it is a queue
(drivers/net/tap.c). Whose it is, the owner of that file says. Nothing of the interface is changed.

It takes only the frames for its own address, so the card has to have that. And the kernel does not
tell whether another process has queues of it open, each of which would get a part of the packets.
So the first queue is locked (flock). The lock goes to QEMU with the fd, and goes away with it.

Known hole: a queue gets frames from its open on, so a start that finds the lock taken may have lost
some of the other VM's, for less than a millisecond.
"""

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Final, NamedTuple

from bpferry.errors import TapError
from bpferry.network import tun
from bpferry.network.groups import explain_denied, user_name
from bpferry_wire.fds import OwnedFd, OwnedFds

INTERFACES: Final = Path("/sys/class/net")
DEVICES: Final = Path("/dev")

OWNER_HINT: Final = (
    "ask the administrator for a rule in /etc/udev/rules.d that gives it to you: "
    'SUBSYSTEM=="macvtap", KERNELS=="{name}", OWNER="{user}"'
)

MISSING_HINT: Final = (
    "a container has only devices that were given to it; on a host, ask the administrator to "
    "delete the interface and make it again"
)

OTHER: Final = "end the VM that uses it, or name another one"


class Macvtap(NamedTuple):
    """A macvtap of this network namespace."""

    name: str
    path: Path
    """Its device."""
    number: int
    """The device's, as in ``st_rdev``."""
    address: str
    """Of the interface: the only one that frames are taken for."""

    def check(self, address: str) -> None:
        """Raise TapError if a card with this *address* cannot have it; opens nothing."""
        if address != self.address:
            raise TapError(
                f"cannot use the macvtap '{self.name}' for a card with the address '{address}': "
                f"it takes only frames for its own, '{self.address}'",
                f"give the card the address '{self.address}'; or ask the administrator to run: "
                f"ip link set {self.name} address {address}",
            )
        if not os.access(self.path, os.R_OK | os.W_OK, effective_ids=True):
            raise self._closed()

    def open(self, queues: int, address: str) -> OwnedFds:
        """Return *queues* fds of it, for a card with this *address*.

        Raises:
            TapError: with what is in the way.
        """
        self.check(address)
        fds = OwnedFds()
        try:
            for queue in range(queues):
                fds.add(self._open_queue(queue).take())
                if queue == 0:
                    self._lock(fds[0])
                tun.attach(fds[queue].borrow(), self.name, tun.queue_flags(queues))
        except BaseException:
            fds.close()
            raise
        return fds

    def _open_queue(self, queue: int) -> OwnedFd:
        try:
            fd = OwnedFd(os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except PermissionError as error:
            raise self._closed() from error
        except OSError as error:
            busy = error.errno == errno.EBUSY
            cause = "all its queues are in use" if busy else error.strerror
            message = f"cannot open queue {queue} of the macvtap '{self.name}': {cause}"
            raise TapError(message, OTHER if busy else MISSING_HINT) from error
        if os.fstat(fd.borrow()).st_rdev != self.number:
            fd.close()
            message = f"cannot use '{self.path}': it is not the device of '{self.name}'"
            raise TapError(message, MISSING_HINT)
        return fd

    def _lock(self, fd: OwnedFd) -> None:
        try:
            fcntl.flock(fd.borrow(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"cannot use the macvtap '{self.name}': another process has it"
            raise TapError(message, OTHER) from error

    def _closed(self) -> TapError:
        give = OWNER_HINT.format(name=self.name, user=user_name(os.geteuid()))
        cause, hint = explain_denied(str(self.path), give, MISSING_HINT)
        return TapError(f"cannot open '{self.path}', of the macvtap '{self.name}': {cause}", hint)


def find_macvtap(name: str) -> Macvtap | None:
    """Return the macvtap *name*; None if there is none, or if sysfs is of another namespace."""
    folder = INTERFACES / name
    try:
        index = socket.if_nametoindex(name)
        if int((folder / "ifindex").read_text(encoding="ascii")) != index:
            return None
        device = f"tap{index}"
        number = (folder / "macvtap" / device / "dev").read_text(encoding="ascii")
        major, minor = map(int, number.split(":"))
        address = (folder / "address").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return Macvtap(name, DEVICES / device, os.makedev(major, minor), address)
