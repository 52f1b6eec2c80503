# SPDX-License-Identifier: LGPL-2.1-or-later
"""What belongs to the VM as a whole and to no part of it."""

from typing import Annotated

import msgspec

from bpferry.domain.binding import At, Table
from bpferry.domain.model.base import Uuid


class GenerationId(Table, frozen=True, kw_only=True):
    """A number that tells the guest that it is another one, such as a restored snapshot."""

    value: Annotated[Uuid | None, At(".")] = None
    """A new one for each start where there is none."""


class Variable(Table, frozen=True, kw_only=True):
    """A variable of QEMU's environment."""

    name: Annotated[
        Annotated[
            str,
            msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the name of a variable"),
        ],
        At("@name"),
    ]
    value: Annotated[str, At("@value")] = ""
