# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rates for people, such as ``100 Mbit/s`` and ``12 MB/s``: the policy and options have them."""

import re
from typing import Final

from bpferry_wire.limits import MAX_RATE, MIN_RATE

BITS: Final = {"Gbit": 10**9, "Mbit": 10**6, "kbit": 10**3}
BYTES: Final = {"GB": 10**9, "MB": 10**6, "kB": 10**3}

WRITTEN: Final = rf"([1-9][0-9]{{0,9}}) ?({'|'.join((*BITS, *BYTES))})/s"


def parse_rate(text: str) -> int:
    """Return the bytes per second of *text*.

    Raises:
        ValueError: with words that follow the name of what was written.
    """
    found = re.fullmatch(WRITTEN, text)
    if found is None:
        raise ValueError("must be a rate such as '100 Mbit/s' or '12 MB/s'")
    number, unit = int(found[1]), found[2]
    rate = number * BYTES[unit] if unit in BYTES else number * BITS[unit] // 8
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"must be from {rate_in_words(MIN_RATE)} to {rate_in_words(MAX_RATE)}")
    return rate


def rate_in_words(rate: int) -> str:
    """Return *rate*, in bytes per second, in the unit that networks are sold in."""
    bits = rate * 8
    unit = next((unit for unit, factor in BITS.items() if bits >= factor), "kbit")
    return f"{bits / BITS[unit]:.12g} {unit}/s"


def limits_in_words(inbound: int, outbound: int) -> str:
    """Return both limits of a card, of which 0 is none; empty if it has neither."""
    named = ((inbound, "to the VM"), (outbound, "from it"))
    return ", ".join(f"at most {rate_in_words(rate)} {way}" for rate, way in named if rate)
