# SPDX-License-Identifier: LGPL-2.1-or-later
"""Datagrams there and back between all stations on the bridge, up to the longest frames."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from guest import echo
from guest.command import GuestError
from guest.console import Console
from guest.netns import Namespace
from steering_demo.stations import FIRST, HOST, SECOND, Station

SIZES: Final = (100, 8900)
"""Bytes; the second is too long for any frame but a jumbo frame."""

TOOLS: Final = Path(__file__).resolve().parents[1]

ComesBack = Callable[[str, int], bool]
"""Returns whether a datagram comes back from an address."""


class Exchange(NamedTuple):
    """The outcome of one datagram that must not be fragmented."""

    source: str
    destination: str
    address: str
    size: int
    came_back: bool

    def __str__(self) -> str:
        what = "came back" if self.came_back else "DID NOT COME BACK"
        way = f"{self.source} to {self.destination}"
        return f"{way:<18}  {self.address:<9}  {self.size:>5} bytes  {what}"


def play_exchanges(space: Namespace, first: Console, second: Console) -> Iterator[Exchange]:
    """Exchange datagrams between the host in *space* and both guests, every pair."""
    yield from _exchange(HOST, FIRST, _from_host(space))
    yield from _exchange(HOST, SECOND, _from_host(space))
    yield from _exchange(FIRST, SECOND, _from_guest(first))
    yield from _exchange(SECOND, FIRST, _from_guest(second))


def _exchange(source: Station, destination: Station, comes_back: ComesBack) -> Iterator[Exchange]:
    for address in destination.addresses:
        for size in SIZES:
            came = comes_back(address, size)
            yield Exchange(source.name, destination.name, address, size, came)


def _from_guest(console: Console) -> ComesBack:
    def comes_back(address: str, size: int) -> bool:
        timeout = echo.SECONDS * 2
        return console.ask("exchange", timeout, address=address, bytes=size)["back"] is True

    return comes_back


def _from_host(space: Namespace) -> ComesBack:
    def comes_back(address: str, size: int) -> bool:
        program = [sys.executable, "-B", "-m", "guest.echo", address, str(size)]
        try:
            space.run(["env", f"PYTHONPATH={TOOLS}", *program])
        except GuestError:
            return False
        return True

    return comes_back
