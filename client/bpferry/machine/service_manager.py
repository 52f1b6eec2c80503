# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd is told of a VM that it has started as a service (sd_notify(3)).

Each message is one datagram of lines; nobody waits for it to be read, and without a service manager
nothing is sent.
"""

import contextlib
import os
import socket
from typing import Final

from bpferry.domain.stop_time import MAX_STOP_SECONDS
from bpferry.machine.control.states import State

WORDS: Final = {
    State.STARTING: "QEMU starts",
    State.RUNNING: "the VM runs",
    State.PAUSED: "the VM is paused",
    State.SUSPENDED: "the guest sleeps",
    State.CRASHED: "the guest has crashed",
    State.SAVING: "the VM is being saved",
    State.MOVING: "the VM is being moved to another host",
    State.STOPPING: "the VM shuts down",
}
"""What ``systemctl --user status`` shows."""

END_SECONDS: Final = 20
"""From the end of a guest's time limit to our own end, at most."""


class ServiceManager:
    """The service manager above us, if there is one."""

    def __init__(self) -> None:
        """Take its address out of our environment: what we start is not the service."""
        path = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._is_ready = False
        self._last = ""

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def show(self, state: State) -> None:
        """Tell it the *state* of the VM in words, and the first time that the VM runs."""
        if state in (State.RUNNING, State.SUSPENDED) and not self._is_ready:
            self._is_ready = True
            self._tell("READY=1", f"STATUS={WORDS[state]}")
        elif WORDS[state] != self._last:
            self._tell(f"STATUS={WORDS[state]}")
        self._last = WORDS[state]

    def waits(self, text: str) -> None:
        """Tell it that the start takes as long as somebody needs for what *text* says."""
        self._tell(f"STATUS={text}", f"EXTEND_TIMEOUT_USEC={MAX_STOP_SECONDS}000000")

    def stopping(self, seconds: float | None) -> None:
        """Tell it that the VM ends: the guest has *seconds*, or as long as it needs."""
        limit = MAX_STOP_SECONDS if seconds is None else int(seconds) + END_SECONDS
        asked = "QEMU was told to end"
        if seconds != 0:
            asked = "the guest was asked to power down"
            asked += "" if seconds is None else f", within {seconds:g} s"
        self._last = WORDS[State.STOPPING]
        self._tell(
            "STOPPING=1",
            f"STATUS={asked}",
            f"EXTEND_TIMEOUT_USEC={limit}000000",
        )

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, self._address)
