# SPDX-License-Identifier: LGPL-2.1-or-later
"""The end of a libvirt domain."""

import time
from collections.abc import Sequence
from typing import Final

from guest.command import GuestError, run

ENDS_WITHIN_S: Final = 300.0


def end_domain(virsh: Sequence[str], name: str) -> None:
    """End the domain called *name*; *virsh* is the program with its options.

    On a busy machine libvirt gives up before QEMU is gone, and asks to try again.

    Raises:
        GuestError: it is still there.
    """
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        try:
            run([*virsh, "destroy", name])
        except GuestError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        if run([*virsh, "domstate", name]).strip() == "shut off":
            return
