# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which process has a file locked or a port taken, as far as this user may see (proc(5)).

A user can only look into their own processes; only root can look into others.
"""

import contextlib
import itertools
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.machine.control_socket import SOCKET_NAME, peer_pid
from bpferry.machine.folders import folder_name, runtime_folders

PROC: Final = Path("/proc")

LOCK: Final = (
    r"^lock:\s+\d+: \w+\s+\w+\s+(?:READ|WRITE)\s+\S+\s+\S+\s+(?P<start>\d+)\s+(?P<end>\S+)$"
)
"""A lock in the fdinfo of the open file that has it (fs/locks.c, show_fd_locks)."""

GUEST: Final = r"(?:^|,)guest=((?:[^,]|,,)+)"
"""The VM's name in the value of QEMU's -name."""


def find_locker(fd: int, byte: int) -> int | None:
    """Return the process that has a lock on *byte* of the file *fd*; None if none can be seen."""
    wanted = os.fstat(fd)
    for process, link in _open_files():
        with contextlib.suppress(OSError):
            if os.path.samestat(link.stat(), wanted):
                info = PROC.joinpath(str(process), "fdinfo", link.name).read_text("ascii")
                if any(_covers(found, byte) for found in re.finditer(LOCK, info, re.MULTILINE)):
                    return process
    return None


def _covers(lock: "re.Match[str]", byte: int) -> bool:
    return int(lock["start"]) <= byte and (lock["end"] == "EOF" or byte <= int(lock["end"]))


def find_socket_owner(inode: int) -> int | None:
    """Return a process that has the socket *inode* open; None if none can be seen."""
    wanted = f"socket:[{inode}]"
    for process, link in _open_files():
        with contextlib.suppress(OSError):
            if str(link.readlink()) == wanted:
                return process
    return None


def _open_files() -> Iterator[tuple[int, Path]]:
    """Yield each open file that we may see: its process, and its link."""
    for process in PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                yield from ((int(process.name), link) for link in (process / "fd").iterdir())


def describe_process(pid: int) -> str:
    """Describe *pid* for people: with the name of its VM if it is a QEMU that has one."""
    try:
        name = (PROC / str(pid) / "comm").read_text("utf-8", "replace").strip()
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid}"
    vm = _vm_name(words)
    return f"process {pid} ({name}, VM '{vm}')" if vm else f"process {pid} ({name})"


def find_own_vm(pid: int) -> str | None:
    """Return the name of the VM whose QEMU *pid* is, if a bpferry of this user supervises it."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        # The name of the program, in parentheses, may itself have spaces and parentheses.
        parent = int((PROC / str(pid) / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return None
    name = _vm_name(words)
    return name if name and parent in _supervisors(name) else None


def _supervisors(vm_name: str) -> Iterator[int]:
    """Yield the processes that take commands to a VM of this name."""
    for folder in runtime_folders():
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock,
        ):
            sock.settimeout(0)
            sock.connect(str(folder / folder_name(vm_name) / SOCKET_NAME))
            yield peer_pid(sock)


def _vm_name(words: list[str]) -> str:
    for option, value in itertools.pairwise(words):
        if option == "-name":
            found = re.search(GUEST, value)
            return (found[1] if found else value.partition(",")[0]).replace(",,", ",")
    return ""
