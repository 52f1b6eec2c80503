# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open the queues of a tap that exists already, by its name.

Each queue is one open of /dev/net/tun with one TUNSETIFF, by the owner of the tap. If there is no
such tap, TUNSETIFF makes one, provided that the caller may; bpferry never wants that. So the name
has to exist before, and the tap has to be persistent afterwards, which a new tap is not.

A tap is made either for one queue or for several, and has to be opened accordingly. A card with one
queue can use either.
"""

import errno
import os
import socket
from typing import Final

from bpferry.errors import TapError
from bpferry.network import tun
from bpferry_wire.fds import OwnedFd, OwnedFds

TUN_DEVICE: Final = "/dev/net/tun"

MAKE_HINT: Final = (
    "'bpferry tap create BRIDGE --queues {queues}' makes one for you on a bridge: write "
    "the name that it prints in place of '{name}'; or the "
    "administrator makes one with: ip tuntap add dev {name} mode tap {multi}vnet_hdr user USER"
)


def open_tap(name: str, queues: int) -> OwnedFds:
    """Return *queues* fds of the tap *name*, which has to be persistent and belong to us.

    Raises:
        TapError: with what is in the way.
    """
    check_exists(name, queues)
    fds = OwnedFds()
    try:
        for queue in range(queues):
            fd = _open_device()
            fds.add(fd.take())
            flags = _attach(fds[queue], name, queue, queues)
            _check_flags(fds[queue], name, flags, queues)
        _check_alone(name, queues)
    except BaseException:
        fds.close()
        raise
    return fds


def has_several_queues(name: str) -> bool | None:
    """Say whether the tap *name* was made for several queues; None if that is not known here."""
    flags = _read_tun_flags(name)
    return None if flags is None else bool(flags & tun.IFF_MULTI_QUEUE)


def _make_hint(name: str, queues: int) -> str:
    multi = "multi_queue " if queues > 1 else ""
    return MAKE_HINT.format(name=name, queues=queues, multi=multi)


def check_exists(name: str, queues: int) -> None:
    """Raise TapError if there is no interface *name*."""
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        raise TapError(
            f"cannot open the tap '{name}': there is no such interface",
            _make_hint(name, queues),
        ) from error


def _open_device() -> OwnedFd:
    try:
        return OwnedFd(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        raise TapError(
            f"cannot open '{TUN_DEVICE}': {error.strerror}",
            "all users need read and write access to it: ask the administrator to run "
            "'modprobe tun' and, if its mode is not 0666, 'chmod 0666 /dev/net/tun'",
        ) from error


def _attach(fd: OwnedFd, name: str, queue: int, queues: int) -> int:
    """Make *fd* a queue of the tap with the tap's own flags; return the flags that it has then."""
    kinds = (1, 2) if queues == 1 else (2,)
    for kind in kinds:
        flags = tun.queue_flags(kind)
        try:
            tun.attach(fd.borrow(), name, flags)
        except OSError as error:
            if error.errno == errno.EINVAL and kind != kinds[-1]:
                continue
            cause, hint = _explain(error, name, queues)
            message = f"cannot open queue {queue} of the tap '{name}': {cause}"
            raise TapError(message, hint) from error
        break
    return flags


def _explain(error: OSError, name: str, queues: int) -> tuple[str, str]:
    """Return cause and remedy of an error of TUNSETIFF (drivers/net/tun.c)."""
    make = _make_hint(name, queues)
    match error.errno:
        case errno.EINVAL:
            return _explain_kind(name, queues), make
        case errno.EPERM:
            return "it belongs to another user", f"see 'ip -details tuntap show'; {make}"
        case errno.EBUSY:
            return "another process has it", "end the VM that uses it, or name another tap"
        case errno.E2BIG:
            return "all its queues are in use", "end the VM that uses it, or ask for fewer queues"
    return error.strerror or str(error), ""


def _explain_kind(name: str, queues: int) -> str:
    """Return what *name* is, if it is not a tap with as many queues as are wanted."""
    flags = _read_tun_flags(name)
    if flags is None:
        return "it is not a tap" if queues == 1 else "it is not a tap, or it has a single queue"
    if flags & tun.IFF_TAP and queues > 1:
        return f"it has a single queue, and {queues} are asked for"
    return "it is a tun device, not a tap"


def _check_flags(fd: OwnedFd, name: str, flags: int, queues: int) -> None:
    """Raise TapError unless the tap has the flags that we asked for, and existed before us."""
    found = tun.identify(fd.borrow())
    if found.interface != name or found.flags & flags != flags:
        raise TapError(f"cannot use the tap '{name}': the kernel opened it with different flags")
    if not found.flags & tun.IFF_PERSIST:
        # It vanished after check_exists, and we may make taps. Closing the fd removes it.
        raise TapError(
            f"cannot use the tap '{name}': it is not persistent", _make_hint(name, queues)
        )


def _check_alone(name: str, queues: int) -> None:
    """Raise TapError if somebody else has queues of this tap open.

    The kernel allows the owner to do that, and would give each a part of the packets. The number is
    in sysfs, which may be that of another network namespace; then nothing is checked.
    """
    if _read_tun_flags(name) is None:
        return
    shown = _queues_there(name)
    if shown > queues:
        raise TapError(
            f"cannot use the tap '{name}': another process has {shown - queues} of its queues open",
            "end the VM that uses it, or name another tap",
        )


def _queues_there(name: str) -> int:
    """Return how many queues sysfs shows; 0 if the tap has gone meanwhile."""
    try:
        entries = os.listdir(f"/sys/class/net/{name}/queues")  # noqa: PTH208 - as below
    except OSError:
        return 0
    return sum(entry.startswith("rx-") for entry in entries)


def _read_tun_flags(name: str) -> int | None:
    """Return the flags of *name* in sysfs; None if it is not a tap there."""
    folder = f"/sys/class/net/{name}"
    try:
        # pathlib would take longer to import than all this takes.
        with open(f"{folder}/ifindex", encoding="ascii") as file:  # noqa: PTH123
            index = int(file.read())
        with open(f"{folder}/tun_flags", encoding="ascii") as file:  # noqa: PTH123
            flags = int(file.read(), 16)
        return flags if index == socket.if_nametoindex(name) else None
    except (OSError, ValueError):
        return None
