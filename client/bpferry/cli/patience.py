# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands whose answer may take long, and a user who is told so."""

from bpferry.cli import output
from bpferry.machine.control.client import PATIENT_SECONDS, Control
from bpferry.machine.control.running import connect


def connect_patiently(vm_name: str) -> Control:
    """Connect to the VM called *vm_name* for a command that its QEMU must not leave half done.

    Raises:
        NotRunning: there is none.
    """
    control = connect(vm_name, PATIENT_SECONDS)
    control.slow = lambda: output.say(
        f"'{vm_name}' has not answered yet: its QEMU or this host is slow; waiting for it"
    )
    return control
