# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy file: each key, each mistake with its line, and who may write it."""

import os
import time
from pathlib import Path

import pytest

from bpferry_helper import policy_file
from bpferry_helper.errors import PolicyError
from bpferry_helper.identity import Peer
from bpferry_helper.policy import DEFAULT_TRUSTED, Policy, may_load
from bpferry_helper.policy_file import PolicyFile, read_policy

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

[qemu]
trusted = ["/opt/qemu/qemu-*"]

[objects]
program-types = ["socket_filter", "xdp"]

[quota]
sets-per-user = 3
sets-in-total = 4
loads-at-once = 5
loads-per-second = 6

[service]
idle-exit-seconds = 7
"""


@pytest.fixture
def path(roots_folder: Path) -> Path:
    """Return where the policy file shall be."""
    return roots_folder / "policy.toml"


def read(path: Path, text: str | bytes) -> Policy:
    """Write *text* and read it as a policy."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_policy(str(path), GROUP)


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
        idle_exit_s=7,
    )

    assert expected == read(path, FULL)._replace(lines={})


def test_every_key_has_its_line(path: Path) -> None:
    """The line is where the statement begins, also of a value of several lines."""
    expected = {
        "load": 2, "load.users": 3, "load.groups": 4, "qemu": 9, "qemu.trusted": 10,
        "objects": 12, "objects.program-types": 13, "quota": 15, "quota.sets-per-user": 16,
        "quota.sets-in-total": 17, "quota.loads-at-once": 18, "quota.loads-per-second": 19,
        "service": 21, "service.idle-exit-seconds": 22,
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


def test_a_long_list_is_read_quickly(path: Path) -> None:
    """Three thousand users, one a line, cost milliseconds, not seconds."""
    text = "[load]\nusers = [\n" + "".join(f"  {n},\n" for n in range(3000)) + "]\n"
    then = time.perf_counter()
    users = read(path, text).users

    assert (len(users), time.perf_counter() - then < 1) == (3000, True)


MISTAKES = {
    "a number as text": ("[quota]\n\nsets-per-user = '4'\n", 3, "from 0 to 1024"),
    "a boolean as number": ("[quota]\nsets-per-user = true\n", 2, "from 0 to 1024"),
    "a float as number": ("[quota]\nsets-per-user = 1.0\n", 2, "from 0 to 1024"),
    "a negative number": ("[quota]\nsets-in-total = -1\n", 2, "from 0 to 1024"),
    "a number too large": ("[quota]\nsets-in-total = 1025\n", 2, "from 0 to 1024"),
    "a burst of none": ("[quota]\nloads-at-once = 0\n", 2, "from 1 to 1000"),
    "a pace of none": ("[quota]\nloads-per-second = 0\n", 2, "from 1 to 1000"),
    "no idle time": ("[service]\nidle-exit-seconds = 0\n", 2, "from 1 to 86400"),
    "an unknown user": ("[load]\nusers = [\n 1,\n 'nosuch',\n]\n", 2, "user 'nosuch'"),
    "an unknown group": ("[load]\ngroups = ['nosuch']\n", 2, "group 'nosuch'"),
    "a user with NUL": ('[load]\nusers = ["a\\u0000b"]\n', 2, "users"),
    "a negative user": ("[load]\nusers = [-1]\n", 2, "has -1"),
    "the user 2^32-1": ("[load]\nusers = [4294967295]\n", 2, "has 4294967295"),
    "a boolean as user": ("[load]\nusers = [true]\n", 2, "has True"),
    "users that are no list": ("[load]\nusers = 'root'\n", 2, "must be a list"),
    "a list in a list": ("[load]\nusers = [['root']]\n", 2, "no user name"),
    "a path that is relative": ("[qemu]\ntrusted = ['bin/qemu']\n", 2, "no absolute path"),
    "a path with ..": ("[qemu]\ntrusted = ['/usr/../bin/qemu']\n", 2, "no absolute path"),
    "a path of a folder": ("[qemu]\ntrusted = ['/usr/bin/']\n", 2, "no absolute path"),
    "a wildcard in a folder": ("[qemu]\ntrusted = ['/home/*/qemu']\n", 2, "only the last part"),
    "paths that are no list": ("[qemu]\ntrusted = '/usr/bin/qemu'\n", 2, "list of paths"),
    "a path that is a number": ("[qemu]\ntrusted = [1]\n", 2, "list of paths"),
    "an unknown program type": ("[objects]\nprogram-types = ['lsm']\n", 2, "has 'lsm'"),
    "a list as program type": ("[objects]\nprogram-types = [['xdp']]\n", 2, "has ['xdp']"),
    "types that are no list": ("[objects]\nprogram-types = 'xdp'\n", 2, "must be a list"),
    "an unknown table": ("\n[loads]\nusers = []\n", 2, "unknown 'loads'"),
    "an unknown key": ("[load]\nuser = []\n", 2, "unknown key 'user' in [load]"),
    "a key without a table": ("users = []\n", 1, "unknown 'users'"),
    "a table of tables": ("[[load]]\nusers = []\n", 1, "unknown 'load'"),
    "a table within": ("[load.users]\na = 1\n", 1, "must be a list"),
    "an inline table": ("\nload = { users = [], who = 1 }\n", 2, "unknown key 'who'"),
    "a dotted key": ("\nload.users = 1\n", 2, "must be a list"),
    "a quoted key": ("[load]\n'users' = 1\n", 2, "must be a list"),
    "the same key twice": ("[load]\nusers = []\nusers = []\n", 3, "not valid TOML"),
    "the same table twice": ("[load]\n[quota]\n[load]\n", 3, "not valid TOML"),
    "no value": ("[load]\nusers =\n", 2, "not valid TOML"),
    "an open list": ("[load]\nusers = [1,\n2,\n", 4, "not valid TOML"),
    "a byte order mark": ("\ufeff[load]\n", 1, "not valid TOML"),
    "a lone carriage return": ("[load]\rusers = []\n", 1, "not valid TOML"),
    "a date that is none": ("[load]\nusers = 2026-13-40\n", 2, "not valid TOML"),
    "bytes that are no UTF-8": (b"[load]\n# \xff\n", 2, "is not UTF-8"),
    "a mistake after CR LF": ("[quota]\r\n\r\nsets-per-user = -1\r\n", 3, "from 0"),
}


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_line(path: Path, text: str | bytes, line: int, words: str) -> None:
    """The administrator is told where it is and what it is."""
    with pytest.raises(PolicyError) as caught:
        read(path, text)

    assert (line, True) == (caught.value.line, words in str(caught.value))
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize("text", ["[load]\nusers = " + "9" * 5000, "a = " + "[" * 30_000])
def test_what_breaks_the_parser_is_a_mistake(path: Path, text: str) -> None:
    """What tomllib answers with other errors is no reason to crash."""
    with pytest.raises(PolicyError, match="not valid TOML"):
        read(path, text)


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
    monkeypatch.setattr("bpferry_helper.policy_toml.pwd.getpwnam", _found)

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
