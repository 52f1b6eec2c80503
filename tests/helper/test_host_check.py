# SPDX-License-Identifier: LGPL-2.1-or-later
"""What on the host does not fit a policy: bridges, networks, names, and who can read it."""

import ctypes
import os
import re
from pathlib import Path

import pytest

from bpferry_helper import host_check
from bpferry_helper.errors import PolicyError
from bpferry_helper.host_check import (
    TAP_HELPER_FDS,
    check_helpers_can_read,
    find_far_includes,
    find_owned,
    find_strays,
    find_unlimited,
    find_untaken,
    group,
    user,
)
from bpferry_helper.learning import learning_limit
from bpferry_helper.policy.accounts import Range, Subordinates
from bpferry_helper.policy.toml_form import parse_policy
from tests.helper.tap.own_host import Host, on_own_host
from tests.support.learning import set_learning_limit

REPOSITORY = Path(__file__).resolve().parents[2]

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
        "/p:2 (users.1001.bridges) names 'br7', which is no bridge on this host",
        "/p:2 (users.1001.bridges) names 'lab-?', which fits no bridge on this host",
        "/p:3 (users.1001.deny) names 'br8', which is no bridge on this host",
        "/p:4 (bridges.br9) names 'br9', which is no bridge on this host",
        "/p:7 (networks.nowhere) leads to 'virbr0', which is no bridge on this host",
        "/p:8 (networks.unopened) leads to 'br1', which no rule allows to anybody",
    ]


def test_where_qemu_s_file_counts_it_may_open_the_bridge_of_a_network() -> None:
    """What that says is not looked at here."""
    policy = parse_policy("/p", '[qemu]\nbridge-conf = true\n[networks]\nx = "br1"\n', 0)

    assert [] == list(find_strays(policy))


@pytest.mark.parametrize(
    ("limit", "lock", "warned"),
    [(0, "false", True), (4096, "false", False), (None, "false", False), (0, "true", False)],
)
def test_a_bridge_that_users_could_fill_is_said(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, lock: str, *, warned: bool
) -> None:
    """Once for each bridge that is open without address-lock, if the kernel knows a limit."""
    monkeypatch.setattr(host_check, "learning_limit", lambda _bridge: limit)
    text = "[users.1001]\nbridges = ['br*']\n[users.1002]\nbridges = ['br0']\n[bridges.br0]\n"
    policy = parse_policy(
        "/p", f"{text}address-lock = {lock}\n[bridges.br1]\naddress-lock = true", 0
    )
    lines = list(find_unlimited(policy))

    assert warned == bool(lines)
    for line in lines:
        assert line.startswith("/p:2 (users.1001.bridges) opens 'br0' without address-lock")
        assert line.endswith("ip link set br0 type bridge fdb_max_learned 4096")
    assert len(lines) <= 1


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("[users.1001]\nbridges = ['br0']\nqueues-per-tap = 64", ""),
        ("[quota]\ntaps-in-total = 257\nqueues-per-tap = 64", ""),
        ("[users.1001]\nbridges = ['br0']\n[quota]\ntaps-in-total = 1024", ""),
        (
            "[users.1001]\nbridges = ['br0']\nqueues-per-tap = 17\n[quota]\ntaps-in-total = 1024",
            "17,408",
        ),
        (
            "[qemu]\nbridge-conf = true\n[quota]\ntaps-in-total = 257\nqueues-per-tap = 64",
            "16,448",
        ),
    ],
    ids=["by default", "no bridge is open", "as many as allowed", "a rule", "QEMU's file"],
)
def test_more_queues_than_the_helper_may_have_on_their_way_are_said(text: str, most: str) -> None:
    """With the line of the number of taps, without which no policy lets users hold so many."""
    lines = list(find_untaken(parse_policy("/p", text, 0)))

    assert bool(most) == bool(lines)
    for line in lines:
        assert re.match(r"/p:\d \(quota.taps-in-total\) ", line)
        assert f"lets users hold {most} queues: while more than 16,384 of" in line


