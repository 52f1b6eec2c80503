# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the card of a new VM is connected to: by what the user names, and what the helper allows.

Nothing is made here: the helper is only asked what it would do.
"""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.domain.identity import derive_mac
from bpferry.errors import BadInput, BpferryError, NotReady
from bpferry.machine.creation.wish import Connection, Wish
from bpferry.machine.folders import vms_folder
from bpferry.machine.identity import find_identity
from bpferry.network.connection import why_not
from bpferry.network.tap_helper import TapHelper
from bpferry_wire import limits
from bpferry_wire.messages import Tap

INTERFACES: Final = Path("/sys/class/net")

NETWORKS: Final = ("default",)
"""Names that policies have for networks, since libvirt's documents do. The wire lists none."""

FIRST_SSH_PORT: Final = 2222

PORTS_TRIED: Final = 1000

START: Final = re.compile(r"^\s*start\s*=\s*([0-9]{1,5})\s*$", re.MULTILINE)
"""A forwarded port in a description that was made here."""


def choose_connection(wish: Wish) -> Connection:
    """Return what the card of *wish* is connected to.

    Raises:
        BpferryError: it may not be, or the helper does not say.
    """
    mac = wish.mac.hex(":") if wish.mac else derive_mac(find_identity().owner, wish.name, 0)
    source = wish.bridge or wish.network
    if source is None:
        if wish.queues:
            raise BadInput(
                "wrong usage: '--queues' is about a tap, and no bridge is named",
                "add '--bridge NAME' or '--network NAME'; user networking has one queue",
            )
        port = find_free_port() if wish.ssh_keys else None
        return Connection("user", "", 1, mac, port, notes=tuple(_without_bridge()))
    kind = "bridge" if wish.bridge else "network"
    queues, notes = _ask_queues(source, wish, mac)
    return Connection(kind, source, queues, mac, notes=notes)


def _ask_queues(source: str, wish: Wish, mac: str) -> tuple[int, tuple[str, ...]]:
    """Return how many queues the card can have, and why fewer than usual."""
    wanted = wish.queues or min(wish.vcpus, limits.MAX_QUEUES)
    octets = bytes.fromhex(mac.replace(":", ""))
    tap = Tap(source, wish.bridge is None, wanted, None, octets)
    try:
        with TapHelper() as helper:
            return _find_queues(helper, tap, may_have_fewer=wish.queues is None)
    except BpferryError as error:
        option = "--network" if tap.is_network else "--bridge"
        way = f"or leave '{option}' out: user networking needs no helper"
        error.hint = "; ".join(filter(None, (error.hint, way)))
        raise


def _find_queues(
    helper: TapHelper, tap: Tap, *, may_have_fewer: bool
) -> tuple[int, tuple[str, ...]]:
    refusal = why_not(helper.can(tap))
    if refusal is None:
        return tap.queues, ()
    if may_have_fewer and tap.queues > 1 and helper.can(tap._replace(queues=1)).allowed:
        return 1, (f"the card has one queue, not {tap.queues}: {refusal.message}",)
    if not tap.is_network and not (INTERFACES / tap.source / "bridge").is_dir():
        # The helper looks for a bridge only if policy allows one of that name.
        refusal = NotReady(f"this host has no bridge '{tap.source}' ({refusal.message})")
    allowed = list(allowed_networks(helper))
    if allowed:
        refusal.hint = f"you may use: {', '.join(allowed)}"
    raise refusal


def allowed_networks(helper: TapHelper) -> Iterator[str]:
    """Yield the options that name the bridges and networks on which the user may have a tap."""
    bridges = sorted(path.parent.name for path in INTERFACES.glob("*/bridge"))
    for name, is_network in (
        *((one, False) for one in bridges),
        *((one, True) for one in NETWORKS),
    ):
        if helper.can(Tap(name, is_network, 1)).allowed:
            yield f"{'--network' if is_network else '--bridge'} {name}"


def _without_bridge() -> Iterator[str]:
    """Yield what to tell a user who names no bridge."""
    try:
        with TapHelper() as helper:
            allowed = list(allowed_networks(helper))
    except BpferryError as error:
        could = f"which bridges you may use is not known: {error.message}"
    else:
        could = f"you may use: {', '.join(allowed)}" if allowed else "you may not use any bridge"
    yield f"the card has user networking, since no bridge is named; {could}"


def find_free_port() -> int:
    """Return a port of this host that no process listens on and no other new VM forwards.

    Raises:
        NotReady: there is none.
    """
    taken = {int(port) for text in _descriptions() for port in START.findall(text)}
    for port in range(FIRST_SSH_PORT, FIRST_SSH_PORT + PORTS_TRIED):
        if port not in taken and _is_free(port):
            return port
    raise NotReady(
        f"no port from {FIRST_SSH_PORT} to {FIRST_SSH_PORT + PORTS_TRIED - 1} is free for ssh",
        "leave '--ssh-key' out, or remove VMs that you no longer need",
    )


def _descriptions() -> Iterator[str]:
    for path in vms_folder().glob("*.toml"):
        try:
            yield path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        # As QEMU listens: connections that have just ended are no reason against it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
