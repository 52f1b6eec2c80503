# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a card's packets spread over its queues, for programs."""

from collections.abc import Iterator

from bpferry.cli.steering_meter import Measured
from bpferry.cli.steering_text import queues_of, type_names
from bpferry.steering.maps import Steering
from bpferry.steering.remarks import shares
from bpferry.steering.rings import Direction, Ring


def as_fields(measured: Measured) -> dict[str, object]:
    """Return one card, for JSON."""
    card = measured.card
    return {
        "id": card.card_id,
        "steering": str(card.rung),
        "because": card.because,
        "in_force": card.in_force,
        "vhost": card.vhost,
        "driver": card.driver,
        "switched_on": card.switched_on if card.driver else None,
        "vcpus": card.vcpus,
        "rss": None if card.steering is None else _settings(card.steering),
        "seconds": measured.seconds,
        "not_counted": card.uncounted or None,
        "queues": list(_queues(measured)),
        "warnings": [
            {"message": notice.message, "hint": notice.hint} for notice in measured.warnings
        ],
    }


def _settings(steering: Steering) -> dict[str, object]:
    return {
        "on": steering.redirect,
        "hash_types": type_names(steering.hash_types),
        "key": steering.key.hex(),
        "table": list(steering.table),
        "default_queue": steering.default_queue,
    }


def _queues(measured: Measured) -> Iterator[dict[str, object]]:
    steering = measured.card.steering
    parts = shares(steering.table) if steering is not None and steering.table else {}
    rings = {ring.place: ring for ring in measured.card.rings}
    for queue in queues_of(measured):
        yield {
            "queue": queue,
            "share_of_table": parts.get(queue, 0.0) if parts else None,
            **{str(way): _ring(measured, rings.get((queue, way))) for way in Direction},
        }


def _ring(measured: Measured, ring: Ring | None) -> dict[str, object] | None:
    """Return one ring; its ``waiting`` is room for packets to receive, or packets to be sent."""
    if ring is None:
        return None
    return {
        "packets": measured.packets.get(ring.place, 0),
        "packets_per_second": round(measured.rates.get(ring.place, 0.0), 1),
        "size": ring.size,
        "waiting": ring.waiting,
    }
