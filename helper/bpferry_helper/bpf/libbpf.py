# SPDX-License-Identifier: LGPL-2.1-or-later
"""The functions of libbpf.so.1 that are used, with the C types from bpf/libbpf.h.

Pointers to libbpf's structures are opaque here, so that we do not depend on their layout. The one
structure used is struct bpf_map_info (linux/bpf.h), whose first fields are kernel ABI.
tests/helper/bpf/test_libbpf.py compiles every prototype below against the header.

libbpf is the operating system's, loaded by its SONAME, so that its security updates reach us.
"""

import ctypes
import errno
import os
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache
from typing import Final

from bpferry_helper.errors import HelperError

SONAME: Final = "libbpf.so.1"

PROTOTYPES: Final[dict[str, tuple[type | None, tuple[type, ...]]]] = {
    "libbpf_major_version": (c_uint32, ()),
    "libbpf_set_print": (c_void_p, (c_void_p,)),
    "bpf_object__open_mem": (c_void_p, (c_void_p, c_size_t, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__find_program_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__type": (c_int, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__set_log_buf": (c_int, (c_void_p, c_void_p, c_size_t)),
    "bpf_program__attach_iter": (c_void_p, (c_void_p, c_void_p)),
    "bpf_link__fd": (c_int, (c_void_p,)),
    "bpf_link__destroy": (c_int, (c_void_p,)),
    "bpf_iter_create": (c_int, (c_int,)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__type": (c_int, (c_void_p,)),
    "bpf_map__key_size": (c_uint32, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__map_flags": (c_uint32, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_map_create": (c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
}
"""Result and arguments of each function. Enumerations are int, pointers to structures void *."""


class LibbpfError(HelperError):
    """A function of libbpf failed.

    Attributes:
        errno: as libbpf set it; 0 if the library itself is the problem.
    """

    def __init__(self, what: str, number: int) -> None:
        cause = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})" if number else ""
        super().__init__(f"{what}: {cause}" if cause else what)
        self.errno = number


class MapInfo(ctypes.Structure):
    """The first two fields of struct bpf_map_info, linux/bpf.h."""

    _fields_ = (("type", c_uint32), ("id", c_uint32))


@cache
def library() -> ctypes.CDLL:
    """Return libbpf with all prototypes set and its printing turned off.

    Errors come back as errno and in the verifier's log; what libbpf prints would only repeat them
    in the journal.

    Raises:
        LibbpfError: there is no libbpf.so.1, or it is not what its name says.
    """
    try:
        lib = ctypes.CDLL(SONAME, use_errno=True)
    except OSError as error:
        raise LibbpfError(f"cannot load '{SONAME}': {error}", 0) from error
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    if lib.libbpf_major_version() != 1:
        raise LibbpfError(f"'{SONAME}' is of major version {lib.libbpf_major_version()}", 0)
    lib.libbpf_set_print(None)
    return lib


def last_error(what: str) -> LibbpfError:
    """Return the error of the call that just failed in this thread; *what* says what was tried."""
    return LibbpfError(what, ctypes.get_errno())


def map_id(fd: int) -> int:
    """Return the kernel's id of the map behind *fd* (borrowed)."""
    info = MapInfo()
    size = c_uint32(ctypes.sizeof(info))
    if library().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)) != 0:
        raise last_error("cannot ask for the id of a map")
    return int(info.id)
