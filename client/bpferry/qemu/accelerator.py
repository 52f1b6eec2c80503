# SPDX-License-Identifier: LGPL-2.1-or-later
"""Choose what executes the guest's instructions, by what works here.

That /dev/kvm can be opened proves nothing (``trial``). If a trial is not possible, ``auto`` means
TCG, and users who have KVM ask for it by name.
"""

import os
from typing import Final

from bpferry.domain.model.accelerator import Accelerator
from bpferry.network.groups import explain_device
from bpferry.qemu import trial
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.trial import Outcome

CAN_BE_TRIED: Final = ("q35", "pc")
"""Machine types, before their first dash, whose firmware a trial waits for."""

NO_KVM_HINT: Final = (
    "virtualization has to be on in the firmware (in a VM: nested virtualization), and the module "
    "kvm_intel or kvm_amd loaded"
)
"""What to do where there is no device."""

STATES: Final = {
    Outcome.WORKS: "works",
    Outcome.FAILS: "does not work on this host: ",
    Outcome.UNKNOWN: "could not be tested: ",
}


def choose(wanted: Accelerator, qemu: str, machine_type: str) -> tuple[Accelerator, str]:
    """Return the accelerator to use, never ``AUTO``, and a sentence that says why."""
    if wanted is not Accelerator.AUTO:
        return wanted, f"{wanted.value.upper()}, as the description says"
    if not device_opens():
        problem, hint = explain_closed()
        return Accelerator.TCG, f"TCG: {problem} (hint: {hint})"
    if machine_type.partition("-")[0] not in CAN_BE_TRIED:
        return Accelerator.TCG, "TCG: KVM can be tested on x86 only; to use it, ask for it by name"
    verdict = trial.find_or_try(qemu)
    if verdict.outcome is Outcome.WORKS:
        return Accelerator.KVM, "KVM"
    if verdict.outcome is Outcome.FAILS:
        return Accelerator.TCG, f"TCG: KVM does not work here: {verdict.problem}"
    return Accelerator.TCG, f"TCG: KVM could not be tested: {verdict.problem}"


def find_kvm_problem(qemu: str, machine_type: str) -> tuple[str, str]:
    """Return why a VM that requires KVM cannot have it here, and what to do about it.

    Both are empty if it can, or if that is not known.
    """
    if not device_opens():
        return explain_closed()
    if machine_type.partition("-")[0] not in CAN_BE_TRIED:
        return "", ""
    verdict = trial.find_or_try(qemu)
    if verdict.outcome is Outcome.FAILS:
        return f"KVM does not work here: {verdict.problem}", ""
    return "", ""


def describe(name: str, capabilities: Capabilities, *, refresh: bool = False) -> str:
    """Say what the accelerator *name* of this QEMU is good for on this host, having tried KVM."""
    if name == Accelerator.TCG:
        return "works without any privilege"
    if name != Accelerator.KVM:
        return "not used by bpferry"
    if not device_opens():
        return explain_closed()[0]
    if not can_be_tried(capabilities):
        return "cannot be tested: this QEMU has no machine type 'q35'"
    verdict = trial.find_or_try(capabilities.qemu, refresh=refresh)
    return STATES[verdict.outcome] + verdict.problem


def can_be_tried(capabilities: Capabilities) -> bool:
    """Say whether this QEMU has the machine that a trial runs."""
    return bool(capabilities.machine_name("q35"))


def device_opens() -> bool:
    """Say whether this user may open KVM's device."""
    return os.access(trial.KVM_DEVICE, os.R_OK | os.W_OK, effective_ids=True)


def explain_closed() -> tuple[str, str]:
    """Return why KVM's device cannot be opened, and what to do about it."""
    cause, hint = explain_device(trial.KVM_DEVICE, NO_KVM_HINT)
    return f"cannot open '{trial.KVM_DEVICE}': {cause}", hint
