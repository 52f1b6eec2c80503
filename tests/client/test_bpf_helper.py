# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking the helper: a good one, one that says no, and those that nobody should believe."""

import grp
import os
import pwd
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bpferry.errors import BpferryError, HelperError, NoHelper, NotMember, Refused, Unsupported
from bpferry.network import bpf_helper, connection
from bpferry.network.bpf_helper import BpfHelper, GrantedSet
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.limits import MAX_FDS_PER_REPLY
from bpferry_wire.messages import (
    Caller,
    CanReply,
    ErrorReply,
    FdDescription,
    HelloReply,
    Load,
    LoadReply,
    QuotaReply,
)
from bpferry_wire.objects import RSS, MapShape
from bpferry_wire.packets import encode_reply
from tests.client import bpf
from tests.client import fake_helper as fake
from tests.client.support import DIGEST, let_in
from tests.support.people import ALICE, acting_as

GROUP = 1_799_999
"""One that this host does not have."""

HELLO = HelloReply("bpf", "1", Caller(0, (0,), 1), 4096, 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the helper's socket will be."""
    return tmp_path / "bpf.sock"


def load(path: str) -> GrantedSet:
    """Ask the helper at *path* for a set."""
    with BpfHelper(path, seconds=5) as helper:
        return helper.load(Load("rss", DIGEST))


@pytest.mark.kernel
def test_good_set(path: Path) -> None:
    """A set that is what it should be is handed over, by order and by name."""
    with fake.helper(path, fake.grants()) as where, load(where) as granted:
        assert list(granted.by_name()) == [RSS.programs[0].name, *(m.name for m in RSS.maps)]
        assert granted.borrow() == list(granted.by_name().values())
        assert not any(os.get_inheritable(fd) for fd in granted.borrow())


@pytest.mark.kernel
def test_set_is_asked_for_by_id_and_digest(path: Path) -> None:
    """The request has the id and the digest, and nothing else."""
    seen: list[bytes] = []

    def keep(conn: socket.socket, request: bytes) -> None:
        seen.append(request)
        fake.grants()(conn, request)

    with fake.helper(path, keep) as where:
        load(where).close()

    assert seen == [
        b"\x84\xa1v\x01\xa2op\xa4load\xa2id\xa3rss\xa6digest\xc4\x20" + DIGEST,
    ]


def busy_after(seconds: float, requests: list[bytes]) -> fake.Behaviour:
    """Return a behaviour that keeps the request, and is busy *seconds* later."""

    def answer(conn: socket.socket, request: bytes) -> None:
        requests.append(request)
        time.sleep(seconds)
        fake.refuses(Code.BUSY)(conn, request)
        conn.close()

    return answer


@pytest.mark.kernel
def test_who_has_waited_in_vain_asks_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper lets go of a request that others have kept it from for twelve seconds."""
    monkeypatch.setattr(bpf_helper, "LET_GO_SECONDS", 0.1)
    requests: list[bytes] = []
    late = busy_after(0.2, requests)
    with fake.helper(path, late, late, fake.grants()) as where, load(where) as granted:
        assert len(granted.borrow()) == 1 + len(RSS.maps)
    assert len(requests) == 2


@pytest.mark.parametrize("seconds", [0.2, 0.0], ids=["late", "at once"])
def test_a_busy_helper_is_told_in_the_end(
    seconds: float, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once if it says so at once; otherwise after as long as an answer may take."""
    monkeypatch.setattr(bpf_helper, "LET_GO_SECONDS", 0.1)
    requests: list[bytes] = []
    with (
        fake.helper(path, busy_after(seconds, requests)) as where,
        BpfHelper(where, seconds=0.5) as helper,
        pytest.raises(HelperError, match="why") as caught,
    ):
        helper.load(Load("rss", DIGEST))
    assert caught.value.code == "busy"
    assert (len(requests) > 1) == (seconds > 0)


def test_plain_questions(path: Path) -> None:
    """The other questions have their answers."""
    quota = QuotaReply(0, 8, 0, 64, "kernel")
    can = CanReply(allowed=True, because="a line")
    replies = [fake.replies(reply) for reply in (HELLO, quota, can)]
    with fake.helper(path, *replies) as where:
        helper = BpfHelper(where)
        answers = []
        for ask in (helper.hello, helper.quota, lambda: helper.can(Load("rss", DIGEST))):
            answers.append(ask())
            helper.close()

    assert answers == [HELLO, quota, can]


def test_environment_names_the_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BPFERRY_BPF_SOCKET takes the place of the usual path."""
    monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(path))

    with fake.helper(path, fake.replies(HELLO)), BpfHelper() as helper:
        assert helper.hello() == HELLO


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (Code.REFUSED, Refused, 4),
        (Code.QUOTA, Refused, 4),
        (Code.UNKNOWN_OBJECT, Refused, 4),
        (Code.UNSUPPORTED, Unsupported, 3),
        (Code.FAILED, HelperError, 1),
        (Code.BUSY, HelperError, 1),
        (Code.BAD_REQUEST, HelperError, 1),
    ],
)
def test_error_of_the_helper(code: Code, kind: type[BpferryError], status: int, path: Path) -> None:
    """Each code of the wire becomes an error with its status, its words and its hint."""
    data = encode_reply(ErrorReply(code, "why", "what to do"))
    with fake.helper(path, fake.sends(data)) as where, pytest.raises(kind) as caught:
        load(where)

    error = caught.value
    assert ("the helper refused: why", "what to do", code.value, status) == (
        error.message,
        error.hint,
        error.code,
        error.status,
    )


@pytest.mark.kernel
def test_error_with_fds_closes_them(path: Path) -> None:
    """Fds that come with an error are closed."""
    data = encode_reply(ErrorReply(Code.FAILED, "why"))
    with fake.helper(path, fake.sends(data, bpf.make_set)) as where, pytest.raises(HelperError):
        load(where)


@pytest.mark.kernel
def test_fds_that_nobody_asked_for(path: Path) -> None:
    """Fds that come with an answer that has none are closed, and the answer is not believed."""
    behaviour = fake.sends(encode_reply(HELLO), bpf.make_set)
    with (
        fake.helper(path, behaviour) as where,
        BpfHelper(where) as helper,
        pytest.raises(HelperError),
    ):
        helper.hello()


def test_no_socket(path: Path) -> None:
    """Where there is no socket, there is no helper: status 5 and a hint."""
    with pytest.raises(NoHelper, match="No such file or directory") as caught:
        load(str(path))

    assert caught.value.status == 5
    assert "systemctl status bpferry-bpf.socket" in caught.value.hint


def test_nobody_listens(path: Path) -> None:
    """A socket file that was left behind is not a helper either."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))

    with pytest.raises(NoHelper, match="Connection refused"):
        load(str(path))


def test_socket_of_another_kind(path: Path) -> None:
    """A stream socket at the path is none of our helper's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(NoHelper, match="wrong type"):
            load(str(path))


def test_path_that_is_too_long(tmp_path: Path) -> None:
    """A path that no socket can have is an error, not a crash."""
    with pytest.raises(NoHelper, match="too long"):
        load(str(tmp_path / ("x" * 200)))


@pytest.mark.privileged
def test_permission_denied(path: Path) -> None:
    """A user who may not connect is told which group to be in, and that is a refusal."""
    with fake.helper(path, fake.replies(HELLO)) as where:
        os.chown(path, 0, GROUP)
        path.chmod(0o660)
        let_in(path.parent)
        with acting_as(ALICE), pytest.raises(NotMember) as caught:
            load(where)

    assert caught.value.status == 4
    assert caught.value.message == (
        f"cannot connect to the helper at '{path}': only members of the group '{GROUP}' may use "
        f"it (root:{GROUP}, mode 0660), and you are not one"
    )
    assert caught.value.hint == (
        f"ask the administrator to run 'sudo usermod -aG {GROUP} {ALICE.uid}', and log in again"
    )


@pytest.mark.privileged
@pytest.mark.parametrize("first_group", [True, False])
def test_session_that_is_older_than_the_membership(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, first_group: bool
) -> None:
    """A member whose process does not have the group yet is told to log in again."""
    members = [] if first_group else ["alice"]
    entry = grp.struct_group(("vms", "x", GROUP, members))
    monkeypatch.setattr(grp, "getgrgid", lambda _: entry)
    gid = GROUP if first_group else ALICE.gid
    user = pwd.struct_passwd(("alice", "x", ALICE.uid, gid, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    with fake.helper(path, fake.replies(HELLO)) as where:
        os.chown(path, 0, GROUP)
        path.chmod(0o660)
        let_in(path.parent)
        with acting_as(ALICE), pytest.raises(NotMember) as caught:
            load(where)

    assert "you are one now, but this session began before that" in caught.value.message
    assert caught.value.hint == "log in again, or run 'newgrp vms' in this shell"


@pytest.mark.privileged
def test_socket_of_no_group(path: Path) -> None:
    """Where the socket is root's alone, its unit has to be changed."""
    with fake.helper(path, fake.replies(HELLO)) as where:
        path.chmod(0o600)
        let_in(path.parent)
        with acting_as(ALICE), pytest.raises(NotMember) as caught:
            load(where)

    assert "users may not open it" in caught.value.message
    assert "SocketGroup=" in caught.value.hint


def test_socket_without_a_helper(path: Path) -> None:
    """A socket that nobody listens at any more is a missing helper, and no refusal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(path))
    with pytest.raises(NoHelper, match="Connection refused") as caught:
        load(str(path))

    assert caught.value.status == 5


@pytest.mark.kernel
def test_helper_that_dies_once(path: Path) -> None:
    """A helper that died over the request is asked once more."""
    with fake.helper(path, fake.hangs_up, fake.grants()) as where:
        load(where).close()


def test_helper_that_dies_twice(path: Path) -> None:
    """A helper that dies each time is an error."""
    with fake.helper(path, fake.hangs_up) as where, pytest.raises(HelperError, match="twice"):
        load(where)


def test_helper_that_keeps_silent(path: Path) -> None:
    """A helper that does not answer is given up after a while."""
    with (
        fake.helper(path, fake.keeps_silent) as where,
        BpfHelper(where, seconds=0.2) as helper,
        pytest.raises(HelperError, match=r"did not answer within 0\.2 s"),
    ):
        helper.hello()


@pytest.mark.parametrize(("started_by", "waits"), [({}, "0.1"), ({"NOTIFY_SOCKET": "@n"}, "0.3")])
def test_helper_gets_more_time_while_a_service_starts(
    path: Path, started_by: dict[str, str], waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a host boots, it may take long, and a VM without eBPF would stay without."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    for variable, value in started_by.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(connection, "SERVICE_SECONDS", 0.3)
    with (
        fake.helper(path, fake.keeps_silent) as where,
        BpfHelper(where) as helper,
        pytest.raises(HelperError, match=f"did not answer within {waits} s"),
    ):
        helper.hello()


def test_all_questions_of_a_start_are_within_the_units_time() -> None:
    """Whether a tap and a set would be given, and then for both."""
    unit = (Path(__file__).parents[2] / "systemd/user/bpferry@.service").read_text()
    assert "\nTimeoutStartSec=5min\n" in unit

    assert 4 * connection.SERVICE_SECONDS < 5 * 60


RSS_WORDS = bpf.describe_rss()


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x80",
        encode_reply(HELLO),
        encode_reply(LoadReply(RSS_WORDS)) + b"x",
        encode_reply(LoadReply(RSS_WORDS))[:-1],
        encode_reply(LoadReply(RSS_WORDS)).replace(b"\xa1v\x01", b"\xa1v\x02"),
        encode_reply(LoadReply(RSS_WORDS[:3])),
        encode_reply(LoadReply((RSS_WORDS[0], *RSS_WORDS[:0:-1]))),
        encode_reply(LoadReply(())),
    ],
    ids=[
        "no-msgpack",
        "empty-map",
        "other-answer",
        "trailing",
        "cut",
        "version",
        "three",
        "order",
        "none",
    ],
)
@pytest.mark.kernel
def test_words_that_are_not_sound(data: bytes, path: Path) -> None:
    """Words that no good helper says are not believed, and the fds beside them are closed."""
    with fake.helper(path, fake.sends(data, bpf.make_set)) as where, pytest.raises(HelperError):
        load(where)


def test_packet_that_is_too_long(path: Path) -> None:
    """A packet that the kernel had to cut is not used."""
    with fake.helper(path, fake.too_long) as where, pytest.raises(HelperError, match="longer than"):
        load(where)


def changed(place: int, **change: int) -> Callable[[], OwnedFds]:
    """Return what makes a set whose map at *place* differs from what it should be."""

    def make() -> OwnedFds:
        fds = OwnedFds([bpf.make_program().take()])
        for number, shape in enumerate(RSS.maps):
            wrong = MapShape(**{**shape._asdict(), **change})
            fds.add(bpf.make_map(wrong if number == place else shape).take())
        return fds

    return make


def ordered(*order: int) -> Callable[[], OwnedFds]:
    """Return what makes a set whose fds are in another *order*, or in part."""

    def make() -> OwnedFds:
        with bpf.make_set() as fds:
            return OwnedFds([os.dup(fds[place].borrow()) for place in order])

    return make


def dev_null_for(place: int) -> Callable[[], OwnedFds]:
    """Return what makes a set with /dev/null at *place*."""

    def make() -> OwnedFds:
        with bpf.make_set() as fds:
            numbers = [os.dup(fd) for fd in fds.borrow()]
        os.close(numbers[place])
        numbers[place] = os.open("/dev/null", os.O_RDWR)
        return OwnedFds(numbers)

    return make


def frozen() -> OwnedFds:
    """Make a set whose table nobody can write any more."""
    fds = bpf.make_set()
    bpf.freeze(fds[3].borrow())
    return fds


def read_only() -> OwnedFds:
    """Make a set whose config map was opened for reading only."""
    fds = OwnedFds([bpf.make_program().take()])
    for number, shape in enumerate(RSS.maps):
        flags = shape.flags | (0x8 if number == 0 else 0)  # BPF_F_RDONLY, linux/bpf.h
        fds.add(bpf.make_map(shape._replace(flags=flags)).take())
    return fds


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (ordered(0, 1, 3, 2), "value_size 2, not 40"),
        (ordered(1, 0, 2, 3), "kind map, not program"),
        (ordered(0, 1, 2), "described 4 fds for 'rss' and sent 3"),
        (ordered(0, 1, 2, 3, 3), "described 4 fds for 'rss' and sent 5"),
        (ordered(), "described 4 fds for 'rss' and sent 0"),
        (ordered(*[0] * MAX_FDS_PER_REPLY, 0), "fds in one packet"),
        (dev_null_for(0), "not a BPF object but '/dev/null'"),
        (dev_null_for(3), "not a BPF object but '/dev/null'"),
        (changed(2, entries=127), "entries 127, not 128"),
        (changed(1, value_size=44), "value_size 44, not 40"),
        (changed(0, flags=0), "flags 0, not 1024"),
        (changed(2, type=1, flags=0), "type 1, not 2"),
        (frozen, "the map 'tap_rss_map_indirection_table' is not writable"),
        (read_only, "the map 'tap_rss_map_configurations' is not writable"),
    ],
    ids=[
        "swapped-maps",
        "map-as-program",
        "few",
        "many",
        "none",
        "flood",
        "null-program",
        "null-map",
        "entries",
        "value-size",
        "flags",
        "hash-map",
        "frozen",
        "read-only",
    ],
)
def test_fds_that_are_not_sound(make: Callable[[], OwnedFds], words: str, path: Path) -> None:
    """Fds that are not what they are said to be are closed, and the error says which and why."""
    with fake.helper(path, fake.grants(make)) as where, pytest.raises(HelperError) as caught:
        load(where)

    assert words in caught.value.message


@pytest.mark.kernel
def test_known_object_of_another_shape(path: Path) -> None:
    """A set that the helper describes truly, and that is not what "rss" is, is not used."""
    config, key, table = RSS.maps
    shapes = (config, key, table._replace(entries=64))
    said = (bpf.describe_rss()[0], *(FdDescription(m.name, "map", *m[1:]) for m in shapes))
    behaviour = fake.sends(encode_reply(LoadReply(said)), changed(2, entries=64))

    with (
        fake.helper(path, behaviour) as where,
        pytest.raises(HelperError, match="not the object 'rss' as this version knows it"),
    ):
        load(where)


@pytest.mark.kernel
def test_unknown_object_is_checked_against_its_description(path: Path) -> None:
    """Of an object that we do not know, the fds have to be what the helper says."""
    shape = MapShape("m", 2, key_size=4, value_size=8, entries=3, flags=0)
    said = (FdDescription("m", "map", *shape[1:]),)
    data = encode_reply(LoadReply(said))
    with fake.helper(
        path,
        fake.sends(data, lambda: OwnedFds([bpf.make_map(shape).take()])),
        fake.sends(data, lambda: OwnedFds([bpf.make_map(shape._replace(entries=4)).take()])),
    ) as where:
        with BpfHelper(where) as helper:
            helper.load(Load("new", DIGEST)).close()
        with BpfHelper(where) as helper, pytest.raises(HelperError, match="entries 4, not 3"):
            helper.load(Load("new", DIGEST))
