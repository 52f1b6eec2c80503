# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each key of a policy file, and the line where it is written."""

import time
from pathlib import Path

import pytest

from bpferry_helper.policy.rules import Policy, Port, Rule
from bpferry_helper.policy.toml_form import UNTIL_IT_ASKS
from bpferry_wire.messages import Bandwidth, Rate
from tests.helper.policy.conftest import GROUP, read

pytestmark = pytest.mark.privileged

FULL = """\
# who may
[load]
users = ["root", 1001]
groups = [
    "root",  # by name
    107,
]

[users.root]
bridges = ["br0", "vm-*", "v[0-9]"]
queues-per-tap = 8
taps = 4

[users.1001]
deny = ["br1"]
address-lock = false
unicast-flood = true
[groups.107]
bridges = ["virbr0"]

[bridges."br0.7"]
isolated = true
address-lock = true
bpdu-guard = true
root-block = true
multicast-flood = false
unicast-flood = false
tx-queue-length = 64
address = "refuse"

[bridges."vm-*"]
address = "set"

[networks]
default = "virbr0"
"default/fast" = "br0"

[qemu]
trusted = ["/opt/qemu/qemu-*"]
bridge-conf = true

[objects]
program-types = ["socket_filter", "xdp"]

[quota]
sets-per-user = 3
sets-in-total = 4
sets-ready = 15
loads-at-once = 5
loads-per-second = 6
loads-per-second-in-total = 13
taps-per-user = 7
taps-in-total = 8
queues-per-tap = 9
taps-at-once = 10
taps-per-second = 11
taps-per-second-in-total = 14

[service]
idle-exit-seconds = 12
"""


def rule(key: str, number: int, bridges: tuple[str, ...], deny: tuple[str, ...] = ()) -> Rule:
    """Return the rule that is at *key*."""
    return Rule(key, key.startswith("groups"), range(number, number + 1), bridges, deny=deny)


def test_every_key_is_read(path: Path) -> None:
    """Each key sets its field."""
    expected = Policy(
        path=str(path),
        users=frozenset({0, 1001}),
        groups=frozenset({0, 107}),
        trusted=("/opt/qemu/qemu-*",),
        program_types=frozenset({1, 6}),
        sets_per_user=3,
        sets_in_total=4,
        sets_ready=15,
        loads_at_once=5,
        loads_per_second=6,
        loads_per_second_in_total=13,
        rules=(
            rule("users.root", 0, ("br0", "vm-*", "v[0-9]"))._replace(
                queues_per_tap=8, taps=4
            ),
            rule("users.1001", 1001, (), deny=("br1",))._replace(
                port={"address_lock": False, "unicast_flood": True}
            ),
            rule("groups.107", 107, ("virbr0",)),
        ),
        ports=(
            Port(
                'bridges."br0.7"', "br0.7",
                isolated=True, address_lock=True, bpdu_guard=True, root_block=True,
                multicast_flood=False, unicast_flood=False, tx_queue_length=64,
                refuse_unset_address=True,
            ),
            Port('bridges."vm-*"', "vm-*"),
        ),
        networks={"default": "virbr0", "default/fast": "br0"},
        bridge_conf=True,
        taps_per_user=7,
        taps_in_total=8,
        queues_per_tap=9,
        taps_at_once=10,
        taps_per_second=11,
        taps_per_second_in_total=14,
        idle_exit_s=12,
    )  # fmt: skip

    assert expected == read(path, FULL)._replace(lines={})


def test_every_key_has_its_line(path: Path) -> None:
    """The line is where the statement begins, also of a value of several lines."""
    expected = {
        "load": 2, "load.users": 3, "load.groups": 4,
        "users": 9, "users.root": 9, "users.root.bridges": 10, "users.root.queues-per-tap": 11,
        "users.root.taps": 12, "users.1001": 14, "users.1001.deny": 15,
        "users.1001.address-lock": 16, "users.1001.unicast-flood": 17,
        "groups": 18, "groups.107": 18,
        "groups.107.bridges": 19, "bridges": 21, 'bridges."br0.7"': 21,
        'bridges."br0.7".isolated': 22, 'bridges."br0.7".address-lock': 23,
        'bridges."br0.7".bpdu-guard': 24, 'bridges."br0.7".root-block': 25,
        'bridges."br0.7".multicast-flood': 26, 'bridges."br0.7".unicast-flood': 27,
        'bridges."br0.7".tx-queue-length': 28,
        'bridges."br0.7".address': 29, 'bridges."vm-*"': 31, 'bridges."vm-*".address': 32,
        "networks": 34, "networks.default": 35, 'networks."default/fast"': 36,
        "qemu": 38, "qemu.trusted": 39, "qemu.bridge-conf": 40,
        "objects": 42, "objects.program-types": 43, "quota": 45, "quota.sets-per-user": 46,
        "quota.sets-in-total": 47, "quota.sets-ready": 48,
        "quota.loads-at-once": 49, "quota.loads-per-second": 50,
        "quota.loads-per-second-in-total": 51,
        "quota.taps-per-user": 52, "quota.taps-in-total": 53, "quota.queues-per-tap": 54,
        "quota.taps-at-once": 55, "quota.taps-per-second": 56,
        "quota.taps-per-second-in-total": 57,
        "service": 59, "service.idle-exit-seconds": 60,
    }  # fmt: skip

    assert expected == read(path, FULL).lines


