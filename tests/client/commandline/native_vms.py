# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs in the native form with devices of all kinds that are on PCI, as a hypothesis strategy."""

from collections.abc import Mapping
from typing import Final

from hypothesis import strategies as st

CARDS: Final = tuple(
    f'type = "user"\nmodel = "{model}"'
    for model in ("virtio", "virtio-transitional", "e1000", "e1000e", "rtl8139", "usb-net")
)
DISK: Final = 'file = "/vms/{n}.img"'

LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cards": CARDS,
    "disks": (
        DISK,
        f'{DISK}\nmodel = "virtio-transitional"',
        f'{DISK}\ndevice = "cdrom"\nbus = "scsi"',
        *(f'{DISK}\nbus = "{bus}"' for bus in ("scsi", "sata", "usb")),
    ),
    "filesystems": ('folder = "/vms"\ntag = "tag{n}"',),
    "rngs": ('backend = "random"', 'backend = "random"\nmodel = "virtio-transitional"'),
    "inputs": ('type = "tablet"\nbus = "usb"', 'type = "tablet"\nbus = "virtio"'),
    "sounds": tuple(f'model = "{model}"' for model in ("ich6", "ich9", "ac97", "virtio", "usb")),
    "videos": ('model = "virtio"', 'model = "qxl"'),
    "channels": ('type = "null"\ntarget = "virtio"\nname = "channel{n}"',),
    "consoles": ('type = "null"\ntarget = "virtio"',),
    "serials": ('type = "null"\ntarget = "pci-serial"', 'type = "null"\ntarget = "usb-serial"'),
    "shared-memories": ('name = "memory{n}"\nmodel = "ivshmem-plain"\nsize = "4 MiB"',),
    "cryptos": ("",),
    "host-devices": ('type = "pci"\nat = { bus = 6, slot = {n} }',),
    "controllers": (
        'type = "scsi"\nmodel = "virtio-scsi"',
        'type = "scsi"\nmodel = "virtio-transitional"',
        'type = "scsi"\nmodel = "lsilogic"',
        # The first is there already, and a document that names it has it instead.
        'type = "usb"\nindex = {next}\nmodel = "nec-xhci"',
        'type = "virtio-serial"',
        'type = "sata"',
    ),
}
"""Tables of each list; ``{n}`` is their number in it, ``{next}`` the one after that."""

SINGLE: Final[Mapping[str, str]] = {
    "vsock": "cid = 77",
    "iommu": 'model = "virtio"',
    "pstore": 'backend = "acpi-erst"\nsize = "64 KiB"',
    "panics": 'model = "pvpanic"',
    "watchdogs": 'model = "i6300esb"',
}
"""Of these, a VM has one."""

MOST: Final = {"cards": 11, "disks": 11}
"""Devices of the lists that are long."""

Vm = Mapping[str, tuple[str, ...]]
"""The tables of each kind."""


def vms() -> st.SearchStrategy[Vm]:
    """Return the strategy of all VMs whose kinds of devices have places enough."""
    lists = {
        kind: st.lists(st.sampled_from(tables), max_size=MOST.get(kind, 4)).map(tuple)
        for kind, tables in LISTS.items()
    }
    single = {kind: st.sampled_from([(), (table,)]) for kind, table in SINGLE.items()}
    everything = st.fixed_dictionaries({**lists, **single})
    some = st.sets(st.sampled_from(sorted({**LISTS, **SINGLE})), max_size=8)
    return st.builds(lambda vm, kinds: {kind: vm[kind] for kind in kinds}, everything, some)


def additions() -> st.SearchStrategy[tuple[str, str]]:
    """Return the strategy of one more device: its kind and its table."""
    return st.sampled_from(
        [(kind, table) for kind, tables in LISTS.items() for table in tables] + list(SINGLE.items())
    )


def more(vm: Vm, addition: tuple[str, str]) -> Vm:
    """Return *vm* with one more device, at the end of its list."""
    kind, table = addition
    if kind in SINGLE and vm.get(kind):
        return vm
    return {**vm, kind: (*vm.get(kind, ()), table)}


def numbered(table: str, number: int) -> str:
    """Return the *table* that is the entry *number* of its list."""
    return table.replace("{n}", str(number)).replace("{next}", str(number + 1))


def text_of(vm: Vm, machine: str) -> str:
    """Return *vm* on a type of *machine* as a document."""
    head = f'name = "x"\nmemory = "1 GiB"\naccelerator = "tcg"\nmachine-type = "{machine}"\n'
    parts = [head]
    for kind, tables in vm.items():
        if kind == "iommu" and machine == "pc":
            continue  # it needs PCI Express
        plural = kind in LISTS or kind.endswith("s")
        name = f"[[{kind}]]" if plural else f"[{kind}]"
        parts += [f"{name}\n{numbered(table, n)}\n" for n, table in enumerate(tables)]
    return "".join(parts)
