# SPDX-License-Identifier: LGPL-2.1-or-later
"""Find out whether KVM works here, by trying it.

/dev/kvm may open where KVM then hangs or fails, in nested and in sandboxed hosts. So the answer
comes from a guest: QEMU starts an empty machine with its own firmware, which writes its banner to
the debug port 0x402 within some milliseconds. One byte from there was written by guest code.

This is a heuristic for x86, whose firmware does that. On other machines ``auto`` means TCG, and
who has KVM says ``accelerator = "kvm"``.
"""

import os
import select
from typing import Final

from bpferry.domain.model import Accelerator
from bpferry.errors import QemuError
from bpferry.qemu import process

TRIAL_SECONDS: Final = 3.0
"""The banner came after 0.06 s with TCG, which is slower than any KVM that works."""

DEBUG_PORT: Final = "0x402"
"""Where SeaBIOS writes what it does (docs/debugging in SeaBIOS)."""

KVM_DEVICE: Final = "/dev/kvm"


def choose(wanted: Accelerator, qemu: str, machine_type: str) -> tuple[Accelerator, str]:
    """Return the accelerator to use, never ``AUTO``, and a sentence that says why."""
    if wanted is not Accelerator.AUTO:
        return wanted, f"{wanted.value.upper()}, as the description says"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return Accelerator.TCG, f"TCG: '{KVM_DEVICE}' is not there or not open to you"
    if machine_type.partition("-")[0] not in ("q35", "pc"):
        return Accelerator.TCG, "TCG: KVM can be tried out on x86 only; ask for it by name"
    problem = trial(qemu, Accelerator.KVM)
    if problem:
        return Accelerator.TCG, f"TCG: KVM does not work here: {problem}"
    return Accelerator.KVM, "KVM"


def arguments(accelerator: Accelerator) -> tuple[str, ...]:
    """Return QEMU's options for *accelerator*, with the fullest processor that it can give."""
    return (
        "-accel", accelerator.value,
        "-cpu", "host" if accelerator is Accelerator.KVM else "max",
    )  # fmt: skip


def trial(qemu: str, accelerator: Accelerator, seconds: float = TRIAL_SECONDS) -> str:
    """Run an empty machine until its firmware speaks; return what went wrong, or nothing."""
    output, inside = os.pipe()
    try:
        with process.start_child(_trial_arguments(qemu, accelerator, inside), [inside]) as child:
            # Ours has to be closed for the end of the child to be the end of the pipe.
            os.close(inside)
            inside = -1
            ready, _, _ = select.select([output], [], [], seconds)
            if ready and os.read(output, 1):
                return ""
            if not ready:
                return f"a guest's first instructions did not run within {seconds:g} s"
            status = process.describe_exit(child.exit_status())
            lines = child.tail().splitlines()
            return lines[0].strip() if lines else f"QEMU ended with {status}"
    except QemuError as error:
        return error.message
    finally:
        os.close(output)
        if inside >= 0:
            os.close(inside)


def _trial_arguments(qemu: str, accelerator: Accelerator, fd: int) -> tuple[str, ...]:
    return (
        qemu,
        "-no-user-config",
        "-nodefaults",
        "-display", "none",
        "-machine", "q35",
        *arguments(accelerator),
        "-m", "32M",
        # A pipe is written to through its name in the child's own /proc.
        "-chardev", f"file,id=debug,path=/proc/self/fd/{fd}",
        "-device", f"isa-debugcon,iobase={DEBUG_PORT},chardev=debug",
    )  # fmt: skip
