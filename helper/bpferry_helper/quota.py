# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a quota has a place for one more: the same bounds for sets and for taps."""

from collections.abc import Collection
from enum import Enum, auto


class Full(Enum):
    """Whose quota has no place left."""

    THE_USERS = auto()
    ALL_TOGETHER = auto()


def find_full(
    uid: int, owners: Collection[int], coming: Collection[int], per_user: int, in_total: int
) -> Full | None:
    """Say whose quota one more thing of *uid* would exceed; None if nobody's.

    Args:
        uid: who asks.
        owners: of each thing that may be alive, whose it is.
        coming: of each thing that is being made, whose it will be.
        per_user: the most that one user may have.
        in_total: the most that all users may have together.
    """
    mine = sum(owner == uid for owner in (*owners, *coming))
    if mine >= per_user:
        return Full.THE_USERS
    return Full.ALL_TOGETHER if len(owners) + len(coming) >= in_total else None
