# SPDX-License-Identifier: LGPL-2.1-or-later
"""The only place where a test is skipped, each time with a sentence that says what is missing.

With BPFERRY_REQUIRE_ALL=1 what is missing fails the test instead: a run that must be complete.
"""

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from bpferry_helper.disposal import SO_PASSRIGHTS


def root() -> None:
    """Skip unless this process is root."""
    if os.geteuid() != 0:
        _missing("this test changes users and capabilities and needs root")


def kernel_with_btf() -> None:
    """Skip unless the kernel describes its own types."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        _missing("this kernel has no BTF, so it cannot run a BPF iterator")


def program(name: str) -> str:
    """Return the path of the program *name*, or skip."""
    path = shutil.which(name)
    if path is None:
        _missing(f"the program '{name}' is not installed")
    return path


def default_route() -> None:
    """Skip unless this host has a way to other networks, as passt wants it."""
    table = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    if not any(line.split()[1] == "00000000" for line in table):
        _missing("this host has no default route, and passt wants one")


def qemu() -> str:
    """Return the path of a QEMU for x86-64, or skip."""
    return program("qemu-system-x86_64")


def old_cgroups() -> None:
    """Skip unless Slurm on a node of a cluster can have a cgroup: see tests/cluster/confinement."""
    if not Path("/sys/fs/cgroup/freezer").is_dir():
        _missing("this machine has no old cgroup hierarchies, and Slurm's nodes are made for these")


def processors(number: int) -> None:
    """Skip unless this process may run on the first *number* processors of the host."""
    if not set(range(number)) <= os.sched_getaffinity(0):
        _missing(f"this test needs the first {number} processors of the host")


def mmdebstrap() -> None:
    """Skip unless parts of another Debian can be fetched: as root, by mmdebstrap."""
    root()
    program("mmdebstrap")


def conformance() -> Path:
    """Return the folder with libvirt's test pairs, or skip: it is not part of this repository."""
    beside = Path(__file__).parents[2] / "shared" / "conformance"
    folder = Path(os.environ.get("BPFERRY_CONFORMANCE", beside))
    if not (folder / "compare.py").is_file():
        _missing("libvirt's test pairs are not there, in a folder beside the checkout")
    return folder


def file(path: str, package: str) -> None:
    """Skip unless the file *path* is there, which Debian's *package* brings."""
    if not Path(path).is_file():
        _missing(f"'{path}' of the package {package} is not there")


def something(found: Sequence[object], what: str) -> None:
    """Skip unless anything was *found* of *what* a test looks at on this host."""
    if not found:
        _missing(f"this host has no {what}")


def environment() -> dict[str, str]:
    """Return the environment for a program of ours that a test starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BPFERRY_")}


def schema() -> Path:
    """Return libvirt's RELAX NG schema of domain documents, or skip."""
    path = Path("/usr/share/libvirt/schemas/domain.rng")
    if not path.is_file():
        _missing("libvirt's schema is not installed (package libvirt-common)")
    return path


def joinable_taps(*, joined: bool) -> None:
    """Skip unless a stranger *joined* a tap that has no owner, as kernels allow before the fix."""
    if not joined:
        _missing("this kernel lets no stranger join a tap without an owner (CVE-2026-99281)")


def refused_fds() -> None:
    """Skip unless the kernel can refuse fds on the side of who sends them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
        except OSError:
            _missing("this kernel has no SO_PASSRIGHTS, as of Linux 6.16")


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("BPFERRY_REQUIRE_ALL") == "1":
        pytest.fail(f"{sentence}, and nothing may be skipped here", pytrace=False)
    pytest.skip(sentence)