def test_line_ends_of_windows_count_the_same(path: Path) -> None:
    """An editor that ends lines with CR LF changes nothing."""
    expected = read(path, FULL)

    assert expected == read(path, FULL.replace("\n", "\r\n"))


def test_an_empty_file_is_the_default(path: Path) -> None:
    """Without [load], the group of the socket may load."""
    expected = Policy(str(path), users=frozenset(), groups=frozenset({GROUP}))

    assert expected == read(path, "")


def test_a_load_table_replaces_the_default_group(path: Path) -> None:
    """Who names users means these users."""
    assert read(path, "[load]\nusers = [1]\n").groups == frozenset()


def test_what_is_in_one_line_has_that_line(path: Path) -> None:
    """An inline table is not a statement for each of its keys; the keys are found all the same."""
    policy = read(
        path, "\nusers = { root = { bridges = ['br0'], taps = 1 } }\nquota.taps-at-once = 2"
    )
    keys = ("users", "users.root", "users.root.bridges", "users.root.taps", "quota")

    assert {key: policy.lines[key] for key in keys} == dict.fromkeys(keys[:4], 2) | {"quota": 3}


def test_a_bridge_s_longest_name_is_a_name(path: Path) -> None:
    """15 bytes; one more is a mistake below."""
    name = "b" * 15

    assert read(path, f"[users.root]\nbridges = ['{name}']\n").rules[0].bridges == (name,)


def test_the_last_id_is_an_id(path: Path) -> None:
    """2^32-2; the next one means nobody (chown(2))."""
    assert read(path, "[users.4294967294]\n").rules[0].ids == range(2**32 - 2, 2**32 - 1)


def test_most_queues_are_allowed(path: Path) -> None:
    """As many as a reply can carry."""
    assert read(path, "[quota]\nqueues-per-tap = 64\n").queues_per_tap == 64


def test_vlans_are_numbers_and_ranges(path: Path) -> None:
    """For a bridge and for a user, in the file's order."""
    policy = read(
        path, "[users.root]\nvlans = [10, '20-30']\n[bridges.br0]\nvlans = ['1-4094', 7]\n"
    )

    assert policy.rules[0].port == {"vlans": (range(10, 11), range(20, 31))}
    assert policy.ports[0].vlans == (range(1, 4095), range(7, 8))


def test_a_bandwidth_has_a_rate_for_each_way(path: Path) -> None:
    """In bits or bytes, for a bridge and for a user, in one line or as a table of its own."""
    policy = read(
        path,
        "[users.root]\nbandwidth = { inbound = '1 Gbit/s' }\n"
        "[bridges.br0.bandwidth]\ninbound = '8 kbit/s'\noutbound = '2 MB/s'\n",
    )

    assert policy.rules[0].port == {"bandwidth": Bandwidth(Rate(125_000_000))}
    assert policy.ports[0].bandwidth == Bandwidth(Rate(1000), Rate(2_000_000))


def test_a_long_list_is_read_quickly(path: Path) -> None:
    """Three thousand users, one a line, cost milliseconds, not seconds."""
    text = "[load]\nusers = [\n" + "".join(f"  {n},\n" for n in range(3000)) + "]\n"
    then = time.perf_counter()
    users = read(path, text).users

    assert (len(users), time.perf_counter() - then < 1) == (3000, True)


def test_an_account_that_is_not_here_is_skipped_with_a_warning(path: Path) -> None:
    """A user was deleted: the rules of the others still count."""
    policy = read(
        path,
        "[load]\nusers = [1, 'gone']\ngroups = ['gone-group']\n[users.gone]\ntaps = 3\n"
        "[groups.107]\nbridges = ['br0']\n",
    )

    assert (frozenset({1}), frozenset(), ("groups.107",)) == (
        policy.users, policy.groups, tuple(rule.key for rule in policy.rules)
    )  # fmt: skip
    assert policy.warnings == (
        f"{path}:2: 'load.users': this host has no such account: 'gone'; it is skipped",
        f"{path}:3: 'load.groups': this host has no such account: 'gone-group'; it is skipped",
        f"{path}:4: 'users.gone': this host has no such account: 'gone'; it is skipped"
        + UNTIL_IT_ASKS,
    )
