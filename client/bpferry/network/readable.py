# SPDX-License-Identifier: LGPL-2.1-or-later
"""Wait for an answer without reading it, so that a user who waits for long can be told."""

import select
import socket


def is_readable(sock: socket.socket, seconds: float | None) -> bool:
    """Wait until *sock* can be read or was closed, at most *seconds*; say whether that is so.

    None waits for ever.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
