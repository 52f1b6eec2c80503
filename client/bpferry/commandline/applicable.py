# SPDX-License-Identifier: LGPL-2.1-or-later
"""Refuse what is set and has no meaning where it stands: nothing is passed over in silence."""

from collections.abc import Collection
from typing import Final

from bpferry.domain.binding import Table
from bpferry.domain.model.base import Device
from bpferry.domain.names import Named
from bpferry.domain.shape import fields_of

SEEN_TO_ELSEWHERE: Final = ("acpi_index",)
"""What any device may have (``acpi_index``)."""


def refuse_others(part: Named[Table], meaningful: Collection[str], owner: str) -> None:
    """Raise Unsupported if a field of *part* is set that is not *meaningful* for *owner*."""
    for field in fields_of(type(part.value)):
        if field.name in (*meaningful, *SEEN_TO_ELSEWHERE):
            continue
        if getattr(part.value, field.name) != field.default:
            raise part.refusal(field.key, f"it has no meaning for {owner}", "leave it out")


def check_address(device: Named[Device], *types: str) -> None:
    """Raise Unsupported unless the address of *device*, if it has one, is of one of *types*."""
    where = device.value.address
    if where is None or where.type in types:
        return
    if not types:
        raise device.refusal("address", "it has no address", "leave the address out")
    possible = " or ".join(f"'{name}'" for name in types)
    raise device.refusal(
        "address",
        f"its address is of type {possible}, not '{where.type}'",
        "leave the address out, and it gets one",
    )
