# SPDX-License-Identifier: LGPL-2.1-or-later
"""Find out whether an accelerator works here, by running a guest of a few instructions.

On nested and sandboxed hosts, /dev/kvm may open although KVM then hangs or fails. So the answer
comes from a guest: QEMU starts an empty machine with its own firmware, which writes its banner to
the debug port 0x402 within some milliseconds. A byte from there must have been written by guest
code.

A guest that did not come up under KVM may have lacked memory, or time on a busy host. So the same
guest is then run under TCG, which needs the same and is slower. The first one may also have waited
for the disk, which holds QEMU and what it is linked with: so if one comes up under TCG, a last one
is run under KVM, and has more time. If that fails too, KVM is at fault, and the answer is certain.
Only certain answers are kept, for this boot of this kernel, this QEMU, and this /dev/kvm, which is
recreated when the kernel's module is loaded again.

This is a heuristic for x86, whose firmware writes there.
"""

import os
import select
from enum import StrEnum
from typing import Final

import msgspec

from bpferry.domain.model.accelerator import Accelerator
from bpferry.errors import QemuError
from bpferry.qemu import cache, store

TRIAL_SECONDS: Final = 3.0
"""The banner came after 0.06 s with TCG, which is slower than any KVM that works."""

LAST_TIMES: Final = 3
"""How much longer the last guest may take than the others: its failure is believed until the next
boot."""

DEBUG_PORT: Final = "0x402"
"""The port that SeaBIOS logs to (docs/debugging in SeaBIOS)."""

KVM_DEVICE: Final = "/dev/kvm"

BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

FORMAT: Final = 1
"""The version of the format."""

SUFFIX: Final = ".kvm"


class Outcome(StrEnum):
    """What a trial shows."""

    WORKS = "works"
    FAILS = "fails"
    UNKNOWN = "unknown"
    """It failed, and so did the same guest without KVM."""


class Verdict(msgspec.Struct, frozen=True):
    """What is known of KVM for one QEMU on this host."""

    outcome: Outcome
    problem: str = ""
    """What QEMU wrote, or that it wrote nothing; empty if it works."""


class _Circumstances(msgspec.Struct, frozen=True, array_like=True):
    """What a verdict is valid for."""

    format: int
    identity: cache.Identity
    release: str
    boot_id: str
    device: tuple[int, int, int]
    """Number, mode and ctime in ns of /dev/kvm."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    circumstances: _Circumstances
    verdict: Verdict


def find_or_try(qemu: str, *, refresh: bool = False, seconds: float = TRIAL_SECONDS) -> Verdict:
    """Return whether KVM works for *qemu*, from the cache or from a new trial."""
    circumstances = _circumstances(qemu)
    found = None if refresh or circumstances is None else _find(circumstances)
    if found is not None:
        return found
    verdict = _judge(qemu, seconds)
    if circumstances is not None and verdict.outcome is not Outcome.UNKNOWN:
        _keep(_Kept(circumstances, verdict))
    return verdict


def _judge(qemu: str, seconds: float) -> Verdict:
    problem = trial(qemu, Accelerator.KVM, seconds)
    if problem and trial(qemu, Accelerator.TCG, seconds):
        return Verdict(Outcome.UNKNOWN, problem)
    again = problem and trial(qemu, Accelerator.KVM, LAST_TIMES * seconds)
    return Verdict(Outcome.FAILS if again else Outcome.WORKS, again)


def _circumstances(qemu: str) -> _Circumstances | None:
    """Return what a verdict is valid for now; None if that is unknown."""
    identity = cache.identify(qemu)
    try:
        with open(BOOT_ID, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs more
            boot_id = file.read().strip()
        status = os.stat(KVM_DEVICE)  # noqa: PTH116 - as above
    except (OSError, ValueError):
        return None
    if identity is None:
        return None
    device = (status.st_rdev, status.st_mode, status.st_ctime_ns)
    return _Circumstances(FORMAT, identity, os.uname().release, boot_id, device)


def _find(circumstances: _Circumstances) -> Verdict | None:
    kept = store.load(cache.file_name(circumstances.identity, SUFFIX), _Kept)
    if kept is None:
        return None
    return kept.verdict if kept.circumstances == circumstances else None


def _keep(kept: _Kept) -> None:
    try:
        store.write(
            cache.file_name(kept.circumstances.identity, SUFFIX), msgspec.msgpack.encode(kept)
        )
    except OSError:
        # The capabilities are in the same folder, and the warning was given there.
        return


def trial(qemu: str, accelerator: Accelerator, seconds: float = TRIAL_SECONDS) -> str:
    """Run an empty machine until its firmware writes; return what went wrong, empty if nothing."""
    from bpferry.qemu import process  # noqa: PLC0415 - most answers are in the cache

    output, inside = os.pipe()
    try:
        with process.start_child(_arguments(qemu, accelerator, inside), [inside]) as child:
            # Our copy has to be closed so that the pipe ends when the child does.
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


def _arguments(qemu: str, accelerator: Accelerator, fd: int) -> tuple[str, ...]:
    return (
        qemu,
        "-no-user-config",
        "-nodefaults",
        "-display", "none",
        "-machine", "q35",
        "-accel", accelerator.value,
        "-cpu", "host" if accelerator is Accelerator.KVM else "max",
        "-m", "32M",
        # The pipe is opened for writing by its name in the child's own /proc.
        "-chardev", f"file,id=debug,path=/proc/self/fd/{fd}",
        "-device", f"isa-debugcon,iobase={DEBUG_PORT},chardev=debug",
    )  # fmt: skip
