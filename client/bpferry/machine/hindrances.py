# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a VM from starting on this host, as far as it can be found before anything is opened.

A dry run and ``bpferry check`` report all of it, and a start fails with all of it before a helper
makes anything. The document may be right: on another host, or later, the same VM starts. So the
exit status is 1, except for a wrong path on the command line.
"""

from collections.abc import Iterator, Sequence

from bpferry.commandline.build import Built
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Companion, Endpoint, Limit
from bpferry.commandline.system.firmware_choice import firmware_of
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of, characters_of
from bpferry.errors import BpferryError, NotReady
from bpferry.machine.access import find_unwritable
from bpferry.machine.certificates import find_missing_certificates
from bpferry.machine.draft import Draft
from bpferry.machine.faults import Fault
from bpferry.machine.files import find_missing_files
from bpferry.machine.host_memory import find_scarce_memory
from bpferry.machine.huge_pages import find_missing_pages
from bpferry.machine.lock_folders import find_half_locked, find_unlockable
from bpferry.machine.locked_memory import find_limit_fault, own_limits
from bpferry.machine.making import find_unmakeable
from bpferry.machine.name_lock import find_conflict
from bpferry.machine.open_files import find_low_limit
from bpferry.machine.ports import find_taken_ports
from bpferry.machine.refusals import located, placed
from bpferry.machine.secrets import find_problems
from bpferry.machine.socket_paths import find_long_paths
from bpferry.steering.vhost import UNUSABLE, UNUSABLE_HINT


def find_all(draft: Draft, *, images_are_shared: bool = False) -> Iterator[BpferryError]:
    """Yield all that keeps the VM from starting here and now, each with its place.

    What a VM of this name uses that runs now is its own, and only that it runs is told.
    """
    yield from find_hindrances(draft)
    yield from find_unusable_vhost(draft)
    if draft.kvm_problem:
        yield located(draft.kvm_problem, draft.document)
    # A VM takes its name before anything else, so whatever one that starts now uses was its own.
    in_use = list(find_in_use(draft, images_are_shared=images_are_shared))
    conflict = find_conflict(draft.machine.name)
    yield from in_use if conflict is None else [located(conflict, draft.document)]


def find_hindrances(draft: Draft) -> Iterator[BpferryError]:
    """Yield what is missing, or not open to this user."""
    yield from find_missing_files(draft.document)
    machine = draft.document.machine
    found = (
        _of_firmware(draft.context),
        find_unmakeable(draft.built),
        _of_host_devices(draft.context),
        find_limit_fault(draft.built, own_limits()),
        find_problems(draft.built, draft.secret_files),
        find_missing_certificates(draft.built),
        _of_images(machine),
        _of_sources(machine),
        find_unwritable(machine, draft.built),
        _find_unusable_taps(draft),
        _of_companions(draft.built),
        find_low_limit(draft),
        _of_limits(draft.built.of(Limit)),
        find_unlockable(machine.name),
        find_long_paths(draft.context.folders.runtime, draft.built),
    )
    for faults in found:
        for fault in faults:
            yield located(fault, draft.document)


def find_in_use(draft: Draft, *, images_are_shared: bool = False) -> Iterator[BpferryError]:
    """Yield what others use at this moment, each with its place in the document.

    Some processes that serve a VM, such as virtiofsd, listen only until it has connected. With
    *images_are_shared*, whoever has the images locked is about to let go of them.
    """
    machine = draft.document.machine
    for faults in (
        () if images_are_shared else _locked_images(machine),
        _missing_servers(machine),
        find_taken_ports(draft.built.of(Endpoint)),
        find_missing_pages(draft.built),
    ):
        for fault in faults:
            yield located(fault, draft.document)


def find_unusable_vhost(draft: Draft) -> Iterator[BpferryError]:
    """Yield each card whose vhost device is named and unusable; its plan warns of that as well."""
    for device in cards_of(draft.machine):
        problem = draft.circumstances.host.problem_of(device.value.vhost_device)
        if draft.plans[device.id].vhost and problem:
            from bpferry.network.vhost import explain_vhost  # noqa: PLC0415 - as below

            _, hint = explain_vhost(device.value.vhost_device)
            hint = f"{hint}; {UNUSABLE_HINT}"
            error = NotReady(f"{UNUSABLE}: {problem}", hint, f"{device.key}.driver")
            yield located(error, draft.document)


def find_doubts(draft: Draft) -> Iterator[Fault]:
    """Yield what lets the VM start, but is probably not what the user wants."""
    machine = draft.document.machine
    for faults in (
        _shown_containers(machine),
        _open_doors(machine, draft.built),
        find_scarce_memory(machine),
        _of_bridges(machine),
        find_half_locked(machine.name),
    ):
        for fault in faults:
            yield placed(fault, draft.document)


# What follows is about parts that few VMs have all of, and imports what looks at them.


def _of_firmware(context: Context) -> Iterator[BpferryError]:
    if firmware_of(context) is not None:
        from bpferry.machine.uefi_access import find_unusable_firmware  # noqa: PLC0415 - see above
        from bpferry.machine.uefi_files import find_firmware_faults  # noqa: PLC0415 - see above

        yield from find_firmware_faults(context)
        yield from find_unusable_firmware(context)


def _of_limits(limits: Sequence[Limit]) -> Iterator[BpferryError]:
    if limits:
        from bpferry.machine.limits import find_unavailable  # noqa: PLC0415 - see above

        yield from find_unavailable(limits)


def _of_companions(built: Built) -> Iterator[BpferryError]:
    if built.of(Companion):
        from bpferry.machine.programs import find_missing_programs  # noqa: PLC0415 - see above

        yield from find_missing_programs(built)


def _of_host_devices(context: Context) -> Iterator[BpferryError]:
    if context.machine.host_devices:
        from bpferry.machine.host_devices import find_host_faults  # noqa: PLC0415 - see above

        yield from find_host_faults(context)


def _of_images(machine: Machine) -> Iterator[NotReady]:
    if machine.disks:
        from bpferry.machine.image_formats import find_wrong_formats  # noqa: PLC0415 - see above
        from bpferry.machine.image_twins import find_twins  # noqa: PLC0415 - see above

        yield from find_wrong_formats(machine)
        yield from find_twins(machine)


def _of_bridges(machine: Machine) -> Iterator[Fault]:
    if any(card.bridge for card in machine.cards):
        from bpferry.machine.bridge_state import find_bridges_down  # noqa: PLC0415 - see above

        yield from find_bridges_down(machine)


def _shown_containers(machine: Machine) -> Iterator[Fault]:
    if machine.disks:
        from bpferry.machine.image_formats import find_shown_containers  # noqa: PLC0415 - see above

        yield from find_shown_containers(machine)


def _locked_images(machine: Machine) -> Iterator[NotReady]:
    if machine.disks:
        from bpferry.machine.image_locks import find_locked_images  # noqa: PLC0415 - see above

        yield from find_locked_images(machine)


def _of_sources(machine: Machine) -> Iterator[NotReady]:
    if machine.rngs or any(characters_of(machine)):
        from bpferry.machine.character_sources import find_missing_sources  # noqa: PLC0415 - as above

        yield from find_missing_sources(machine)


def _open_doors(machine: Machine, built: Built) -> Iterator[Fault]:
    if any(endpoint.kind in ("tcp", "udp") for endpoint in built.of(Endpoint)):
        from bpferry.machine.exposure import find_open_doors  # noqa: PLC0415 - see above

        yield from find_open_doors(machine, built)


def _missing_servers(machine: Machine) -> Iterator[NotReady]:
    outside = any(card.type == "vhostuser" for card in machine.cards)
    if outside or machine.disks or machine.filesystems:
        from bpferry.machine.servers import find_missing_servers  # noqa: PLC0415 - see above

        yield from find_missing_servers(machine)


def _find_unusable_taps(draft: Draft) -> Iterator[BpferryError]:
    for device in cards_of(draft.machine):
        card = device.value
        if card.type == "ethernet" and card.tap is not None:
            from bpferry.network.existing_tap import check_exists  # noqa: PLC0415 - see above
            from bpferry.network.macvtap import find_macvtap  # noqa: PLC0415 - see above

            try:
                macvtap = find_macvtap(card.tap)
                if macvtap is None:
                    check_exists(card.tap, draft.plans[device.id].queues)
                else:
                    macvtap.check(draft.mac_of(device))
            except BpferryError as error:
                yield type(error)(error.message, error.hint, f"{device.key}.tap")
