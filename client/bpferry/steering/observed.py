# SPDX-License-Identifier: LGPL-2.1-or-later
"""One card of a running VM at one moment, as it travels from its supervisor to a command.

Depends on nothing that runs: values in, values out. What is read is in ``machine.control.queues``.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from bpferry.steering.maps import TABLE_ENTRIES, Steering
from bpferry.steering.plan import Rung
from bpferry.steering.rings import INDICES, Direction, Ring
from bpferry.steering.toeplitz import KEY_BYTES, HashType
from bpferry_wire import limits
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage


class Observed(Struct, frozen=True):
    """What is known of one card."""

    card_id: str
    rung: Rung
    """As planned."""
    because: str
    """Why that rung."""
    vhost: bool
    queues: int
    vcpus: int
    time_ns: int
    """Of a clock that only goes forward."""
    driver: bool
    """Whether the guest's driver is up."""
    steering: Steering | None
    """None if there is nothing to read: only cards that eBPF steers have maps."""
    switched_on: int | None = None
    """How many queues of its tap the guest has switched on; None if that is not known."""
    in_force: bool | None = None
    """Whether the card is steered as planned; None if that is not known."""
    difference: str = ""
    """What differs from the plan; empty if nothing does or nothing is known yet."""
    hint: str = ""
    """What is likely to be behind the difference."""
    rings: tuple[Ring, ...] = ()
    uncounted: str = ""
    """Why there are no rings."""


def to_fields(observed: Observed) -> dict[str, object]:
    """Return *observed* for a packet."""
    return {
        "card": observed.card_id,
        "rung": str(observed.rung),
        "because": observed.because,
        "vhost": observed.vhost,
        "queues": observed.queues,
        "vcpus": observed.vcpus,
        "time_ns": observed.time_ns,
        "driver": observed.driver,
        "steering": None if observed.steering is None else _steering_fields(observed.steering),
        "switched_on": observed.switched_on,
        "in_force": observed.in_force,
        "difference": observed.difference,
        "hint": observed.hint,
        "rings": [_ring_fields(ring) for ring in observed.rings],
        "uncounted": observed.uncounted,
    }


def _steering_fields(steering: Steering) -> dict[str, object]:
    return {
        "redirect": steering.redirect,
        "hash_types": int(steering.hash_types),
        "key": steering.key,
        "table": list(steering.table),
        "default_queue": steering.default_queue,
    }


def _ring_fields(ring: Ring) -> dict[str, object]:
    fields: dict[str, object] = {
        "queue": ring.queue,
        "direction": str(ring.direction),
        "size": ring.size,
        "used": ring.used,
    }
    return fields if ring.waiting is None else {**fields, "waiting": ring.waiting}


MAX_RING: Final = 32_768
"""The largest ring (virtio 1.3, 2.7)."""


def from_fields(told: Mapping[str, object]) -> Observed:
    """Return what *told*, from a packet, says.

    Raises:
        BadMessage: it is something else, as from a supervisor of another version.
    """
    fields = Fields(dict(told), "the answer")
    try:
        return Observed(
            card_id=fields.text("card"),
            rung=Rung(fields.text("rung")),
            because=fields.text("because"),
            vhost=fields.boolean("vhost"),
            queues=fields.integer("queues"),
            vcpus=fields.integer("vcpus"),
            time_ns=fields.integer("time_ns", 0, limits.UINT64_MAX),
            driver=fields.boolean("driver"),
            steering=_steering(fields.fields("steering")) if fields.has("steering") else None,
            switched_on=fields.integer("switched_on") if fields.has("switched_on") else None,
            in_force=fields.boolean("in_force") if fields.has("in_force") else None,
            difference=fields.text("difference"),
            hint=fields.text("hint"),
            rings=tuple(map(_ring, fields.records("rings"))),
            uncounted=fields.text("uncounted"),
        )
    except ValueError as error:
        raise BadMessage(f"the answer has an unknown word: {error}") from error


def _steering(fields: Fields) -> Steering:
    return Steering(
        redirect=fields.boolean("redirect"),
        hash_types=HashType(fields.integer("hash_types")),
        key=fields.octets("key", KEY_BYTES),
        table=fields.integers("table")[:TABLE_ENTRIES],
        default_queue=fields.integer("default_queue"),
    )


def _ring(fields: Fields) -> Ring:
    return Ring(
        queue=fields.integer("queue"),
        direction=Direction(fields.text("direction")),
        size=fields.integer("size", 0, MAX_RING),
        used=fields.integer("used", 0, INDICES - 1),
        waiting=fields.integer("waiting", 0, MAX_RING) if fields.has("waiting") else None,
    )
