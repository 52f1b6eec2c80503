# SPDX-License-Identifier: LGPL-2.1-or-later
"""Try what the helper's sandbox forbids, and print what came of each attempt as one JSON object.

Runs inside the booted system as a service. An attempt ends as "allowed" or as an errno's name.
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import shutil
import socket
from collections.abc import Callable
from typing import Final

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

SYSCALLS: Final = {
    # asm/unistd_64.h for x86_64, asm-generic/unistd.h for the others
    "x86_64": {"perf_event_open": 298, "keyctl": 250, "userfaultfd": 323, "io_uring_setup": 425},
    "aarch64": {"perf_event_open": 241, "keyctl": 219, "userfaultfd": 282, "io_uring_setup": 425},
}[platform.machine()]

PERF_ATTR_BYTES: Final = 64
"""PERF_ATTR_SIZE_VER0, linux/perf_event.h."""


def _checked(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), "failed")


def _perf_event_open() -> None:
    # A software clock on processor 0, for all processes: what CAP_PERFMON allows.
    attributes = bytearray(PERF_ATTR_BYTES)
    attributes[0:8] = (1 | PERF_ATTR_BYTES << 32).to_bytes(8, "little")
    raw = (ctypes.c_char * PERF_ATTR_BYTES).from_buffer(attributes)
    _checked(libc.syscall(SYSCALLS["perf_event_open"], raw, -1, 0, -1, 0))


def _ptrace() -> None:
    child = os.fork()
    if child == 0:
        # PTRACE_TRACEME, in a child whose end takes it along.
        os._exit(ctypes.get_errno() if libc.ptrace(0, 0, 0, 0) == -1 else 0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "failed")


def _mount() -> None:
    _checked(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
    libc.umount2(b"/tmp", 0)


def _keyctl() -> None:
    # KEYCTL_GET_KEYRING_ID of the session's keyring, made if there is none.
    _checked(libc.syscall(SYSCALLS["keyctl"], 0, -3, 1))


def _userfaultfd() -> None:
    # UFFD_USER_MODE_ONLY: no privilege is needed for it.
    _checked(libc.syscall(SYSCALLS["userfaultfd"], 1))


def _io_uring_setup() -> None:
    parameters = (ctypes.c_char * 120)()
    _checked(libc.syscall(SYSCALLS["io_uring_setup"], 1, parameters))


def _namespace() -> None:
    child = os.fork()
    if child == 0:
        # CLONE_NEWUTS, linux/sched.h
        os._exit(ctypes.get_errno() if libc.unshare(0x04000000) == -1 else 0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "failed")


def _open_socket(family: int, kind: int) -> Callable[[], None]:
    return lambda: socket.socket(family, kind).close()


def _write_and_execute() -> None:
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    mmap.mmap(-1, mmap.PAGESIZE, prot=protection).close()


def _write(path: str) -> Callable[[], None]:
    def attempt() -> None:
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("x")
        os.unlink(path)  # noqa: PTH108

    return attempt


def _open(path: str) -> Callable[[], None]:
    return lambda: os.close(os.open(path, os.O_RDWR))


def _run(program: str) -> Callable[[], None]:
    def attempt() -> None:
        child = os.fork()
        if child == 0:
            try:
                os.execv(program, [program, "-c", ""])  # noqa: S606
            except OSError as error:
                os._exit(error.errno or 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise OSError(status, "failed")

    return attempt


def _run_a_copy(path: str) -> Callable[[], None]:
    def attempt() -> None:
        shutil.copy("/bin/sh", path)
        try:
            _run(path)()
        finally:
            os.unlink(path)  # noqa: PTH108

    return attempt


def _map_as_code(path: str) -> Callable[[], None]:
    def attempt() -> None:
        with open(path, "rb") as file:  # noqa: PTH123
            code = mmap.PROT_READ | mmap.PROT_EXEC
            mmap.mmap(file.fileno(), mmap.PAGESIZE, flags=mmap.MAP_PRIVATE, prot=code).close()

    return attempt


def _memfd() -> None:
    os.close(os.memfd_create("placeholder"))


ATTEMPTS: Final[dict[str, Callable[[], None]]] = {
    "perf_event_open": _perf_event_open,
    "ptrace": _ptrace,
    "mount": _mount,
    "keyctl": _keyctl,
    "userfaultfd": _userfaultfd,
    "io_uring_setup": _io_uring_setup,
    "unshare": _namespace,
    "socket AF_INET": _open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "socket AF_NETLINK": _open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "memory to write and execute": _write_and_execute,
    "run /bin/sh": _run("/bin/sh"),
    "run a copy in /tmp": _run_a_copy("/tmp/probe"),
    "run a copy in /var/tmp": _run_a_copy("/var/tmp/probe"),
    "run a copy in /dev/shm": _run_a_copy("/dev/shm/probe"),
    "map /bin/sh as code": _map_as_code("/bin/sh"),
    "run Python": _run("/usr/bin/python3"),
    "write in /etc": _write("/etc/probe"),
    "write to the libraries": _write(f"/usr/lib/{platform.machine()}-linux-gnu/probe"),
    "write in /var/lib": _write("/var/lib/probe"),
    "write in /run": _write("/run/probe"),
    # A second node of /dev/null, which the test makes (helper_unit).
    "open another device": _open("/dev/bpferry-probe"),
    "open /dev/net/tun": _open("/dev/net/tun"),
    "memfd_create": _memfd,
    "socket AF_UNIX": _open_socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
}


def attempt(action: Callable[[], None]) -> str:
    """Return what came of *action*."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "allowed"


if __name__ == "__main__":
    print(json.dumps({name: attempt(action) for name, action in ATTEMPTS.items()}))  # noqa: T201
