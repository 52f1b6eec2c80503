# SPDX-License-Identifier: LGPL-2.1-or-later
"""Creates the arrays of an object so that the kernel masks each index into them (Spectre v1).

A client can write to the maps that it gets, so their contents must not control what the kernel
reads beyond them speculatively. For an array, the kernel decides this when the array is created: if
the creator has CAP_PERFMON (bpf_bypass_spec_v1() in array_map_alloc()), the verifier does not mask
the index in lookups by any program (array_map_gen_lookup()). libbpf would create the maps and load
the program with the same capabilities, and the program needs CAP_PERFMON. So the arrays are created
here, without it, and libbpf is told to use them.

Other kinds of maps have no index. An object's own variables (".data" and the like) are at fixed
places that the verifier knows.
"""

import ctypes
from ctypes import c_size_t, c_uint32, c_uint64
from typing import Final

from bpferry_helper.bpf.libbpf import last_error, library
from bpferry_helper.privilege import lowered
from bpferry_wire.fds import OwnedFd

INDEXED: Final = frozenset({2, 6})
"""BPF_MAP_TYPE_ARRAY and BPF_MAP_TYPE_PERCPU_ARRAY of linux/bpf.h."""

OF_VARIABLES: Final = b"."
"""In names that libbpf gives to maps of variables; C does not allow it in a name."""

BYPASS: Final = "CAP_PERFMON"
"""Turns off the protection against Spectre v1 (bpf_bypass_spec_v1(), linux/bpf.h)."""

Pointer = int


class CreateOptions(ctypes.Structure):
    """The first fields of struct bpf_map_create_opts, bpf/bpf.h; ``sz`` says how many."""

    _fields_ = (
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
    )


def create_arrays(maps: list[Pointer]) -> None:
    """Create the arrays among *maps* for libbpf to use; libbpf creates the others.

    Raises:
        LibbpfError: an array could not be created.
    """
    lib = library()
    with lowered(BYPASS):
        for item in maps:
            is_array = lib.bpf_map__type(item) in INDEXED
            if is_array and OF_VARIABLES not in lib.bpf_map__name(item):
                _create(item)


def _create(item: Pointer) -> None:
    lib = library()
    options = CreateOptions(sz=ctypes.sizeof(CreateOptions), map_flags=lib.bpf_map__map_flags(item))
    number = lib.bpf_map_create(
        lib.bpf_map__type(item),
        lib.bpf_map__name(item),
        lib.bpf_map__key_size(item),
        lib.bpf_map__value_size(item),
        lib.bpf_map__max_entries(item),
        ctypes.byref(options),
    )
    if number < 0:
        raise last_error("cannot create a map of the object")
    # libbpf keeps a copy, which it closes with the object.
    with OwnedFd(number):
        if lib.bpf_map__reuse_fd(item, number) != 0:
            raise last_error("libbpf cannot use the map that was created for the object")
