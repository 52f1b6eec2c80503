# SPDX-License-Identifier: LGPL-2.1-or-later
"""A policy in words, as ``bpferry-helper check-policy`` prints it."""

import os
from pathlib import Path

import pytest

from bpferry_helper import host_check
from bpferry_helper.errors import PolicyError
from bpferry_helper.status import describe_policy
from bpferry_helper.tap import bridge_conf

pytestmark = pytest.mark.privileged

WORDS = """\
Who may have taps:
  uid 1001 on: br0, vm-*; 4 taps of 8 queues.
  uid 1002 on: no bridge that no other rule names; not on: vm-7; 0 taps of 16 queues; they send \
from any address, get no frames for addresses that the bridge does not know.
  each of the uids 20000-29999 on: br0; 1 taps of 16 queues.
  each member of group 1700107 on: virbr0; 16 taps of 16 queues.
Taps on 'br0' are only in the VLANs 10, 20-30, \
are for cards with 52:54:00:00:00:00/24, 52:54:00:12:34:5a, \
hold at most 9 frames in each queue, \
reach no other isolated port, \
send from the card's own address only, \
need a bridge with an address of its own.
Taps on 'vm-*' are attached as by default.
Taps on 'slow' carry at most 1 Gbit/s to the VM, at most 16 Mbit/s from it.
The network 'default' is 'virbr0'.
Taps alive: 16 for each user, 200 in total.
Taps by one user: 16 at once, 8 a second.
Taps by all users together: 32 a second.
"""


def test_who_may_use_which_bridge_is_put_in_words(path: Path) -> None:
    """With what a rule leaves to the quota filled in."""
    path.write_text(
        "[users.1001]\nbridges = ['br0', 'vm-*']\nqueues-per-tap = 8\ntaps = 4\n"
        "[users.1002]\ndeny = ['vm-7']\ntaps = 0\naddress-lock = false\nunicast-flood = false\n"
        "[users.'20000-29999']\nbridges = ['br0']\ntaps = 1\n"
        "[groups.1700107]\nbridges = ['virbr0']\n"
        "[bridges.br0]\nisolated = true\naddress-lock = true\naddress = 'refuse'\n"
        "addresses = ['52:54:00:00:00:00/24', '52:54:00:12:34:5A']\n"
        "tx-queue-length = 9\nvlans = [10, '20-30']\n"
        "[bridges.'vm-*']\n"
        "[bridges.slow]\nbandwidth = { inbound = '1 Gbit/s', outbound = '2 MB/s' }\n"
        "[networks]\ndefault = 'virbr0'\n"
        "[quota]\ntaps-in-total = 200\n"
    )

    assert WORDS in describe_policy(str(path))


@pytest.mark.parametrize(("lock", "warned"), [("false", True), ("true", False)])
def test_addresses_without_a_lock_are_warned_of(path: Path, lock: str, *, warned: bool) -> None:
    """They would seem to protect something; the lock may be in another table."""
    text = "[users.1001]\nbridges = ['br0']\naddresses = ['52:54:00:00:00:01']\n"
    path.write_text(f"{text}[bridges.'br*']\naddress-lock = {lock}\n")

    words = f"warning: {path}:3 (users.1001.addresses) only limits what may be asked for: no table"
    assert warned == (words in describe_policy(str(path)))


@pytest.mark.parametrize("table", ["bridges.br0", "users.1001"])
@pytest.mark.parametrize(
    ("release", "said"), [("5.10.0-28-amd64", True), ("5.16.0", False), ("6.1.0-1-amd64", False)]
)
def test_a_kernel_that_cannot_lock_ports_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, table: str, release: str, *, said: bool
) -> None:
    """Where the policy wants that; the helper will refuse such taps."""
    system = os.uname_result(("Linux", "host", release, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: system)
    path.write_text(f"[{table}]\naddress-lock = true\n")

    assert said == (f"{release}, is too old to lock a port" in describe_policy(str(path)))


@pytest.mark.parametrize("table", ["bridges.br0", "users.1001"])
@pytest.mark.parametrize(
    ("ways", "lists", "missing"),
    [
        ("inbound", ("net/sch_tbf.ko.xz: a.ko\n", "net/b.ko\n"), ""),
        ("inbound", ("net/b.ko\n", "net/sch_tbf.ko\n"), ""),
        ("inbound", ("net/b.ko:\n", "net/not_sch_tbf.ko\n"), "inbound: sch_tbf"),
        ("outbound", ("net/act_police.ko:\n", "c.ko\n"), "outbound: sch_ingress, cls_matchall"),
        ("inbound", ("", ""), ""),
        ("inbound", ("net/b.ko:\n", ""), ""),
    ],
    ids=["a module", "built in", "missing", "some are missing", "no lists", "one list"],
)
def test_a_kernel_that_cannot_limit_bandwidth_is_said(  # noqa: PLR0917 - parameters
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    ways: str,
    lists: tuple[str, str],
    missing: str,
) -> None:
    """Where the policy wants that and the lists of its modules are there."""
    for name, text in zip(host_check.MODULE_LISTS, lists, strict=True):
        path.with_name(name).write_text(text)
    monkeypatch.setattr(host_check, "MODULES", f"{path.parent}/{{1}}")
    path.write_text(f"[{table}]\nbandwidth = {{ {ways} = '1 MB/s' }}\n")
    way, _, names = missing.partition(": ")
    line = f"Where bandwidth has '{way}', taps are refused on this host: its kernel has no {names}."
    said = describe_policy(str(path))

    assert (line in said) if missing else ("its kernel has no" not in said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "allow br0\nallow all\ndeny br1\n",
            "on: br0, all; 16 queues.\n  nobody, whatever is said here, on what it denies: br1.",
        ),
        ("", "on: none; 16 queues.\n  nobody, whatever is said here, on what it denies: none."),
    ],
)
def test_what_bridge_conf_says_is_put_in_words(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    """Where it counts."""
    other = path.with_name("bridge.conf")
    other.write_text(text)
    monkeypatch.setattr(bridge_conf, "BRIDGE_CONF_PATH", str(other))
    path.write_text("[qemu]\nbridge-conf = true\n")

    assert f"  everybody, as '{other}' says, {words}" in describe_policy(str(path))


def test_a_mistake_in_bridge_conf_is_found_where_it_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grants nothing, as a mistake in the policy itself does."""
    other = path.with_name("bridge.conf")
    other.write_text("allow\n")
    monkeypatch.setattr(bridge_conf, "BRIDGE_CONF_PATH", str(other))
    path.write_text("[qemu]\nbridge-conf = true\n")

    with pytest.raises(PolicyError, match=f"^{other}:1: 'allow' lacks a name$"):
        describe_policy(str(path))


def test_bridge_conf_is_not_looked_at_where_it_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in it matters to nobody then."""
    other = path.with_name("bridge.conf")
    other.write_text("allow\n")
    monkeypatch.setattr(bridge_conf, "BRIDGE_CONF_PATH", str(other))
    path.write_text("")

    assert "bridge.conf" not in describe_policy(str(path))
