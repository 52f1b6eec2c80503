# SPDX-License-Identifier: LGPL-2.1-or-later
"""Refuse what is set and has no meaning where it stands: nothing is passed over in silence."""

from collections.abc import Collection

from bpferry.commandline.context import unsupported
from bpferry.domain.binding import Table
from bpferry.domain.model.base import Device
from bpferry.domain.shape import fields_of


def refuse_others(table: Table, key: str, meaningful: Collection[str], owner: str) -> None:
    """Raise Unsupported if a field of *table* is set that is not *meaningful* for *owner*."""
    for field in fields_of(type(table)):
        if field.name not in meaningful and getattr(table, field.name) != field.default:
            raise unsupported(
                f"{key}.{field.key}",
                f"'{field.key}' says nothing about {owner}",
                "take it out",
            )


def check_address(device: Device, key: str, *types: str) -> None:
    """Raise Unsupported unless the address of *device*, if it has one, is of one of *types*."""
    where = device.address
    if where is not None and where.type not in types:
        possible = " or ".join(f"'{name}'" for name in types) or "none at all"
        raise unsupported(
            f"{key}.address",
            f"an address of type '{where.type}' is given where it can be {possible}",
        )
