# SPDX-License-Identifier: LGPL-2.1-or-later
"""Send numbered datagrams to a guest's echo port, from several ports, until standard input closes.

Prints a line with the number of each that comes back, and at the end how many were sent.
"""

import select
import socket
import sys
import time
from contextlib import suppress

PERIOD_S = 0.02

PORTS = 16
"""So that they go to several queues of the guest."""

LAST_WAIT_S = 2.0
"""For those that are on their way at the end."""


def _main(address: str, port: int) -> None:
    sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(PORTS)]
    for source in sources:
        source.settimeout(0)
    sent = 0
    while not _is_closed():
        with suppress(OSError):
            # One that cannot be sent is lost, and counts as such.
            sources[sent % PORTS].sendto(str(sent).encode(), (address, port))
        sent += 1
        _hear(sources, PERIOD_S)
    _hear(sources, LAST_WAIT_S)
    print("sent", sent, flush=True)  # noqa: T201 - the output


def _is_closed() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _hear(sources: list[socket.socket], seconds: float) -> None:
    """Print what comes back within *seconds*."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for source in select.select(sources, [], [], left)[0]:
            with suppress(OSError):
                # The guest may have refused one that came before.
                print(source.recv(64).decode(), flush=True)  # noqa: T201 - the output


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
