# SPDX-License-Identifier: LGPL-2.1-or-later
"""How QEMU ended, in words for people, and what it means if a signal ended it."""

import signal
from collections.abc import Mapping, Sequence

from bpferry.domain.forms import in_form
from bpferry.errors import QemuError
from bpferry.machine.preparation import Prepared
from bpferry.machine.refusals import located
from bpferry.machine.reporter import Reporter
from bpferry.qemu.process import describe_exit
from bpferry.qemu.signals import explain_signal


def describe_end(status: int) -> str:
    """Say how QEMU ended: by its exit status, or by the signal whose negative *status* is."""
    described = describe_exit(status)
    return f"QEMU was {described}" if status < 0 else f"QEMU ended with {described}"


def hint_of(status: int, pid: int) -> str:
    """Return what to do about such an end of the process *pid*; empty if that is unclear."""
    return explain_signal(status, pid, "QEMU")


def report_end(reporter: Reporter, status: int, pid: int, *, killed: bool) -> None:
    """Report how the QEMU *pid* ended; *killed* if we killed it because the user asked for that."""
    if killed and status == -signal.SIGKILL:
        reporter.note("QEMU was killed, and the VM has stopped")
    elif status < 0:
        reporter.warn(f"the VM has stopped: {describe_end(status)}", hint_of(status, pid))
    elif status:
        reporter.note(f"the VM has stopped: {describe_end(status)}")
    else:
        reporter.note("the VM has stopped")


def early_end(prepared: Prepared, status: int, pid: int, evidence: str) -> QemuError:
    """Return what to tell the user of the QEMU *pid* that ended before it ran the VM.

    The user has already seen its own messages, with which *evidence* ends, line by line.
    """
    from bpferry.machine.complaints import find_key  # noqa: PLC0415 - for a QEMU that fails only
    from bpferry.machine.remedies import find_remedy  # noqa: PLC0415 - as above

    lines = [line for line in evidence.splitlines() if ": warning: " not in line]
    message = f"{describe_end(status)} before it could run the VM"
    hint = hint_of(status, pid) or _secret_in(lines, prepared.secrets)
    hint = hint or find_remedy(lines, prepared.argv[0])
    document = prepared.document
    error = QemuError(message, in_form(hint, document.kind), evidence)
    key = find_key(lines, prepared.built, document.machine)
    return located(error, document, key) if key else error


def _secret_in(lines: Sequence[str], secrets: Mapping[str, str]) -> str:
    """Say where the secret comes from that QEMU names in the last of *lines*."""
    last = "".join(lines[-1:])
    return "; ".join(
        f"QEMU has been given {described}"
        for name, described in secrets.items()
        if f'"{name}"' in last
    )
