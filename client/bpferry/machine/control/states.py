# SPDX-License-Identifier: LGPL-2.1-or-later
"""The states of a VM, and which events of QEMU lead to them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What a VM does, in words for people and programs."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    """Its guest sleeps, and wakes up at an event such as a key."""
    CRASHED = "crashed"
    """Its guest says that it has crashed (a panic device), and runs no more."""
    SAVING = "being saved"
    MOVING = "being moved"
    """It goes to another host, and runs here until it is there."""
    STOPPING = "stopping"
    """It was asked to end, or its guest shuts down."""


STATES: Final[Mapping[str, State]] = {
    "STOP": State.PAUSED,
    "SUSPEND": State.SUSPENDED,
    "WAKEUP": State.RUNNING,
    "GUEST_PANICKED": State.CRASHED,
    "SHUTDOWN": State.STOPPING,
}
"""Which state a VM is in after an event of QMP (qapi/run-state.json); RESUME ends a pause."""

LASTING: Final = (State.STOPPING, State.CRASHED, State.SAVING, State.MOVING)
"""States in which QEMU stops the processors too, which changes nothing for the user."""

ASLEEP: Final[Mapping[str, bool]] = {"SUSPEND": True, "WAKEUP": False, "RESET": False}
"""Whether the guest sleeps after an event. A pause and its end change nothing in that."""
