# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether other processes can reach the guest's memory, as all of vhost-user needs."""

from typing import Final

from bpferry.domain.forms import either
from bpferry.domain.model.machine import Machine

SHARED: Final = either(
    'source = "memfd" and access = "shared" in [memory-backing]',
    "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
)
"""What to write so that it is."""


def has_shared_memory(machine: Machine) -> bool:
    """Say whether all of the guest's memory is shared with other processes."""
    backing = machine.memory_backing
    general = backing.access if backing else None
    cells = machine.cpu.numa
    if not cells:
        return general == "shared"
    return all((cell.access or general) == "shared" for cell in cells)
