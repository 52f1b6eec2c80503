# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy file: each key, each mistake with its line, and who may write it."""

import os
import time
from pathlib import Path

import pytest

from bpferry_helper import policy_file
from bpferry_helper.errors import PolicyError
from bpferry_helper.identity import Peer
from bpferry_helper.policy import DEFAULT_TRUSTED, Policy, Port, Rule, may_load
from bpferry_helper.policy_file import PolicyFile, read_policy
from bpferry_helper.status import describe_policy
from bpferry_helper.tap import bridge_conf

pytestmark = pytest.mark.privileged

GROUP = 36
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

[groups.107]
bridges = ["virbr0"]

[bridges."br0.7"]
isolated = true
learning = false
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
loads-at-once = 5
loads-per-second = 6
taps-per-user = 7
taps-in-total = 8
queues-per-tap = 9
taps-at-once = 10
taps-per-second = 11

[service]
idle-exit-seconds = 12
"""


@pytest.fixture
def path(roots_folder: Path) -> Path:
    """Return where the policy file shall be."""
    return roots_folder / "policy.toml"


def read(path: Path, text: str | bytes) -> Policy:
    """Write *text* and read it as a policy."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_policy(str(path), GROUP)


def rule(key: str, number: int, bridges: tuple[str, ...], **limits: int) -> Rule:
    """Return the rule that stands at *key*."""
    return Rule(key, key.startswith("groups"), number, bridges, **limits)


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
        loads_at_once=5,
        loads_per_second=6,
        rules=(
            rule("users.root", 0, ("br0", "vm-*", "v[0-9]"), queues_per_tap=8, taps=4),
            rule("users.1001", 1001, ()),
            rule("groups.107", 107, ("virbr0",)),
        ),
        ports=(
            Port(
                'bridges."br0.7"', "br0.7",
                isolated=True, learning=False, refuse_unset_address=True,
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
        idle_exit_s=12,
    )  # fmt: skip

    assert expected == read(path, FULL)._replace(lines={})


def test_every_key_has_its_line(path: Path) -> None:
    """The line is where the statement begins, also of a value of several lines."""
    expected = {
        "load": 2, "load.users": 3, "load.groups": 4,
        "users": 9, "users.root": 9, "users.root.bridges": 10, "users.root.queues-per-tap": 11,
        "users.root.taps": 12, "users.1001": 14, "groups": 16, "groups.107": 16,
        "groups.107.bridges": 17, "bridges": 19, 'bridges."br0.7"': 19,
        'bridges."br0.7".isolated': 20, 'bridges."br0.7".learning': 21,
        'bridges."br0.7".address': 22, 'bridges."vm-*"': 24, 'bridges."vm-*".address': 25,
        "networks": 27, "networks.default": 28, 'networks."default/fast"': 29,
        "qemu": 31, "qemu.trusted": 32, "qemu.bridge-conf": 33,
        "objects": 35, "objects.program-types": 36, "quota": 38, "quota.sets-per-user": 39,
        "quota.sets-in-total": 40, "quota.loads-at-once": 41, "quota.loads-per-second": 42,
        "quota.taps-per-user": 43, "quota.taps-in-total": 44, "quota.queues-per-tap": 45,
        "quota.taps-at-once": 46, "quota.taps-per-second": 47,
        "service": 49, "service.idle-exit-seconds": 50,
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


def test_no_file_is_the_default(path: Path) -> None:
    """So it is on a host where nobody wrote a policy."""
    read_back = read_policy(str(path), GROUP)

    assert (frozenset({GROUP}), DEFAULT_TRUSTED) == (read_back.groups, read_back.trusted)


def test_a_load_table_replaces_the_default_group(path: Path) -> None:
    """Who names users means these users."""
    assert read(path, "[load]\nusers = [1]\n").groups == frozenset()


def test_what_stands_in_one_line_has_that_line(path: Path) -> None:
    """An inline table is no statement for each of its keys; the keys are found all the same."""
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
    assert read(path, "[users.4294967294]\n").rules[0].id == 2**32 - 2


def test_most_queues_are_allowed(path: Path) -> None:
    """As many as a reply can carry."""
    assert read(path, "[quota]\nqueues-per-tap = 64\n").queues_per_tap == 64


def test_without_a_file_no_bridge_is_open(path: Path) -> None:
    """Nobody but uid 0 gets a tap before the administrator said so."""
    policy = read_policy(str(path), GROUP)

    assert ((), (), {}, False) == (
        policy.rules, policy.ports, policy.networks, policy.bridge_conf
    )  # fmt: skip


def test_a_long_list_is_read_quickly(path: Path) -> None:
    """Three thousand users, one a line, cost milliseconds, not seconds."""
    text = "[load]\nusers = [\n" + "".join(f"  {n},\n" for n in range(3000)) + "]\n"
    then = time.perf_counter()
    users = read(path, text).users

    assert (len(users), time.perf_counter() - then < 1) == (3000, True)


@pytest.mark.parametrize(("length", "allowed"), [(65_536, True), (65_537, False)])
def test_the_file_s_length_is_bounded(path: Path, length: int, *, allowed: bool) -> None:
    """64 KiB is read, one byte more is a mistake."""
    path.write_text("#" * length)
    try:
        read_policy(str(path), GROUP)
        read_back = True
    except PolicyError:
        read_back = False

    assert allowed == read_back


def spoil_symlink(path: Path) -> None:
    """Make a link to a good policy."""
    path.with_name("real").write_text("")
    path.symlink_to(path.with_name("real"))


def spoil_owner(path: Path) -> None:
    """Make a policy of somebody else's."""
    path.write_text("")
    os.chown(path, 1001, 0)


def spoil_mode(path: Path) -> None:
    """Make a policy that a group may write."""
    path.write_text("")
    path.chmod(0o664)


def spoil_mode_of_others(path: Path) -> None:
    """Make a policy that everybody may write."""
    path.write_text("")
    path.chmod(0o646)


SPOILED = {
    "a symbolic link": (spoil_symlink, "symbolic links"),
    "a FIFO": (os.mkfifo, "not a regular file"),
    "a folder": (os.mkdir, "directory"),
    "not root's": (spoil_owner, "must belong to root"),
    "writable by its group": (spoil_mode, "must belong to root"),
    "writable by others": (spoil_mode_of_others, "must belong to root"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_others_could_have_written_is_not_used(
    path: Path, spoil: object, words: str
) -> None:
    """It is an error and not the default: somebody meant something with it."""
    spoil(path)  # type: ignore[operator]

    with pytest.raises(PolicyError, match=words):
        read_policy(str(path), GROUP)


def test_a_change_is_seen(path: Path) -> None:
    """Nobody restarts the helper for a new policy."""
    path.write_text("[quota]\nsets-per-user = 1\n")
    file = PolicyFile(str(path), GROUP)
    first = file.current().sets_per_user
    path.write_text("[quota]\nsets-per-user = 2\n")

    assert (first, file.current().sets_per_user) == (1, 2)


def test_a_file_that_appears_and_goes_is_seen(path: Path) -> None:
    """Having no file is a policy too."""
    file = PolicyFile(str(path), GROUP)
    seen = [file.current().sets_per_user]
    path.write_text("[quota]\nsets-per-user = 2\n")
    seen.append(file.current().sets_per_user)
    path.unlink()
    seen.append(file.current().sets_per_user)

    assert seen == [64, 2, 64]


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    """The same value comes back, not an equal one."""
    path.write_text("")
    file = PolicyFile(str(path), GROUP)

    assert file.current() is file.current()


def test_a_mistake_that_went_by_itself_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who was added after the file was read is found without touching the file."""
    path.write_text("[load]\nusers = ['later']\n")
    file = PolicyFile(str(path), GROUP)
    monkeypatch.setattr(policy_file, "RETRY_S", 0.0)
    with pytest.raises(PolicyError):
        file.current()
    monkeypatch.setattr("pwd.getpwnam", _found)

    assert file.current().users == frozenset({4321})


class _Account:
    pw_uid = 4321


def _found(_name: str) -> _Account:
    return _Account()


ALLOWING = Policy(
    "/p", users=frozenset({7}), groups=frozenset({8}), lines={"load.users": 2, "load.groups": 3}
)


@pytest.mark.parametrize(
    ("uid", "gids", "because"),
    [
        (0, {0}, "uid 0 can load programs without asking"),
        (7, {1}, "/p:2 (load.users) names uid 7"),
        (9, {1, 8}, "/p:3 (load.groups) names group 8, which you are in"),
    ],
)
def test_who_is_named_may_load(uid: int, gids: set[int], because: str) -> None:
    """The answer names the line that decided."""
    assert (True, because) == may_load(ALLOWING, Peer(uid, frozenset(gids), 1))


def test_who_is_not_named_may_not() -> None:
    """The refusal names the line that would have to change."""
    decision = may_load(ALLOWING, Peer(9, frozenset({1}), 1))

    assert decision == (False, "/p:2 (load.users) names neither you nor your groups")


WORDS = """\
Who may have taps: uid 0, on every bridge.
  uid 1001 on: br0, vm-*; 4 taps of 8 queues.
  uid 1002 on: no bridge that no other rule names; 0 taps of 16 queues.
  each member of group 107 on: virbr0; 16 taps of 16 queues.
Taps on 'br0' reach no other isolated port, teach the bridge no address but the card's, \
need a bridge with an address of its own.
Taps on 'vm-*' are attached as by default.
The network 'default' is 'virbr0'.
Taps alive: 16 for each user, 200 in total.
Taps by one user: 16 at once, 8 a second.
"""


def test_who_may_use_which_bridge_is_put_in_words(path: Path) -> None:
    """With what a rule leaves to the quota filled in."""
    path.write_text(
        "[users.1001]\nbridges = ['br0', 'vm-*']\nqueues-per-tap = 8\ntaps = 4\n"
        "[users.1002]\ntaps = 0\n"
        "[groups.107]\nbridges = ['virbr0']\n"
        "[bridges.br0]\nisolated = true\nlearning = false\naddress = 'refuse'\n"
        "[bridges.'vm-*']\n"
        "[networks]\ndefault = 'virbr0'\n"
        "[quota]\ntaps-in-total = 200\n"
    )

    assert WORDS in describe_policy(str(path))


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
