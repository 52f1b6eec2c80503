# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exactly the capabilities of the role: with one more or one less the helper does not start."""

import subprocess
from pathlib import Path

import pytest

from bpferry_helper.privilege import CAPABILITIES, CAPABILITY_NUMBERS
from tests.support.helper_process import CAPABILITIES as BPF_CAPABILITIES
from tests.support.helper_process import PYTHON, as_helper, installed
from tests.support.tap_process import CAPABILITIES as TAP_CAPABILITIES

pytestmark = pytest.mark.privileged

UNITS = Path(__file__).parent.parent.parent / "systemd"

ROLES = [("bpf", BPF_CAPABILITIES), ("tap", TAP_CAPABILITIES)]

PROGRAM = """
import sys; sys.path += [sys.argv[1], '/usr/lib/python3/dist-packages']
from bpferry_helper.errors import StartupError
from bpferry_helper.privilege import shrink
try: shrink(sys.argv[2])
except StartupError as error: print(error); sys.exit(1)
text = open('/proc/self/status').read()
print([line for line in text.splitlines() if line.startswith('NoNewPrivs')][0].split()[1])
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
"""Prints no_new_privs and PR_GET_DUMPABLE."""


def shrunk(command: list[str]) -> tuple[int, list[str]]:
    """Run *command*; return its status and lines."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def program(role: str = "bpf") -> list[str]:
    """Return the command that shrinks itself to *role*."""
    return [PYTHON, "-I", "-c", PROGRAM, str(installed()), role]


@pytest.mark.parametrize(("role", "capabilities"), ROLES)
def test_the_role_s_capabilities_are_accepted(role: str, capabilities: str) -> None:
    """And then nothing can be gained, and nobody of the same user can look in."""
    assert shrunk(as_helper(program(role), capabilities)) == (0, ["1", "0"])


@pytest.mark.parametrize("role", ["bpf", "tap"])
def test_root_is_refused(role: str) -> None:
    """However convenient it would be to run it as root once."""
    status, lines = shrunk(program(role))

    assert (status, "too much capability 0" in lines[0]) == (1, True)


@pytest.mark.parametrize(
    ("role", "capabilities", "words"),
    [
        ("bpf", "-all,+bpf", "missing CAP_PERFMON, too much none"),
        ("bpf", "-all,+perfmon", "missing CAP_BPF, too much none"),
        ("bpf", "-all", "missing CAP_PERFMON, CAP_BPF"),
        ("bpf", "-all,+bpf,+perfmon,+net_admin", "missing none, too much CAP_NET_ADMIN"),
        ("bpf", "-all,+bpf,+perfmon,+sys_admin", "missing none, too much capability 21"),
        ("tap", "-all", "missing CAP_NET_ADMIN, too much none"),
        ("tap", "-all,+bpf,+perfmon", "missing CAP_NET_ADMIN, too much CAP_PERFMON, CAP_BPF"),
        ("tap", "-all,+net_admin,+net_raw", "missing none, too much capability 13"),
        ("tap", "-all,+net_admin,+sys_admin", "missing none, too much capability 21"),
    ],
)
def test_more_or_less_is_refused(role: str, capabilities: str, words: str) -> None:
    """The message names what is missing and what is too much."""
    status, lines = shrunk(as_helper(program(role), capabilities))

    assert (status, words in lines[0]) == (1, True)


@pytest.mark.parametrize("role", ["bpf", "tap"])
@pytest.mark.parametrize("setting", ["CapabilityBoundingSet=", "AmbientCapabilities="])
def test_the_unit_gives_exactly_these(setting: str, role: str) -> None:
    """The constant and the unit file say the same."""
    lines = (UNITS / f"bpferry-{role}.service").read_text().splitlines()
    given = {
        name for line in lines if line.startswith(setting) for name in line[len(setting) :].split()
    }

    assert set(CAPABILITIES[role]) == given


def test_the_numbers_are_the_kernel_s() -> None:
    """As linux/capability.h has them."""
    header = Path("/usr/include/linux/capability.h").read_text()
    for name, number in CAPABILITY_NUMBERS.items():
        assert f"#define {name}" in header
        value = header.split(f"#define {name}", 1)[1].split()[0]

        assert (name, str(number)) == (name, value)
