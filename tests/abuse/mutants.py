# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changes an eBPF object at random: the same seed gives the same mutants."""

import random
from collections.abc import Iterator
from typing import Final

from bpferry_helper.bpf.embedded import ELF_HEADER

MOST_BYTES: Final = 49_152
"""A splice makes an object longer, at most to more than twice of what "rss" has."""

MOST_FLIPS: Final = 16

EXTREME: Final = (0, 1, 0x7F, 0x80, 0xFF)
"""Bytes that lengths and offsets may overflow with."""


def mutants(original: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield *count* changed copies of *original*, none of which is the same as it.

    Nor does one begin with all of it: where its length is known, that would be the original.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    while count:
        mutant = chance.choice(WAYS)(original, chance)
        if not mutant.startswith(original):
            count -= 1
            yield mutant


def _flipped(original: bytes, chance: random.Random) -> bytes:
    """Flip some bits, wherever they are."""
    changed = bytearray(original)
    for _ in range(chance.randint(1, MOST_FLIPS)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _with_another_header(original: bytes, chance: random.Random) -> bytes:
    """Write extreme bytes into the ELF header, which says how long the object is."""
    changed = bytearray(original)
    at = chance.randrange(ELF_HEADER.size)
    length = chance.randint(1, min(8, ELF_HEADER.size - at))
    changed[at : at + length] = bytes(chance.choices(EXTREME, k=length))
    return bytes(changed)


def _cut(original: bytes, chance: random.Random) -> bytes:
    """Cut the end off, or a piece out of the middle."""
    start = chance.randrange(len(original))
    end = chance.choice((len(original), chance.randint(start, len(original))))
    return original[:start] + original[end:]


def _spliced(original: bytes, chance: random.Random) -> bytes:
    """Put a piece of it somewhere else, beside what is there or in its place."""
    start = chance.randrange(len(original))
    piece = original[start : start + chance.randint(1, MOST_BYTES - len(original))]
    # From the start, it is another ELF header.
    piece = chance.choice((piece, original[: len(piece)]))
    at = chance.randrange(len(original))
    replaced = chance.choice((0, len(piece)))
    return original[:at] + piece + original[at + replaced :]


WAYS: Final = (_flipped, _with_another_header, _cut, _spliced)
