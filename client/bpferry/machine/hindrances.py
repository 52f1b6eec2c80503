# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a VM from starting on this host, as far as it can be found before anything is opened.

A dry run and ``bpferry check`` tell all of it, and a start fails with the first.
"""

from collections.abc import Iterator

from bpferry.errors import BpferryError
from bpferry.machine.certificates import find_missing_certificates
from bpferry.machine.draft import Draft
from bpferry.machine.files import find_missing_files
from bpferry.machine.host_devices import find_host_faults
from bpferry.machine.locked_memory import find_limit_fault, own_limits
from bpferry.machine.refusals import located
from bpferry.machine.secrets import find_problems
from bpferry.machine.uefi_files import find_firmware_faults


def find_hindrances(draft: Draft) -> Iterator[BpferryError]:
    """Yield each with its place in the document."""
    yield from find_missing_files(draft.document)
    found = (
        find_firmware_faults(draft.context),
        find_host_faults(draft.context),
        find_limit_fault(draft.built, own_limits()),
        find_problems(draft.built, draft.secret_files),
        find_missing_certificates(draft.built),
    )
    for faults in found:
        for fault in faults:
            yield located(fault, draft.document)
