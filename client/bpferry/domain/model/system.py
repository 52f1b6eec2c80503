# SPDX-License-Identifier: LGPL-2.1-or-later
"""What belongs to the VM as a whole and to no part of it."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Placed, Table
from bpferry.domain.model.base import Uuid


class GenerationId(Table, frozen=True, kw_only=True):
    """A number that tells the guest that it is a different VM now, such as a restored snapshot."""

    value: Placed[Uuid | None, At(".")] = None
    """By default a new one for each start."""


class Variable(Table, frozen=True, kw_only=True):
    """A variable of QEMU's environment."""

    name: Placed[
        Annotated[
            str,
            msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the name of a variable"),
        ],
        At("@name"),
    ]
    value: Placed[str, At("@value")] = ""


class Property(Table, frozen=True, kw_only=True):
    """One property of a device of QEMU."""

    name: Placed[
        Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]+$", description="a property's name")],
        At("@name"),
    ]
    type: Placed[Literal["string", "signed", "unsigned", "bool", "remove"], At("@type")]
    value: Placed[str | None, At("@value")] = None
    """None to remove the property."""


class Override(Table, frozen=True, kw_only=True):
    """Properties that the user sets on a device of QEMU, whatever bpferry would set."""

    device: Placed[str, At("@alias")]
    """Its id."""
    properties: Placed[tuple[Property, ...], At("qemu:frontend/qemu:property")] = ()