@pytest.mark.parametrize(
    ("ids", "owned"), [("20000-29999", True), ("30000-39999", False), ("1001", False)]
)
def test_a_range_whose_uids_a_user_can_be_is_said(
    ids: str, monkeypatch: pytest.MonkeyPatch, *, owned: bool
) -> None:
    """Who has subordinate uids would have the quotas of all of them."""
    table = Subordinates([Range(1000, 1002, 7), Range(29999, 30000, 4_000_007)])
    monkeypatch.setattr(host_check, "read_subordinates", lambda: table)
    policy = parse_policy("/p", f"[users.{ids}]\nbridges = ['br0']\n", 0)

    said = "gives to uid 4000007, who can be each of 29999-29999"
    assert [owned] == [said in line for line in find_owned(policy)] or not owned
    assert owned == bool(list(find_owned(policy)))


def test_the_helper_has_as_many_fds_as_its_unit_says() -> None:
    """The kernel counts those on their way against this limit."""
    unit = (REPOSITORY / "systemd/bpferry-tap.service").read_text(encoding="utf-8")

    assert [str(TAP_HELPER_FDS)] == re.findall(r"^LimitNOFILE=(.*)$", unit, re.MULTILINE)


@pytest.mark.privileged
@pytest.mark.parametrize("counts", ["true", "false"])
def test_a_file_that_qemu_s_includes_from_elsewhere_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: str
) -> None:
    """The helper's AppArmor profile lets it read only the folder of bridge.conf."""
    near, far = tmp_path / "qemu/near.conf", tmp_path / "far.conf"
    near.parent.mkdir()
    for path in (near, far):
        path.write_text("allow br0\n", encoding="utf-8")
    main_file = near.with_name("bridge.conf")
    main_file.write_text(f"include {near}\ninclude {far}\n", encoding="utf-8")
    monkeypatch.setattr(host_check, "BRIDGE_CONF_PATH", str(main_file))
    lines = list(find_far_includes(parse_policy("/p", f"[qemu]\nbridge-conf = {counts}\n", 0)))

    if counts == "false":
        assert [] == lines
        return
    (line,) = lines
    assert f"includes '{far}', which is outside {main_file.parent}" in line


@pytest.mark.privileged
@pytest.mark.parametrize(
    ("lines", "lock", "counts", "warned"),
    [
        ("allow br0", "false", "true", ["br0"]),
        ("allow all", "false", "true", ["br0", "br1", "vm-1"]),
        ("allow all\ndeny br1", "false", "true", ["br0", "vm-1"]),
        ("allow br0", "true", "true", []),
        ("allow br0", "false", "false", []),
    ],
    ids=["one", "all", "one is denied", "locked", "it does not count"],
)
def test_a_bridge_that_qemu_s_file_alone_opens_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    lock: str,
    counts: str,
    *,
    warned: list[str],
) -> None:
    """With the file's line."""
    conf = tmp_path / "bridge.conf"
    conf.write_text(lines)
    conf.chmod(0o644)
    monkeypatch.setattr(host_check, "BRIDGE_CONF_PATH", str(conf))
    monkeypatch.setattr(host_check, "learning_limit", lambda _bridge: 0)
    text = f"[qemu]\nbridge-conf = {counts}\n[bridges.br0]\naddress-lock = {lock}\n"
    found = list(find_unlimited(parse_policy("/p", text, 0)))

    assert [f"{conf}:1 opens '{bridge}' without address-lock" for bridge in warned] == [
        line.partition(", and")[0] for line in found
    ]


@pytest.mark.privileged
def test_the_kernel_tells_how_many_addresses_a_bridge_learns() -> None:
    """As many as it is told; any number at first, and of what is no bridge nothing is known."""

    def act(host: Host) -> list[int | None]:
        with host.netlink.namespace() as there:
            enter(there.borrow())
        found = [learning_limit("br0"), learning_limit("lo"), learning_limit("none")]
        set_learning_limit("br0", 77)
        return [*found, learning_limit("br0")]

    release = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
    expected = [0, None, None, 77] if release >= (6, 7) else [None] * 4
    assert expected == on_own_host(act)


def enter(namespace: int) -> None:
    """Enter the network *namespace* with this thread."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "cannot enter a namespace")


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
