# SPDX-License-Identifier: LGPL-2.1-or-later
"""The only place where a test is skipped, each time with a sentence that says what is missing.

With BPFERRY_REQUIRE_ALL=1 what is missing fails the test instead: a run that must be complete.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


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


def qemu() -> str:
    """Return the path of a QEMU for x86-64, or skip."""
    return program("qemu-system-x86_64")


def mmdebstrap() -> None:
    """Skip unless parts of another Debian can be fetched: as root, by mmdebstrap."""
    root()
    program("mmdebstrap")


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("BPFERRY_REQUIRE_ALL") == "1":
        pytest.fail(f"{sentence}, and nothing may be skipped here", pytrace=False)
    pytest.skip(sentence)
