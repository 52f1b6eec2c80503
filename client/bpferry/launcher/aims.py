# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a card of a command line is to get: the same questions as for a card of a description.

What the command line says by itself stays: a queue that was counted, vhost, RSS, hash reports. What
it leaves open is decided as for a description that leaves it open.
"""

import re
from typing import Final

from msgspec import Struct

from bpferry.domain.model.cards import Card
from bpferry.domain.names import Named
from bpferry.launcher.backends import Backend, Kind, read_backend
from bpferry.launcher.cards import FoundCard
from bpferry.launcher.properties import NotUnderstoodError, Properties
from bpferry.qemu.capabilities import Capabilities
from bpferry_wire import limits
from bpferry_wire.messages import Tap

MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")

ALIASES: Final = {"virtio-net": ("virtio-net-pci", "virtio-net-ccw")}
"""What ``-device`` takes besides a driver's name, and what it may mean (system/qdev-monitor.c)."""

OTHER_MODEL: Final = "e1000"
"""The model of every card that is not a virtio card: the plan treats them all alike."""


class Aim(Struct, frozen=True):
    """One card, with what is wanted for it."""

    found: FoundCard
    backend: Backend
    driver: str
    """The name that the capabilities know it by."""
    queues: int

    @property
    def name(self) -> str:
        """For people, and for the names of its fds."""
        return self.found.name

    @property
    def device(self) -> Properties:
        """Of the card."""
        return self.found.device.properties

    @property
    def is_virtio(self) -> bool:
        """Whether it can have several queues."""
        return self.driver.startswith("virtio-net")

    def card(self, queues: int, bridge: str) -> Named[Card]:
        """Return the card as the plan knows it, on *bridge* if its tap comes from the helper."""
        vhost = self.backend.vhost
        if self.backend.kind is Kind.FDS:
            # Who opened these fds has opened as many of vhost as there should be.
            vhost = bool(vhost)
        card = Card(
            type="bridge" if bridge else "ethernet",
            model="virtio" if self.is_virtio else OTHER_MODEL,
            bridge=bridge or None,
            queues=queues,
            driver=None if vhost is None else ("vhost" if vhost else "qemu"),
            rss=self.device.flag("rss"),
            rss_hash_report=bool(self.device.flag("hash")),
        )
        return Named(self.name, self.name, card)

    def tap(self, queues: int, bridge: str) -> Tap:
        """Return the request for a tap on *bridge*.

        A card without an address gets QEMU's, which depends on the other cards; so none is sent.

        Raises:
            NotUnderstoodError: no helper could understand what it says.
        """
        mac, mtu = self.device.text_of("mac") or "", self.device.number("host_mtu")
        if not _is_interface(bridge):
            raise NotUnderstoodError(f"{bridge!r} is not the name of a bridge")
        if mtu is not None and not limits.MIN_MTU <= mtu <= limits.MAX_MTU:
            raise NotUnderstoodError(f"its MTU {mtu} is not possible")
        address = bytes.fromhex(mac.replace(":", "")) if MAC.fullmatch(mac) else None
        return Tap(bridge, is_network=False, queues=queues, mtu=mtu, mac=address)


def read_aim(
    found: FoundCard, capabilities: Capabilities, *, vcpus: int, queues: int | None
) -> Aim:
    """Return what is wanted for *found*, in a VM with *vcpus* and *queues* if the user says so.

    Raises:
        NotUnderstoodError: the card stays as it is, with the reason.
    """
    backend = read_backend(found.netdev.properties)
    device = found.device.properties
    if device.has("ebpf-rss-fds"):
        raise NotUnderstoodError("its eBPF fds are given already")
    driver = _driver(device, capabilities)
    if driver not in capabilities.devices:
        raise NotUnderstoodError(f"this QEMU has no device '{driver}'")
    several = capabilities.has_property(driver, "mq") and device.flag("mq") is not False
    if backend.kind is Kind.FDS:
        count = len(backend.fds) if several else 1
    else:
        count = min(queues or backend.queues or vcpus, limits.MAX_QUEUES) if several else 1
    return Aim(found, backend, driver, count)


def _driver(device: Properties, capabilities: Capabilities) -> str:
    named = device.text_of("driver") or ""
    known = (name for name in ALIASES.get(named, ()) if name in capabilities.devices)
    return next(known, named)


def _is_interface(name: str) -> bool:
    """Say whether *name* can be sent as the name of an interface: bytes have to be UTF-8."""
    try:
        return 0 < len(name.encode()) <= limits.MAX_INTERFACE_BYTES
    except UnicodeEncodeError:
        return False
