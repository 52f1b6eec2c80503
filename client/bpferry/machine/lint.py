# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with the design of a VM, or not as good as it could be, for ``bpferry check``.

Nothing here keeps a VM from starting, except names that no interface can have, and a tap that two
cards name, which are mistakes of the description. Anything else that does is refused when it is
read or built, such as more than 256 queues, a multicast address, or vhost-user without shared
memory.
"""

from collections.abc import Collection, Iterator
from typing import Final

from bpferry.domain.forms import Kind, either
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of, listed
from bpferry.machine.faults import Fault, Level
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import HostFacts

WAYS_IN: Final = (
    "graphics", "serials", "parallels", "consoles", "channels", "cards", "host_devices",
    "qemu_arguments",
)  # fmt: skip
"""By which somebody may see a guest or speak to it."""


def find_faults(
    machine: Machine,
    capabilities: Capabilities | None = None,
    host: HostFacts | None = None,
    *,
    kind: Kind = "toml",
    libvirt_session: bool = False,
) -> tuple[Fault, ...]:
    """Return what there is to say against *machine*.

    Args:
        machine: the VM.
        capabilities: of its QEMU, if that could be asked.
        host: what was found on this host, if it was looked at.
        kind: of the document, for the lines that the user should write into it.
        libvirt_session: whether to add what libvirt's session mode would make of it.
    """
    found: list[Fault] = []
    if machine.cards:
        found += _of_cards(machine, capabilities)
    found += _same(
        machine, "mac", "warning", "two cards on one network cannot have the same address"
    )
    found += _same(machine, "tap", "error", "a tap is opened by one card only")
    found += _vectors(machine)
    found += _out_of_reach(machine)
    if machine.cards and capabilities is not None and host is not None:
        found += _of_steering(machine, capabilities, host, kind, {fault.key for fault in found})
    if libvirt_session:
        from bpferry.machine.session_lint import find_session_faults  # noqa: PLC0415 - rarely asked

        found += find_session_faults(machine)
    return tuple(found)


def _of_cards(machine: Machine, capabilities: Capabilities | None) -> Iterator[Fault]:
    from bpferry.machine.card_lint import find_card_faults  # noqa: PLC0415 - where there is a card

    for device in cards_of(machine):
        yield from find_card_faults(device, machine, capabilities)


def _of_steering(
    machine: Machine,
    capabilities: Capabilities,
    host: HostFacts,
    kind: Kind,
    told: Collection[str],
) -> Iterator[Fault]:
    """Yield what there is to say against the cards' plans; *told* are the keys that have enough."""
    from bpferry.machine.steering_lint import find_steering_faults  # noqa: PLC0415 - as above

    of_plans = find_steering_faults(machine, capabilities, host, kind)
    yield from (fault for fault in of_plans if fault.key not in told)


def _same(machine: Machine, field: str, level: Level, cause: str) -> Iterator[Fault]:
    """Find values of *field* that several cards share."""
    first: dict[str, str] = {}
    for device in cards_of(machine):
        value = getattr(device.value, field)
        if value is None:
            continue
        earlier = first.setdefault(value.lower() if field == "mac" else value, device.key)
        if earlier != device.key:
            yield Fault(
                f"{device.key}.{field}",
                level,
                f"another card has '{value}' too",
                cause,
                f"give one of the two another '{field}', or leave it out",
            )


def _vectors(machine: Machine) -> Iterator[Fault]:
    """Find numbers of interrupts that are passed to QEMU without bpferry's knowledge."""
    for word in listed(machine.qemu_arguments, "qemu-arguments"):
        if word.value.startswith("virtio-net") and ".vectors=" in word.value:
            yield Fault(
                word.key,
                "warning",
                f"'{word.value}' has an effect on cards with one queue only",
                "N queues need 2N + 2 interrupts, and cards with several queues get them",
                "leave it out, and the option before it",
            )


def _out_of_reach(machine: Machine) -> Iterator[Fault]:
    """Find a VM that runs, and that nobody can do anything with."""
    if machine.vsock is None and not any(getattr(machine, name) for name in WAYS_IN):
        yield Fault(
            "",
            "note",
            "nobody can reach this VM: it has no display, no serial port and no network card",
            fix="add "
            + either(
                '[[serials]] with type = "stdio", or [[cards]] with type = "user"',
                "<serial type='pty'/>, or <interface type='user'/>",
            ),
        )
