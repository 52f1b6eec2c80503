# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs and maps of the known eBPF objects.

QEMU's QAPI schema has an id for each of its objects (qapi/ebpf.json, EbpfProgramID). A digest says
which bytes an object has; the id says what it is for, and so what it must look like. Today QEMU has
one id, "rss". An unknown id is not an error: the policy may allow it by its program types.
"""

from typing import Final

from bpferry_wire.frozen import Frozen

BPF_PROG_TYPE_SOCKET_FILTER: Final = 1
"""linux/bpf.h, enum bpf_prog_type."""

BPF_MAP_TYPE_ARRAY: Final = 2
"""linux/bpf.h, enum bpf_map_type."""

BPF_F_MMAPABLE: Final = 0x400
"""linux/bpf.h: the map's values can be mapped into memory, which is how QEMU writes them."""

PROG_TYPE_NAMES: Final = {"socket_filter": BPF_PROG_TYPE_SOCKET_FILTER, "sched_cls": 3, "xdp": 6}
"""Program types that a policy may allow for unknown ids; linux/bpf.h."""


class ProgramShape(Frozen):
    """A program by the name of its function."""

    name: str
    type: int


class MapShape(Frozen):
    """A map by the name of its variable, with sizes in bytes."""

    name: str
    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int


class ObjectShape(Frozen):
    """All programs and all maps of an object, in the order in which they are handed over."""

    programs: tuple[ProgramShape, ...]
    maps: tuple[MapShape, ...]


RSS: Final = ObjectShape(
    # tools/ebpf/rss.bpf.c in QEMU 9.0 to 11.1; the order is the one of virtio-net's property
    # ebpf-rss-fds (hw/net/virtio-net.c, virtio_net_load_ebpf_fds).
    programs=(ProgramShape("tun_rss_steering_prog", BPF_PROG_TYPE_SOCKET_FILTER),),
    maps=(
        MapShape(
            "tap_rss_map_configurations",
            BPF_MAP_TYPE_ARRAY,
            key_size=4,
            value_size=10,
            entries=1,
            flags=BPF_F_MMAPABLE,
        ),
        MapShape(
            "tap_rss_map_toeplitz_key",
            BPF_MAP_TYPE_ARRAY,
            key_size=4,
            value_size=40,
            entries=1,
            flags=BPF_F_MMAPABLE,
        ),
        MapShape(
            "tap_rss_map_indirection_table",
            BPF_MAP_TYPE_ARRAY,
            key_size=4,
            value_size=2,
            entries=128,
            flags=BPF_F_MMAPABLE,
        ),
    ),
)

KNOWN: Final = {"rss": RSS}
"""The known ids."""
