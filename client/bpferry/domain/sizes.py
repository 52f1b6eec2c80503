# SPDX-License-Identifier: LGPL-2.1-or-later
"""Amounts of memory and storage: bytes in the model, a number and a unit in documents."""

import re
from typing import Final

UNITS: Final = {
    "b": 1, "byte": 1, "bytes": 1,
    "KB": 10**3, "k": 2**10, "K": 2**10, "KiB": 2**10,
    "MB": 10**6, "M": 2**20, "MiB": 2**20,
    "GB": 10**9, "G": 2**30, "GiB": 2**30,
    "TB": 10**12, "T": 2**40, "TiB": 2**40,
    "PB": 10**15, "P": 2**50, "PiB": 2**50,
    "EB": 10**18, "E": 2**60, "EiB": 2**60,
}  # fmt: skip
"""Those of libvirt (docs/formatdomain, 'memory'); any case is taken, as there."""

FOLDED: Final = {unit.lower(): factor for unit, factor in UNITS.items()}

MAX_BYTES: Final = 2**63 - 1
"""The largest size that QEMU takes (QAPI 'size' is 64 bits, and some of its users are signed)."""

WRITTEN: Final = ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB")


def parse_size(text: str, unit: str) -> int:
    """Return the bytes of *text*, a whole number, counted in *unit*.

    Raises:
        ValueError: it is not such a number, the unit is unknown, or the amount is out of bounds.
    """
    factor = FOLDED.get(unit.strip().lower())
    if factor is None:
        raise ValueError(f"expected a unit such as {', '.join(reversed(WRITTEN))}, not '{unit}'")
    if not re.fullmatch(r"[0-9]{1,30}", text.strip()):
        raise ValueError("expected a whole number that is not negative")
    amount = int(text) * factor
    if amount > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes")
    return amount


def parse_written(text: str) -> int:
    """Return the bytes of *text* such as ``512 MiB``; a number without a unit is refused."""
    found = re.fullmatch(r"\s*([0-9]+)\s*([A-Za-z]+)\s*", text)
    if not found:
        raise ValueError("expected a whole number with a unit, as in '512 MiB'")
    return parse_size(found[1], found[2])


def suggest_size(text: str) -> str:
    """Return how *text*, which is not a size, can be written as one; empty if that is not clear."""
    found = re.fullmatch(r"\s*([0-9]{1,9})(?:[.,]([0-9]{1,6}))?\s*([A-Za-z]*)\s*", text)
    if found is None:
        return ""
    whole, part, unit = found.groups()
    if not unit:
        return "" if part else f"{whole} MiB"
    factor = FOLDED.get(unit.lower(), 0)
    amount = int(whole) * factor + int(part or 0) * factor // 10 ** len(part or "")
    return "{} {}".format(*split_size(amount)) if 0 < amount <= MAX_BYTES else ""


def split_size(amount: int) -> tuple[int, str]:
    """Return *amount* bytes as a number and the largest unit that leaves no remainder."""
    for unit in WRITTEN:
        if amount and amount % UNITS[unit] == 0:
            return amount // UNITS[unit], unit
    return amount, "bytes"
