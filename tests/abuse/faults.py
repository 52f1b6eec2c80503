# SPDX-License-Identifier: LGPL-2.1-or-later
"""Let system calls of a running helper fail, one at a time, with strace.

strace stops a thread at a call and gives it an error instead; the call is not made. It counts the
calls of each thread on its own. Whether it has injected anything is in its output, and has to be
looked at: a filter that lets no call through injects nothing, and every test passes.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests import requires
from tests.support.census import wait_until

NO_FDS: Final = ("EMFILE", "ENFILE")
NO_MEMORY: Final = ("ENOMEM",)

ERRORS: Final[dict[str, tuple[str, ...]]] = {
    "accept4": (*NO_FDS, *NO_MEMORY, "ENOBUFS", "ECONNABORTED", "EINTR", "EAGAIN", "EPERM"),
    "bind": (*NO_MEMORY, "EADDRINUSE"),
    "bpf": (*NO_MEMORY, *NO_FDS, "EPERM", "EACCES", "EAGAIN", "EINVAL", "ENOSPC", "E2BIG"),
    "brk": NO_MEMORY,
    "chmod": ("EIO", "EROFS", "EPERM"),
    "clone": ("EAGAIN", *NO_MEMORY),
    "clone3": ("EAGAIN", *NO_MEMORY),
    "connect": ("ECONNREFUSED", "ENOENT", "EAGAIN"),
    "dup": NO_FDS,
    "epoll_ctl": (*NO_MEMORY, "ENOSPC"),
    "epoll_wait": ("EINTR",),
    "eventfd2": (*NO_FDS, *NO_MEMORY),
    "faccessat2": ("EACCES", "ENOENT", "EIO"),
    "fchmod": ("EIO", "EROFS", "EPERM"),
    "fcntl": (*NO_FDS, *NO_MEMORY),
    "fdatasync": ("EIO", "ENOSPC", "EDQUOT"),
    "flock": ("EINTR", "ENOLCK"),
    "fstat": ("EIO", *NO_MEMORY),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"),
    "ftruncate": ("EIO", "ENOSPC"),
    "getdents64": ("EIO", *NO_MEMORY),
    "getpeername": ("ENOTCONN", "ENOBUFS"),
    "getrandom": ("EINTR", "EAGAIN"),
    "getsockname": ("ENOBUFS",),
    "getsockopt": (*NO_MEMORY, "ENODATA", "EINVAL"),
    "ioctl": (*NO_MEMORY, *NO_FDS, "EBUSY", "EPERM", "EINVAL", "ENODEV", "EINTR"),
    "listen": ("EADDRINUSE",),
    "lseek": ("EIO", "EINVAL"),
    "madvise": (*NO_MEMORY, "EAGAIN", "EINVAL"),
    "memfd_create": (*NO_FDS, *NO_MEMORY),
    "mkdir": ("EIO", "ENOSPC", "EROFS"),
    "mmap": (*NO_MEMORY, "EAGAIN", "EPERM"),
    "mprotect": (*NO_MEMORY, "EACCES"),
    "mremap": (*NO_MEMORY, "EAGAIN"),
    "newfstatat": ("ENOENT", "EACCES", "EIO", "ELOOP", *NO_MEMORY),
    "open": (*NO_FDS, *NO_MEMORY, "ENOENT", "EACCES", "EIO"),
    "openat": (*NO_FDS, *NO_MEMORY, "ENOENT", "EACCES", "EIO", "EINTR"),
    "perf_event_open": (*NO_FDS, *NO_MEMORY, "EACCES"),
    "poll": ("EINTR", *NO_MEMORY),
    "pread64": ("EIO", "EINTR", *NO_MEMORY),
    "pwrite64": ("EIO", "ENOSPC", "EDQUOT"),
    "read": ("EIO", "EINTR", "EAGAIN", *NO_MEMORY),
    "readlink": ("ENOENT", "EACCES", "EIO"),
    "recvfrom": ("EINTR", "EAGAIN", "ENOBUFS", "ECONNRESET", *NO_MEMORY),
    "recvmsg": (*NO_MEMORY, "EINTR", "EAGAIN", "ENOBUFS", "ECONNRESET"),
    "rename": ("EIO", "ENOSPC", "EROFS", "EXDEV"),
    "renameat": ("EIO", "ENOSPC", "EROFS", "EXDEV"),
    "sendmsg": ("EPIPE", "EAGAIN", "ENOBUFS", "ETOOMANYREFS", "EINTR", "ECONNRESET", *NO_MEMORY),
    "sendto": ("EPIPE", "EAGAIN", "ENOBUFS", "ECONNREFUSED", "EINTR", "EPERM", *NO_MEMORY),
    "setns": ("EPERM", *NO_MEMORY),
    "setsockopt": (*NO_MEMORY, "ENOBUFS", "EPERM", "EINVAL"),
    "shutdown": ("ENOTCONN", "ENOBUFS"),
    "socket": (*NO_FDS, *NO_MEMORY, "ENOBUFS", "EACCES", "EAFNOSUPPORT"),
    "stat": ("ENOENT", "EACCES", "EIO", *NO_MEMORY),
    "statx": ("ENOENT", "EACCES", "EIO", *NO_MEMORY),
    "sysinfo": ("EFAULT",),
    "unlink": ("EIO", "EROFS", "ENOENT"),
    "unlinkat": ("EIO", "EROFS", "ENOENT"),
    "write": ("EIO", "ENOSPC", "EPIPE", "EAGAIN", "EINTR"),
}
"""What the manual pages of these calls name that can happen to a program without a fault."""

CANNOT_FAIL: Final = {
    "capget", "clock_gettime", "clock_nanosleep", "exit", "getegid", "geteuid", "getgid", "getpid",
    "gettid", "getuid", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
    "sched_getaffinity", "sched_yield", "set_robust_list", "uname",
}  # fmt: skip
"""They fail for wrong arguments only."""

NOT_TRIED: Final = {
    "capset": "a helper that cannot raise a capability again ends, on purpose (privilege)",
    "close": "when it fails, the fd is closed all the same; an injected error leaves it open",
    "dup3": "libbpf puts a map's fd in the place of one that it has, which cannot fail",
    "futex": "glibc ends a process in which it fails, and it fails for wrong arguments only",
    "munmap": "it fails if there are too many mappings, and glibc leaks them then, as it says",
}
"""Calls that are left alone, and why."""

NOT_IN_THE_LOOP: Final = {
    "ioctl": "FIONBIO and TIOCOUTQ of its sockets fail for wrong arguments only",
    "read": "of an eventfd, which only says that there is nothing",
}
"""The same for the thread that serves all clients: elsewhere these reach files and taps."""


class Fault(NamedTuple):
    """The *number*-th *call* of a thread, from 1, fails with *error*."""

    call: str
    error: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} #{self.number}: {self.error}"


class Threads(NamedTuple):
    """The threads of a helper: the loop that serves all clients, or all others."""

    pid: int
    loop: bool

    def ids(self) -> list[int]:
        """Return their ids."""
        tasks = (int(task.name) for task in Path(f"/proc/{self.pid}/task").iterdir())
        return sorted(task for task in tasks if (task == self.pid) == self.loop)


class Trace:
    """What strace writes."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def counts(self) -> Counter[str]:
        """Return how often each call was made, by the thread that made it most often."""
        threads: dict[str, Counter[str]] = {}
        for line in self._lines():
            found = re.match(r"(?:(\d+) +)?(\w+)\(", line)
            if found:
                threads.setdefault(found[1] or "", Counter())[found[2]] += 1
        most: Counter[str] = Counter()
        for counter in threads.values():
            most |= counter
        return most

    def injected(self) -> list[str]:
        """Return the calls that were made to fail."""
        return [line for line in self._lines() if "(INJECTED)" in line]

    def _lines(self) -> list[str]:
        return self._output.read_text(errors="replace").splitlines()


@contextmanager
def traced(threads: Threads, output: Path, fault: Fault | None = None) -> Iterator[Trace]:
    """Trace *threads* into *output* while the block runs, and inject *fault*."""
    ids = threads.ids()
    command = [requires.program("strace"), "-qq", "-o", str(output), "-e", "signal=none"]
    command += [word for number in ids for word in ("-p", str(number))]
    if fault is not None:
        how = f"{fault.call}:error={fault.error}:when={fault.number}"
        command += ["-e", f"trace={fault.call}", "-e", f"inject={how}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_until_attached(ids, process)
            yield Trace(output)
        finally:
            process.terminate()
            process.wait()


def _wait_until_attached(ids: list[int], process: "subprocess.Popen[str]") -> None:
    """Wait until each thread of *ids* is traced."""
    line = f"\nTracerPid:\t{process.pid}\n"
    statuses = [Path(f"/proc/{number}/status") for number in ids]
    if not wait_until(lambda: all(line in status.read_text() for status in statuses)):
        assert process.stderr is not None
        raise AssertionError(f"strace does not trace: {process.stderr.read()}")
