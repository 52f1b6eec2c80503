# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine around the devices: name, machine type, accelerator, and what belongs to no part.

``-no-shutdown`` is never there: bpferry is QEMU's parent and waits for its end.
"""

from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

from bpferry.commandline.attempt import attempt_section, split
from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.memory import build as memory
from bpferry.commandline.parts import Device, Environment, Found, Option, Part, join, json_of
from bpferry.commandline.system import (
    boot,
    clock,
    cpu,
    features,
    firmware,
    iothreads,
    limits,
    pinning,
    smbios,
)
from bpferry.domain.architectures import document_name, is_pc
from bpferry.domain.forms import either
from bpferry.domain.identity import uuid_of
from bpferry.domain.model.machine import Machine
from bpferry.errors import Unsupported

SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""Everything that QEMU's sandbox can deny. All fds are inherited, so QEMU needs none of it."""

ALIASES: Final = (("q35", "q35"), ("i440fx", "pc"), ("virt", "virt"), ("pc", "pc"))
"""A part that the names of a family of machine types share, and the short name of the newest."""


def parts(context: Context) -> Iterator[Part]:
    """Yield what the VM is before any device."""
    for build in SECTIONS:
        yield from attempt_section(build, context)


def _general(context: Context) -> Iterator[Found]:
    machine = context.machine
    yield from check_kind(context)
    # The guest waits until the supervisor is there, which powers it down when a signal comes.
    yield Option("-S")
    yield Option("-name", join("", guest=machine.name, debug_threads=True))
    yield Option("-no-user-config")
    yield Option("-nodefaults")
    yield from _compatibility(machine)
    if context.capabilities.sandbox:
        yield Option("-sandbox", SANDBOX)
    if context.capabilities.exit_with_parent:
        yield Option("-run-with", "exit-with-parent=on")
    yield Option("-uuid", uuid_of(machine, context.owner))


def _compatibility(machine: Machine) -> Iterator[Option]:
    """Yield what QEMU does with deprecated features (qapi/compat.json)."""
    behavior = machine.qemu_deprecation
    if behavior == "none":
        return
    given = None if behavior == "omit" else behavior
    policy = {"deprecated-output": "hide", "deprecated-input": given}
    yield Option("-compat", json_of(policy))


def _machine(context: Context) -> Iterator[Found]:
    """Yield the machine type with its properties; those that are None are left out."""
    yield from features.check_switches(context)
    yield from clock.check_hpet(context)
    properties: dict[str, object] = {"usb": False}
    if not context.capabilities.has_machine_property(context.machine_type, "usb"):
        properties = {}
    properties |= features.machine_properties(context)
    properties |= memory.machine_properties(context)
    properties |= clock.machine_properties(context)
    properties |= firmware.machine_properties(context)
    yield Option("-machine", join(context.machine_type, **properties))


def _accelerator(context: Context) -> Iterator[Found]:
    words, errors = split(features.accelerator_words(context))
    yield from errors
    yield Option("-accel", ",".join((context.accelerator.value, *words)))


def check_kind(context: Context) -> Iterator[Unsupported]:
    """Yield a refusal of a machine type or an architecture that this QEMU does not have."""
    known, machine = context.capabilities, context.machine
    if known.machines and not known.machine_name(context.machine_type):
        yield unsupported(
            "machine-type",
            f"'{known.qemu}' (QEMU {known.version_text}) has no machine '{context.machine_type}'",
            _other_machine(context),
        )
    wanted, own = machine.arch, document_name(known.arch)
    runs = (own, "i686") if is_pc(own) else (own,)
    if wanted is None or wanted in runs:
        return
    yield unsupported(
        "arch",
        f"'{known.qemu}' runs guests of {own}, not of {wanted}",
        f"write '{own}', or name the QEMU for {wanted}",
    )


def _other_machine(context: Context) -> str:
    """Return what to write instead of a machine type that this QEMU does not have.

    Debian's QEMU has none of the types that Ubuntu (``pc-q35-noble``) and RHEL
    (``pc-q35-rhel9.4.0``) name after themselves.
    """
    known = context.capabilities
    everything = f"'{known.qemu} -machine help' lists those that it has"
    alias = next((alias for part, alias in ALIASES if part in context.machine_type), "")
    whole = known.machine_name(alias)
    if not alias or not whole:
        return everything
    return f"write '{alias}', or a type with a version that it has, such as '{whole}'; {everything}"


def _ends(context: Context) -> Iterator[Found]:
    """Yield what happens to the VM when the guest reboots or panics."""
    machine = context.machine
    if machine.on_reboot == "destroy":
        yield Option("-no-reboot")
    if machine.on_crash == "preserve":
        yield Option("-action", join("", panic="pause"))
    elif machine.panics and machine.on_crash == "restart" and machine.on_reboot == "destroy":
        yield mistaken(
            "on-crash",
            "a guest that has crashed is restarted by a reset, and a reset ends this VM",
            "write " + either('on-reboot = "restart"', "<on_reboot>restart</on_reboot>"),
        )
    elif machine.panics:
        # QEMU cannot restart a guest that has panicked; who follows its events does.
        panic = "pause" if machine.on_crash == "restart" else "exit-failure"
        yield Option("-action", join("", panic=panic))


def _generation_id(context: Context) -> Iterator[Found]:
    wanted = context.machine.generation_id
    if wanted is not None:
        guid = str(UUID(wanted.value)) if wanted.value else "auto"
        yield Device("vmgenid", "vmgenid0", "generation-id", {"guid": guid})


SECTIONS: Final[tuple[Callable[[Context], Iterator[Found]], ...]] = (
    _general,
    _machine,
    _accelerator,
    cpu.parts,
    memory.parts,
    iothreads.parts,
    pinning.parts,
    limits.parts,
    smbios.parts,
    clock.parts,
    features.parts,
    boot.parts,
    firmware.parts,
    _ends,
    _generation_id,
)
"""What the machine consists of, each as far as it can be built."""


def own_words(context: Context) -> Iterator[Part]:
    """Yield what the user passes to QEMU unchanged; it comes after everything else."""
    for variable in context.machine.qemu_environment:
        yield Environment(variable.name, variable.value)
    for word in context.machine.qemu_arguments:
        yield Option(word)
