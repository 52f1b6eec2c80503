# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind a card on a command line, and what can be put in its place.

BRIDGE  QEMU would run qemu-bridge-helper, which makes taps with one queue
NAMED   a tap that exists, by its name
ONE_FD  a tap that the launcher opened, with one queue
FDS     the queues of a tap that the launcher opened; they stay
"""

import os
import re
from enum import StrEnum
from typing import Final, NamedTuple

from bpferry.launcher.properties import NotUnderstoodError, Properties
from bpferry.network import tun
from bpferry_wire.fds import BorrowedFd

DEFAULT_BRIDGE: Final = "br0"
"""DEFAULT_BRIDGE_INTERFACE of include/net/net.h."""

BRIDGE_HELPER: Final = "qemu-bridge-helper"

MADE_BY_BRIDGE_HELPER: Final = re.compile(r"tap\d+|bft[0-9a-f]{12}")
"""The names of its taps (qemu-bridge-helper.c: the kernel counts them), and of ours."""

FD: Final = re.compile(r"[0-9]{1,9}")

REPLACED: Final = (
    "type", "br", "helper", "ifname", "script", "downscript", "queues", "fd", "fds", "vhost",
    "vhostfd", "vhostfds", "vnet_hdr",
)  # fmt: skip
"""What a tap with fds cannot have (net_init_tap in net/tap.c), or gets in another way."""


class Kind(StrEnum):
    """Where its tap comes from."""

    BRIDGE = "bridge"
    NAMED = "named"
    ONE_FD = "one fd"
    FDS = "fds"


class Backend(NamedTuple):
    """What is behind one card."""

    kind: Kind
    name: str = ""
    """Of the bridge, or of the tap."""
    fds: tuple[int, ...] = ()
    vhost_fds: tuple[int, ...] = ()
    queues: int | None = None
    """As the command line says; None if it does not."""
    vhost: bool | None = None


def read_backend(netdev: Properties) -> Backend:
    """Return what *netdev*, the properties of a ``-netdev``, puts behind a card.

    Raises:
        NotUnderstoodError: it stays as it is, with the reason.
    """
    kind = netdev.get("type")
    if kind == "bridge":
        return Backend(Kind.BRIDGE, _bridge(netdev))
    if kind != "tap":
        raise NotUnderstoodError(f"it has no tap, but '{kind}'")
    if netdev.flag("vnet_hdr") is False:
        raise NotUnderstoodError("its tap is to have no virtio header (vnet_hdr=off)")
    vhost_fds = _fds(netdev, "vhostfd") + _fds(netdev, "vhostfds")
    vhost = True if vhost_fds else netdev.flag("vhost")
    fds = _fds(netdev, "fd") + _fds(netdev, "fds")
    if fds:
        kind = Kind.ONE_FD if len(fds) == 1 else Kind.FDS
        return Backend(kind, fds=fds, vhost_fds=vhost_fds, vhost=vhost)
    queues = netdev.number("queues")
    if netdev.has("ifname"):
        return Backend(
            Kind.NAMED, _existing(netdev), vhost_fds=vhost_fds, queues=queues, vhost=vhost
        )
    if netdev.has("helper", "br"):
        return Backend(
            Kind.BRIDGE, _bridge(netdev), vhost_fds=vhost_fds, queues=queues, vhost=vhost
        )
    raise NotUnderstoodError("QEMU makes its tap itself, and a script connects it")


def _bridge(netdev: Properties) -> str:
    """Return the bridge, as QEMU would tell its helper (net_bridge_run_helper in net/tap.c)."""
    bridge = netdev.text_of("br") or DEFAULT_BRIDGE
    helper = netdev.text_of("helper")
    if helper is None:
        return bridge
    try:
        import shlex  # noqa: PLC0415 - few command lines name one

        words = shlex.split(helper)
    except ValueError as error:
        raise NotUnderstoodError(f"its helper cannot be read: {error}") from error
    if not words or os.path.basename(words[0]) != BRIDGE_HELPER:  # noqa: PTH119
        raise NotUnderstoodError(f"its helper '{helper}' is not {BRIDGE_HELPER}")
    for word in words[1:]:
        if not word.startswith("--br="):
            raise NotUnderstoodError(f"its helper has the option '{word}'")
        bridge = word.removeprefix("--br=")
    return bridge


def _existing(netdev: Properties) -> str:
    script, down = netdev.get("script"), netdev.get("downscript")
    if script != "no" or down not in (None, "no"):
        raise NotUnderstoodError("QEMU runs a script for its tap (use script=no,downscript=no)")
    return netdev.text_of("ifname") or ""


def _fds(netdev: Properties, key: str) -> tuple[int, ...]:
    """Return the fds that *key* lists.

    Raises:
        NotUnderstoodError: they are names, or not even that.
    """
    text = netdev.text_of(key)
    if text is None:
        return ()
    words = text.split(":")
    if not all(FD.fullmatch(word) for word in words):
        raise NotUnderstoodError(f"'{key}={text}' does not list numbers of fds")
    return tuple(map(int, words))


def bridge_of(fd: int) -> str:
    """Return the bridge of *fd*, the tap that a launcher got from qemu-bridge-helper.

    Raises:
        NotUnderstoodError: it is another kind of tap, or its bridge is not known.
    """
    try:
        queue = tun.identify(BorrowedFd(fd))
    except OSError as error:
        raise NotUnderstoodError(f"its fd {fd} is not a tap: {error.strerror}") from error
    if queue.flags & (tun.IFF_PERSIST | tun.IFF_MULTI_QUEUE) or not (
        MADE_BY_BRIDGE_HELPER.fullmatch(queue.interface)
    ):
        raise NotUnderstoodError(f"its tap '{queue.interface}' is not from qemu-bridge-helper")
    from bpferry.network.tap_bridge import find_bridge  # noqa: PLC0415 - for such taps alone

    bridge = find_bridge(queue.interface)
    if not bridge:
        raise NotUnderstoodError(f"its tap '{queue.interface}' is not on a bridge of this host")
    return bridge
