# SPDX-License-Identifier: LGPL-2.1-or-later
"""What devices are called: by the user's alias, or by their kind and number, as in libvirt."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from bpferry.domain.model.base import Device
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine

D = TypeVar("D", bound=Device)

USER_PREFIX = "ua-"
"""How an alias that a user chose begins (docs/formatdomain, 'alias'); others are of a past run."""


def named(devices: Sequence[D], key: str, prefix: str) -> Iterator[tuple[str, str, D]]:
    """Yield key, id and value of each of *devices*, such as ``rngs[0]`` and ``rng0``."""
    for index, device in enumerate(devices):
        yield f"{key}[{index}]", chosen(device) or f"{prefix}{index}", device


def chosen(device: Device) -> str | None:
    """Return the id that the user chose for *device*, if any."""
    alias = device.alias
    return alias if alias is not None and alias.startswith(USER_PREFIX) else None


def cards_of(machine: Machine) -> Iterator[tuple[str, str, Card]]:
    """Yield key, id and value of each network card."""
    return named(machine.cards, "cards", "net")
