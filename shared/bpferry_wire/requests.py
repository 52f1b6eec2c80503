# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of each request, in both directions.

A missing optional key means that the client does not care. ``read_request`` ignores unknown keys;
``Fields.done`` refuses them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from bpferry_wire import limits
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.messages import (
    Bandwidth,
    Can,
    Create,
    Delete,
    Hello,
    ListTaps,
    Load,
    Quota,
    Rate,
    Request,
    Status,
    Tap,
)
from bpferry_wire.vm_names import KEY, read_vm_name

OPS: Final[dict[type[Request], str]] = {
    Hello: "hello",
    Quota: "quota",
    Status: "status",
    Load: "load",
    Tap: "tap",
    Create: "create",
    ListTaps: "list",
    Delete: "delete",
    Can: "can",
}


def request_map(request: Request) -> dict[str, object]:
    """Return the keys of *request*, without the version."""
    packet: dict[str, object] = {"op": OPS[type(request)]}
    match request:
        case Load():
            packet |= {"id": request.object_id, "digest": request.digest}
            if request.vm:
                packet[KEY] = request.vm
        case Tap():
            packet |= _tap_map(request)
        case Create():
            packet |= _tap_map(request.tap)
        case Delete():
            packet["interface"] = request.interface
        case Can():
            packet["request"] = request_map(request.request)
    return packet


def _tap_map(tap: Tap) -> dict[str, object]:
    """Return the keys of *tap*, without those that are not set."""
    said: dict[str, object | None] = {
        "network" if tap.is_network else "bridge": tap.source,
        "queues": tap.queues,
        "mtu": tap.mtu,
        "mac": tap.mac,
        "isolated": tap.isolated or None,
        "vlan": tap.vlan,
        "tagged": list(tap.tagged) or None,
        "bandwidth": _bandwidth_map(tap.bandwidth) or None,
        KEY: tap.vm or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _bandwidth_map(bandwidth: Bandwidth) -> dict[str, object]:
    return {
        way: {key: value for key, value in rate._asdict().items() if value is not None}
        for way, rate in bandwidth._asdict().items()
        if rate is not None
    }


def read_request(fields: Fields) -> Request:
    """Take the request out of *fields*.

    Raises:
        BadMessage: with the code to answer with.
    """
    op = fields.text("op")
    if op not in READERS:
        raise BadMessage(f"unknown operation '{op[:32]}'", Code.UNKNOWN_OP)
    return READERS[op](fields)


def _read_load(fields: Fields) -> Load:
    return Load(
        object_id=fields.text("id", limits.MAX_OBJECT_ID_BYTES),
        digest=fields.octets("digest", limits.DIGEST_BYTES),
        vm=read_vm_name(fields),
    )


def _read_tap(fields: Fields) -> Tap:
    is_network = fields.has("network")
    return Tap(
        source=fields.text("network", limits.MAX_NETWORK_BYTES)
        if is_network
        else fields.text("bridge", limits.MAX_INTERFACE_BYTES),
        is_network=is_network,
        queues=fields.integer("queues", 1, limits.MAX_QUEUES),
        mtu=fields.integer("mtu", limits.MIN_MTU, limits.MAX_MTU) if fields.has("mtu") else None,
        mac=fields.octets("mac", limits.MAC_BYTES) if fields.has("mac") else None,
        isolated=fields.boolean("isolated") if fields.has("isolated") else False,
        vlan=fields.integer("vlan", limits.MIN_VLAN, limits.MAX_VLAN)
        if fields.has("vlan")
        else None,
        tagged=_read_tagged(fields) if fields.has("tagged") else (),
        bandwidth=_read_bandwidth(fields),
        vm=read_vm_name(fields),
    )


def _read_tagged(fields: Fields) -> tuple[int, ...]:
    tagged = fields.integers("tagged")
    known = [0, *tagged, limits.MAX_VLAN + 1]
    if len(tagged) > limits.MAX_TAGGED_VLANS or any(a >= b for a, b in pairwise(known)):
        raise BadMessage(
            f"'tagged' in the request is not up to {limits.MAX_TAGGED_VLANS} numbers from "
            f"{limits.MIN_VLAN} to {limits.MAX_VLAN} in ascending order"
        )
    return tagged


def _read_create(fields: Fields) -> Create:
    tap = _read_tap(fields)
    if tap.tagged:
        raise BadMessage(
            "'tagged' is not for a tap that stays: its alias has no room to note these VLANs, so a "
            "later policy could not take them back"
        )
    return Create(tap)


def _read_bandwidth(fields: Fields) -> Bandwidth:
    if not fields.has("bandwidth"):
        return Bandwidth()
    ways = fields.fields("bandwidth")
    bandwidth = Bandwidth(*(_read_rate(ways, way) for way in Bandwidth._fields))
    ways.done()
    return bandwidth


def _read_rate(ways: Fields, way: str) -> Rate | None:
    if not ways.has(way):
        return None
    fields = ways.fields(way)
    rate = Rate(
        average=fields.integer("average", limits.MIN_RATE, limits.MAX_RATE),
        peak=fields.integer("peak", limits.MIN_RATE, limits.MAX_RATE)
        if fields.has("peak")
        else None,
        burst=fields.integer("burst", limits.MIN_BURST, limits.MAX_BURST)
        if fields.has("burst")
        else None,
    )
    fields.done()
    return rate


def _read_delete(fields: Fields) -> Delete:
    return Delete(fields.text("interface", limits.MAX_INTERFACE_BYTES))


def _read_can(fields: Fields) -> Can:
    wanted = fields.fields("request")
    op = wanted.text("op")
    if op not in GRANTING:
        raise BadMessage(f"'can' does not answer about the operation '{op[:32]}'")
    request = Can(GRANTING[op](wanted))
    wanted.done()
    return request


GRANTING: Final[dict[str, Callable[[Fields], Load | Tap | Create]]] = {
    "load": _read_load,
    "tap": _read_tap,
    "create": _read_create,
}
"""The requests that ``can`` accepts."""

READERS: Final[dict[str, Callable[[Fields], Request]]] = {
    "hello": lambda _: Hello(),
    "quota": lambda _: Quota(),
    "status": lambda _: Status(),
    "list": lambda _: ListTaps(),
    "delete": _read_delete,
    "can": _read_can,
    **GRANTING,
}
"""The function that reads the keys of each operation."""
