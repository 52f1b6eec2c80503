# SPDX-License-Identifier: LGPL-2.1-or-later
"""The capabilities of each role, why it needs them, and how the process is locked down."""

import ctypes
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from bpferry_helper.errors import EXIT_CRASHED, HelperError, StartupError
from bpferry_helper.identity import libc
from bpferry_helper.log import ERROR, log

CAPABILITY_NUMBERS: Final = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""linux/capability.h."""

CAPABILITIES: Final[dict[str, tuple[str, ...]]] = {
    # CAP_BPF:     bpf(2) itself: create the maps, load the program and the iterator.
    # CAP_PERFMON: QEMU's program compares packet pointers, which the verifier allows only if
    #              pointers may leak (kernel/bpf/verifier.c, allow_ptr_leaks); without it the load
    #              fails with EACCES. The iterator is a tracing program and needs it too.
    #              Arrays are created without it: see bpf/maps.
    "bpf": ("CAP_BPF", "CAP_PERFMON"),
    # CAP_NET_ADMIN: make a tap and give it an owner (drivers/net/tun.c), move it to the host's
    #              network namespace, put it on a bridge and delete it (net/core/rtnetlink.c), and
    #              ask a socket for its namespace (SIOCGSKNS).
    "tap": ("CAP_NET_ADMIN",),
}
"""Exactly what each role holds. A test compares this with the unit files and documentation."""

PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38
"""linux/prctl.h."""

CAPABILITY_VERSION: Final = 0x2008_0522
"""_LINUX_CAPABILITY_VERSION_3 of linux/capability.h: two masks of 32 bits each."""

STATUS_FILE: Final = "/proc/thread-self/status"


def shrink(role: str) -> None:
    """Refuse to run with other capabilities than the role's, and be untraceable.

    Should: hold exactly CAPABILITIES[role], gain nothing by execve, leave no core dump.
    Mustn't: go on with more, even if an administrator ran it as root.

    Raises:
        StartupError: the permitted capabilities are not exactly the role's.
    """
    _check_capabilities(CAPABILITIES[role])
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0)):
        if libc().prctl(option, value, 0, 0, 0) != 0:
            raise StartupError(f"cannot set prctl option {option}: errno {ctypes.get_errno()}")


class _CapabilitySets(ctypes.Structure):
    """Both struct __user_cap_data_struct of capset(2), the lower 32 capabilities first."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
        ("effective_high", ctypes.c_uint32),
        ("permitted_high", ctypes.c_uint32),
        ("inheritable_high", ctypes.c_uint32),
    )


@contextmanager
def lowered(name: str) -> Iterator[None]:
    """Drop the capability *name* in this thread, and no other, inside the block.

    It stays permitted, so that it can be raised again. If that fails, this process ends: a worker
    without the capability would fail at everything, and believe for good that the kernel cannot
    list its maps. systemd starts the helper again, and what was granted stays.

    Raises:
        HelperError: capset(2) failed; the unit's system call filter may forbid it.
    """
    before = _capability_sets("capget", _CapabilitySets())
    less = _CapabilitySets.from_buffer_copy(before)
    number = CAPABILITY_NUMBERS[name]
    less.effective &= ~(1 << number)
    less.effective_high &= ~(1 << number >> 32)
    _capability_sets("capset", less)
    try:
        yield
    finally:
        try:
            _capability_sets("capset", before)
        except HelperError as error:
            log(ERROR, f"cannot raise {name} again: {error}; the helper ends, to be started again")
            os._exit(EXIT_CRASHED)


def _capability_sets(call: str, sets: _CapabilitySets) -> _CapabilitySets:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    if getattr(libc(), call)(header, ctypes.byref(sets)) != 0:
        raise HelperError(f"{call}(2) fails with errno {ctypes.get_errno()}")
    return sets


def _check_capabilities(names: tuple[str, ...]) -> None:
    wanted = {CAPABILITY_NUMBERS[name] for name in names}
    for kind in ("CapPrm", "CapEff"):
        held = _held_capabilities(kind)
        if held == wanted:
            continue
        missing, extra = _names(wanted - held), _names(held - wanted)
        raise StartupError(
            f"this process must hold {_names(wanted)} and nothing else: "
            f"missing {missing}, too much {extra} (in {kind}); start it through its systemd unit"
        )


def _held_capabilities(kind: str) -> set[int]:
    """Return the capability numbers in the mask *kind* of /proc/self/status."""
    with open(STATUS_FILE, encoding="ascii", errors="replace") as file:
        found = re.search(rf"^{kind}:\s*([0-9a-f]+)$", file.read(), re.MULTILINE)
    if found is None:
        raise StartupError(f"'{STATUS_FILE}' has no line {kind}")
    mask = int(found[1], 16)
    return {number for number in range(mask.bit_length()) if mask >> number & 1}


def _names(numbers: Iterable[int]) -> str:
    names = {number: name for name, number in CAPABILITY_NUMBERS.items()}
    return ", ".join(names.get(n, f"capability {n}") for n in sorted(numbers)) or "none"
