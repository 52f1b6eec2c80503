# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every test here must leave as it was."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import requires

PR_SET_CHILD_SUBREAPER: Final = 36
"""linux/prctl.h."""

OURS: Final = "bpferry-demo"
OTHERS: Final = "/run/netns/bpferry-test-"
"""Namespaces of tests that run at the same time."""
TAPS: Final = ("bft", "bfp")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail the test if a process, a mount, a folder or a tap is there afterwards that was not.

    A process that nobody waits for becomes a child of ours, but not after the test: we wait for
    none either, and libvirt would take the QEMUs that it has killed for alive. Namespaces go with
    their processes, for no mount holds one.
    """
    requires.root()
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = _found()
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert _found() == before


def _found() -> tuple[set[str], list[str], list[Path], list[str]]:
    children = {
        pid
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    }
    table = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    mounts = [line for line in table if OURS in line or (" nsfs " in line and OTHERS not in line)]
    taps = [name for name in os.listdir("/sys/class/net") if name.startswith(TAPS)]  # noqa: PTH208
    return children, mounts, list(Path("/run").glob(f"{OURS}-*")), taps
