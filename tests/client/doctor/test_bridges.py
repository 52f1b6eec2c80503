# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about bridges, the firewall and QEMU's own list of bridges."""

import os
from pathlib import Path

import pytest

from bpferry.machine.doctor.bridges import (
    BRIDGE_CONF,
    NETFILTER_SWITCH,
    bridges_of,
    check_bridges,
)
from bpferry.machine.doctor.finding import Finding
from tests.client.doctor.support import host, named

UP = {
    "/sys/class/net/br0/flags": "0x1003",
    "/sys/class/net/br0/mtu": "1500",
    "/sys/class/net/br0/brif/eth0/": "",
    "/sys/class/net/br0/bridge/stp_state": "0",
    "/sys/class/net/br0/bridge/forward_delay": "1500",
    "/sys/class/net/br0/bridge/vlan_filtering": "1",
    "/sys/class/net/eth0/flags": "0x1003",
}
"""A host with one bridge."""


def found_with(folder: Path, more: dict[str, str], name: str = "bridges.state") -> Finding:
    """Return what is said of the bridge br0 of a host that has *more* or other files."""
    return named(check_bridges(host(folder, {**UP, **more}), ["br0"]), name)


def test_only_bridges_are_bridges(tmp_path: Path) -> None:
    """A card is none."""
    assert ["br0"] == bridges_of(host(tmp_path, UP))


@pytest.mark.parametrize(
    ("more", "state", "word", "command"),
    [
        ({}, "ok", "has 1 port and the MTU 1500, and filters VLANs", ""),
        (
            {"/sys/class/net/br0/bridge/vlan_filtering": "0", "/sys/class/net/br0/brif/t/": ""},
            "ok",
            "has 2 ports and the MTU 1500, and does not filter VLANs",
            "",
        ),
        (
            {"/sys/class/net/br0/flags": "0x1002"},
            "warning",
            "is down",
            "sudo ip link set br0 up",
        ),
        (
            {"/sys/class/net/br0/bridge/stp_state": "1"},
            "warning",
            "a VM has to wait for 30 s",
            "sudo ip link set br0 type bridge stp_state 0",
        ),
        (
            {
                "/sys/class/net/br0/bridge/stp_state": "1",
                "/sys/class/net/br0/bridge/forward_delay": "0",
            },
            "ok",
            "is up",
            "",
        ),
    ],
)
def test_a_bridge_carries_frames(
    tmp_path: Path, more: dict[str, str], state: str, word: str, command: str
) -> None:
    """It has to be up, and not make VMs wait."""
    found = found_with(tmp_path, more)

    assert (state, command) == (found.state, found.command)
    assert word in found.message


def test_a_host_without_a_bridge_has_no_taps(tmp_path: Path) -> None:
    """The command makes one, and the page shows one that lasts."""
    found = named(check_bridges(host(tmp_path, {}), []), "bridges.any")

    assert found.state == "fault"
    assert "docs/administration.md" in found.fix
    assert "ip link add br0 type bridge" in found.command


def test_a_kernel_without_bridges_needs_another(tmp_path: Path) -> None:
    """No command would make one."""
    files = host(
        tmp_path,
        {
            "/proc/sys/kernel/osrelease": "6.1.0",
            "/lib/modules/6.1.0/modules.dep": "kernel/x.ko:",
            "/lib/modules/6.1.0/modules.builtin": "kernel/y.ko",
        },
    )
    found = named(check_bridges(files, []), "bridges.any")

    assert (found.state, found.command) == ("fault", "")
    assert "this kernel has no bridges" in found.message


def test_a_bridge_that_a_vm_names_and_the_host_lacks_is_a_fault(tmp_path: Path) -> None:
    """Those that are there are named."""
    found = named(check_bridges(host(tmp_path, UP), ["br0", "br9"]), "bridges.missing")

    assert found.state == "fault"
    assert found.message == "this host has no bridge 'br9'; it has 'br0'"
    assert "ip link add br9 type bridge" in found.command


def test_a_host_whose_bridge_is_not_asked_about_has_one(tmp_path: Path) -> None:
    """A VM without a card on it is not told of it."""
    names = [one.name for one in check_bridges(host(tmp_path, UP), [])]

    assert ["bridges.firewall", "bridges.qemu-bridge-conf"] == names


@pytest.mark.parametrize(
    ("switches", "command"),
    [
        ({}, ""),
        ({"ip": "0", "ip6": "0"}, ""),
        ({"ip": "1", "ip6": "0"}, "sudo sysctl net.bridge.bridge-nf-call-iptables=0"),
        ({"ip": "0", "ip6": "1"}, "sudo sysctl net.bridge.bridge-nf-call-ip6tables=0"),
    ],
)
def test_the_firewall_may_see_what_stays_on_a_bridge(
    tmp_path: Path, switches: dict[str, str], command: str
) -> None:
    """The command turns off what is on, and nothing else."""
    more = {NETFILTER_SWITCH.format(one): value for one, value in switches.items()}
    found = found_with(tmp_path, more, "bridges.firewall")

    assert command == found.command
    assert found.state == ("warning" if command else "ok")


@pytest.mark.parametrize(
    ("mode", "owner", "state", "command"),
    [
        (0o644, 0, "ok", ""),
        (0o640, 0, "warning", f"sudo chmod 0644 {BRIDGE_CONF}"),
        (
            0o664,
            0,
            "warning",
            f"sudo chown root: {BRIDGE_CONF} && sudo chmod 0644 {BRIDGE_CONF}",
        ),
        (
            0o644,
            1000,
            "warning",
            f"sudo chown root: {BRIDGE_CONF} && sudo chmod 0644 {BRIDGE_CONF}",
        ),
    ],
)
@pytest.mark.privileged
def test_qemus_list_counts_if_only_root_can_write_it(
    tmp_path: Path, mode: int, owner: int, state: str, command: str
) -> None:
    """And if the helper, which is not root, can read it."""
    files = host(tmp_path, {BRIDGE_CONF: "allow br0\n"})
    path = files.path(BRIDGE_CONF)
    path.chmod(mode)
    os.chown(path, owner, 0)
    found = named(check_bridges(files, []), "bridges.qemu-bridge-conf")

    assert (state, command) == (found.state, found.command)


def test_qemus_list_need_not_be_there(tmp_path: Path) -> None:
    """The policy is enough."""
    found = found_with(tmp_path, {}, "bridges.qemu-bridge-conf")

    assert found.state == "ok"
    assert "none is needed" in found.message
