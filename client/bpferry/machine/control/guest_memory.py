# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ring indices in a guest's memory: read in QEMU's own memory, or shown by QEMU.

QEMU takes a command byte by byte, with some system calls for each (monitor_can_read in
monitor/monitor.c), so that one ``xp`` costs it 0.4 ms of processor time. Therefore it is asked once
where an index is in its own memory (``gpa2hva``). There we read it through /proc/PID/mem, as a
parent may (ptrace(2), "Ptrace access mode checking"), and QEMU does nothing.

A place is believed once QEMU has shown an index that lies between two of our reads. Where reading
is not allowed, or this does not come true, QEMU is asked each time. Never writes.
"""

import asyncio
import os
import re
import struct
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from bpferry.steering.rings import INDICES

HEAD: Final = struct.Struct("<HH")
"""The first two words of a ring's part, in this byte order on any host: its flags and its index
(virtio 1.3, 2.7.6 and 2.7.8)."""

SHOWN_HEAD: Final = re.compile(r": (?:0x[0-9a-f]{2} ){2}0x([0-9a-f]{2}) 0x([0-9a-f]{2})", re.ASCII)
"""The same four bytes as ``xp`` shows them."""

SHOWN_PLACE: Final = re.compile(r" is 0x([0-9a-f]+)\s*\Z", re.ASCII)
"""What ``gpa2hva`` says of an address that is in memory."""

Ask = Callable[[str, dict[str, object]], Awaitable[object]]
"""Sends QEMU a command with its arguments."""


class GuestMemory:
    """The memory of the guest of the QEMU with *pid*, which is asked by *ask*."""

    def __init__(self, pid: int, ask: Ask) -> None:
        self._path = f"/proc/{pid}/mem"
        self._ask = ask
        self._places: dict[int, int | None] = {}
        """By the guest's address, the one in QEMU; None if it cannot be read there."""

    async def learn(self, addresses: Collection[int]) -> None:
        """Find where the indices at these *addresses* are, and forget all others."""
        self._places = {at: place for at, place in self._places.items() if at in addresses}
        new = [address for address in addresses if address not in self._places]
        places = await asyncio.gather(*map(self._find, new))
        self._places.update(zip(new, places, strict=True))

    def peek(self, addresses: Iterable[int]) -> dict[int, int]:
        """Return the indices at *addresses*, as many as can be read without QEMU."""
        places = {address: self._places.get(address) for address in addresses}
        return self._read({at: place for at, place in places.items() if place is not None})

    async def indices(self, addresses: Collection[int]) -> dict[int, int]:
        """Return the indices at *addresses*; those that QEMU has to be asked for too."""
        found = self.peek(addresses)
        left = [address for address in addresses if address not in found]
        shown = zip(left, await asyncio.gather(*map(self._show, left)), strict=True)
        return found | {address: index for address, index in shown if index is not None}

    async def _find(self, address: int) -> int | None:
        found = SHOWN_PLACE.search(await self._tell(f"gpa2hva {address:#x}"))
        if found is None:
            return None
        place = {address: int(found[1], 16)}
        before = self._read(place)
        if not before:
            return None
        shown = await self._show(address)
        after = self._read(place)
        if shown is None or not after:
            return None
        first, last = before[address], after[address]
        is_between = (shown - first) % INDICES <= (last - first) % INDICES
        return place[address] if is_between else None

    def _read(self, places: dict[int, int]) -> dict[int, int]:
        """Return the index at each of *places*, without those that cannot be read."""
        indices: dict[int, int] = {}
        try:
            memory = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return indices
        try:
            for address, place in places.items():
                _, indices[address] = HEAD.unpack(os.pread(memory, HEAD.size, place))
        except (OSError, OverflowError, struct.error):
            # Not mapped there, or not memory: QEMU is asked for this one and the rest.
            return indices
        finally:
            os.close(memory)
        return indices

    async def _show(self, address: int) -> int | None:
        found = SHOWN_HEAD.search(await self._tell(f"xp /4bx {address:#x}"))
        return None if found is None else int(found[2] + found[1], 16)

    async def _tell(self, line: str) -> str:
        return str(await self._ask("human-monitor-command", {"command-line": line}))
