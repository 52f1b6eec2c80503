# SPDX-License-Identifier: LGPL-2.1-or-later
"""What on the host does not fit a policy: bridges, networks, names, and who can read it."""

import os
from pathlib import Path

import pytest

from bpferry_helper import host_check
from bpferry_helper.errors import PolicyError
from bpferry_helper.host_check import check_helpers_can_read, find_strays, group, user
from bpferry_helper.policy.toml_form import parse_policy

POLICY = """\
[users.1001]
bridges = ["br0", "br7", "vm-*", "lab-?"]
deny = ["br8"]
[bridges."br9"]
[networks]
default = "br0"
nowhere = "virbr0"
unopened = "br1"
"""


@pytest.fixture(autouse=True)
def _interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a host with three bridges, and an interface that has the name of one."""
    for name in ("br0", "br1", "vm-1"):
        (tmp_path / "net" / name / "bridge").mkdir(parents=True)
    (tmp_path / "net" / "br7").mkdir()
    monkeypatch.setattr(host_check, "INTERFACES", str(tmp_path / "net"))


def test_each_name_that_leads_nowhere_is_said_with_its_line() -> None:
    """A bridge may be made later; so these are warnings."""
    policy = parse_policy("/p", POLICY, 0)

    assert list(find_strays(policy)) == [
        "/p:2 (users.1001.bridges) names 'br7', which is no bridge of this host now",
        "/p:2 (users.1001.bridges) names 'lab-?', which fits no bridge of this host now",
        "/p:3 (users.1001.deny) names 'br8', which is no bridge of this host now",
        "/p:4 (bridges.br9) names 'br9', which is no bridge of this host now",
        "/p:7 (networks.nowhere) leads to 'virbr0', which is no bridge of this host now",
        "/p:8 (networks.unopened) leads to 'br1', which no rule opens to anybody",
    ]


def test_where_qemu_s_file_counts_it_may_open_the_bridge_of_a_network() -> None:
    """What that says is not looked at here."""
    policy = parse_policy("/p", '[qemu]\nbridge-conf = true\n[networks]\nx = "br1"\n', 0)

    assert [] == list(find_strays(policy))


def test_names_are_beside_numbers() -> None:
    """Where there is one."""
    assert ("uid 0 (root)", "group 0 (root)") == (user(0), group(0))
    assert ("uid 4000000001", "group 4000000001") == (user(4_000_000_001), group(4_000_000_001))


def test_a_policy_in_a_closed_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in force; a draft may be where only root comes."""
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o700)
    path = folder / "policy.toml"
    path.touch(mode=0o644)
    os.chmod(path, 0o644)  # noqa: PTH101 - whatever the umask
    check_helpers_can_read(str(path))
    monkeypatch.setattr(host_check, "POLICY_PATH", str(path))

    with pytest.raises(PolicyError, match=f"chmod 0755 {folder}"):
        check_helpers_can_read(str(path))
