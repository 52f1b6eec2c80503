# SPDX-License-Identifier: LGPL-2.1-or-later
"""Refuse what is set and has no meaning where it is: nothing is ignored silently."""

from collections.abc import Collection, Iterator
from typing import Final

from bpferry.domain.binding import Table
from bpferry.domain.forms import name_of
from bpferry.domain.model.base import Device
from bpferry.domain.names import Named
from bpferry.domain.shape import fields_of
from bpferry.domain.shown import any_of
from bpferry.errors import Unsupported

SEEN_TO_ELSEWHERE: Final = ("acpi_index",)
"""What any device may have (``acpi_index``)."""


def refuse_others(
    part: Named[Table], meaningful: Collection[str], owner: str
) -> Iterator[Unsupported]:
    """Yield a refusal for each field of *part* that is set and not *meaningful* for *owner*."""
    for field in fields_of(type(part.value)):
        if field.name in (*meaningful, *SEEN_TO_ELSEWHERE):
            continue
        if getattr(part.value, field.name) != field.default:
            name = name_of(field)
            yield part.mistake(field.key, f"{name} has no meaning for {owner}", f"leave out {name}")


def check_address(device: Named[Device], *types: str) -> Iterator[Unsupported]:
    """Yield a refusal unless the address of *device*, if it has one, is of one of *types*."""
    where = device.value.address
    if where is None or where.type in types:
        return
    if not types:
        yield device.mistake("address", "it has no address", "leave the address out")
        return
    possible = any_of(f"'{name}'" for name in types)
    yield device.mistake(
        "address",
        f"its address is of type {possible}, not '{where.type}'",
        "leave the address out, and it gets one",
    )
