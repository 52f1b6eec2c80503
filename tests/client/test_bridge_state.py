# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bridge that is down takes taps, and carries no frame."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.domain.model.cards import Card
from bpferry.machine.bridge_state import find_bridges_down
from tests.client.doctor.support import host
from tests.client.test_lint import machine as vm_with

WARNING = "the bridge 'br0' is down, so it carries no frame"

BRIDGE = {"/sys/class/net/br0/bridge/stp_state": "0"}

HOST_OF_ITS_OWN = (
    "unshare", "--net", "--mount", "sh", "-c",
    'mount -t sysfs sysfs /sys && ip link add br0 type bridge && $1 && shift && exec "$@"', "sh",
)  # fmt: skip
"""Runs a program where br0 is the only bridge; the first argument is a command before it."""


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({**BRIDGE, "/sys/class/net/br0/flags": "0x1002"}, [WARNING]),
        ({**BRIDGE, "/sys/class/net/br0/flags": "0x1003"}, []),
        ({"/sys/class/net/br0/flags": "0x1002"}, []),
        ({}, []),
    ],
    ids=["down", "up", "no bridge", "not there"],
)
def test_only_a_bridge_that_is_there_can_be_down(
    files: dict[str, str], found: list[str], tmp_path: Path
) -> None:
    """All else is for the helper to refuse."""
    machine = vm_with(Card(type="bridge", model="virtio", bridge="br0"))

    faults = list(find_bridges_down(machine, host(tmp_path, files)))

    assert found == [fault.message for fault in faults]
    assert all(fault.key == "cards[0].bridge" for fault in faults)


@pytest.mark.parametrize("name", ["../net/br0", ".", ""])
def test_names_that_no_bridge_can_have_are_not_looked_for(name: str, tmp_path: Path) -> None:
    """They are refused elsewhere."""
    files = {**BRIDGE, "/sys/class/net/br0/flags": "0x1002"}
    machine = vm_with(Card(type="bridge", model="virtio", bridge=name))

    assert [] == list(find_bridges_down(machine, host(tmp_path, files)))


@pytest.mark.qemu
@pytest.mark.privileged
@pytest.mark.parametrize(("before", "told"), [("true", True), ("ip link set br0 up", False)])
def test_check_warns_of_it(before: str, told: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    """Beside what else there is to say; the place and the command are there."""
    file = tmp_path / "vm.toml"
    file.write_text(
        'name = "t"\nmemory = "64 MiB"\naccelerator = "tcg"\n[[cards]]\nbridge = "br0"\n',
        encoding="ascii",
    )
    argv = [*HOST_OF_ITS_OWN, before, sys.executable, "-m", "bpferry", "check", str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)

    said = f"warning: '{file}':5: 'cards[0].bridge': {WARNING}\n"
    fix = "    fix: ask the administrator to run 'sudo ip link set br0 up'\n"
    assert (said + fix in done.stdout) == told, done.stdout + done.stderr
    assert (WARNING in done.stdout) == told
