# SPDX-License-Identifier: LGPL-2.1-or-later
"""KVM and vhost-net: not whether their devices are there, but whether they work for this user."""

from collections.abc import Callable, Iterator
from typing import Final

from bpferry.domain.model.cards import VHOST_DEVICE
from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.doctor.modules import OTHER_KERNEL, is_missing
from bpferry.machine.host_files import HostFiles
from bpferry.network.vhost import HINT, explain_vhost
from bpferry.qemu import accelerator, trial
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.trial import Outcome, Verdict

SLOW: Final = "QEMU would emulate the processor, which is many times slower"

LOAD_VHOST: Final = "sudo modprobe vhost_net"
LASTING: Final = (
    "load the module; a line 'vhost_net' in a file in /etc/modules-load.d makes it last"
)


def check_kvm(
    capabilities: Capabilities | None,
    try_it: Callable[[str], Verdict] = trial.find_or_try,
) -> Iterator[Finding]:
    """Yield whether KVM works with the QEMU of *capabilities*; None if there is no QEMU."""
    name, of = "kvm.works", (Feature.KVM,)
    if not accelerator.device_opens():
        problem, hint = accelerator.explain_closed()
        yield Finding(name, "fault", f"{problem}; {SLOW}", of, fix=hint)
    elif capabilities is None or not accelerator.can_be_tried(capabilities):
        yield Finding(
            name,
            "warning",
            f"'{trial.KVM_DEVICE}' can be opened; whether KVM works was not tried, since that "
            "needs a QEMU with the machine type 'q35'",
            of,
        )
    else:
        yield _of_trial(try_it(capabilities.qemu))


def _of_trial(verdict: Verdict) -> Finding:
    name, of = "kvm.works", (Feature.KVM,)
    match verdict.outcome:
        case Outcome.WORKS:
            return Finding(name, "ok", "KVM works: a guest ran its first instructions", of)
        case Outcome.FAILS:
            return Finding(
                name,
                "fault",
                f"'{trial.KVM_DEVICE}' can be opened, but KVM does not work: {verdict.problem}; "
                f"{SLOW}",
                of,
                fix="if this host is a VM itself, its own host has to allow nested "
                "virtualization; see the kernel's log: sudo dmesg | grep -i kvm",
            )
        case _:
            return Finding(
                name,
                "warning",
                f"KVM could not be tried: {verdict.problem}",
                of,
                fix="try again when the host is less busy",
            )


def check_vhost(files: HostFiles, device: str = VHOST_DEVICE) -> Iterator[Finding]:
    """Yield whether the kernel can move the packets of a card."""
    name, of = "vhost.works", (Feature.VHOST,)
    problem, hint = explain_vhost(device)
    if not problem:
        yield Finding(name, "ok", f"'{device}' works for you", of)
        return
    message = f"{problem}; without vhost, QEMU moves the packets of all queues in one thread"
    if is_missing(files, "vhost_net"):
        yield Finding(name, "fault", message, of, fix=f"this kernel lacks it: {OTHER_KERNEL}")
    elif hint == HINT:
        yield Finding(name, "fault", message, of, fix=LASTING, command=LOAD_VHOST)
    else:
        yield Finding(name, "fault", message, of, fix=hint)
