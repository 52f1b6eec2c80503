# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who asks: being somebody else, or many."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from bpferry_wire import channel
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, Hello, HelloReply, Load
from bpferry_wire.packets import decode_reply
from tests.support.census import wait_until
from tests.support.hasty_helper import hasty_helper
from tests.support.helper_process import NO_LIMITS, PYTHON, HelperProcess, running_helper
from tests.support.people import (
    ALICE,
    BOB,
    ROOT,
    SOCKET_GID,
    Answered,
    Person,
    ask,
    ask_once,
    code_of_next,
    connect,
    connect_often,
)
from tests.support.tap_process import OPEN_POLICY, running_tap_helper, tap_on

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

ROOTS_RULE = "[users.root]\nbridges = ['br0']\n"

# -- uid 0 without a capability, as in a container that the socket was bound into


@pytest.mark.parametrize(("more", "granted"), [("", False), (ROOTS_RULE, True)])
def test_uid_0_has_only_the_bridges_that_policy_gives_it(more: str, *, granted: bool) -> None:
    """The control: with a rule of its own it gets one."""
    with running_tap_helper(OPEN_POLICY + more, bridges=("br0", "br1")) as helper:
        answered = [ask_once(helper.path, tap_on(bridge), ROOT) for bridge in ("br0", "br1")]
        for each in answered:
            each.fds.close()

    refused = [isinstance(each.reply, ErrorReply) for each in answered]
    assert [not granted, True] == refused


@pytest.mark.parametrize(
    ("policy", "code"),
    [(NO_LIMITS, Code.REFUSED), (f"{NO_LIMITS}[load]\nusers = [0]\n", Code.UNKNOWN_OBJECT)],
)
def test_uid_0_loads_only_what_policy_gives_it(policy: str, code: Code) -> None:
    """The control: named there, it is only the object that is not known."""
    with running_helper(policy) as helper:
        reply = ask_once(helper.path, Load("rss", bytes(32)), ROOT).reply
        other = ask_once(helper.path, Load("rss", bytes(32)), ALICE).reply

    assert isinstance(reply, ErrorReply)
    assert isinstance(other, ErrorReply)
    assert code == reply.code
    assert (Code.UNKNOWN_OBJECT if policy == NO_LIMITS else Code.REFUSED) == other.code


# -- subordinate ids, as a user has 65,536 of for containers

FIRST = 2_000_000
ALICES = {"subuid": f"person{ALICE.uid}:{FIRST}:65536\n"}
"""Alice may be each of these uids."""

MANY = tuple(Person(FIRST + number) for number in range(8))
NAMED_EACH = f"[load]\nusers = {[person.uid for person in MANY]}\ngroups = [{SOCKET_GID}]\n"
"""The control: as if each were an account of its own, which is how it was before."""


def let_in(helper: HelperProcess, people: tuple[Person, ...], each: int) -> int:
    """Return how many connections the helper lets in if each of *people* makes *each*."""
    with ExitStack() as stack:
        socks = [
            stack.enter_context(sock)
            for person in people
            for sock in connect_often(helper.path, person, each)
        ]
        return sum(isinstance(ask(sock, Hello()).reply, HelloReply) for sock in socks)


@pytest.mark.parametrize(("more", "expected"), [("", 16), (NAMED_EACH, 128)])
def test_subordinate_uids_have_the_connections_of_their_owner(more: str, expected: int) -> None:
    """Eight uids with sixteen connections each are one account; the control: eight."""
    with running_helper(NO_LIMITS + more, etc=ALICES) as helper:
        assert expected == let_in(helper, MANY, 16)


@pytest.mark.parametrize(("more", "uid"), [("", ALICE.uid), (NAMED_EACH, FIRST)])
def test_a_subordinate_uid_is_known_as_its_owner(more: str, uid: int) -> None:
    """And so it is judged, and its grants are written down."""
    with running_helper(NO_LIMITS + more, etc=ALICES) as helper:
        reply = ask_once(helper.path, Hello(), MANY[0]).reply

    assert isinstance(reply, HelloReply)
    assert uid == reply.caller.uid


@pytest.mark.parametrize("named", [False, True])
def test_subordinate_uids_have_the_taps_of_their_owner(*, named: bool) -> None:
    """One tap is allowed to each account; the control: where policy names each, each has one."""
    each = "".join(f"[users.{person.uid}]\nbridges = ['br0']\n" for person in MANY)
    policy = f"{OPEN_POLICY}taps-per-user = 1\n{each if named else ''}"
    with running_tap_helper(policy, etc=ALICES) as helper, ExitStack() as stack:
        answers = [ask_once(helper.path, tap_on(queues=1), person) for person in MANY]
        for answer in answers:
            stack.callback(answer.fds.close)

    codes = [a.reply.code for a in answers if isinstance(a.reply, ErrorReply)]
    assert codes == [Code.QUOTA] * (0 if named else 7)


@pytest.mark.parametrize(("owner", "granted"), [("root", False), (f"person{ALICE.uid}", True)])
def test_a_container_of_roots_is_not_root(owner: str, *, granted: bool) -> None:
    """Its ids are root's subordinates. The control: another owner's rule does count."""
    policy = f"{OPEN_POLICY}[users.0]\nbridges = ['br0']\n"
    with running_tap_helper(policy, etc={"subuid": f"{owner}:{FIRST}:65536\n"}) as helper:
        answered = ask_once(helper.path, tap_on(queues=1), Person(FIRST + 5))
        answered.fds.close()

    assert granted != isinstance(answered.reply, ErrorReply)


# -- uids of containers that no account has, and that policy names together

PODS = f"[users.{FIRST}-{FIRST + 7}]\nbridges = ['br0']\ntaps = 1\n"


def test_each_uid_of_a_range_has_a_quota_of_its_own() -> None:
    """Eight uids have a tap each, and none has two; the uids beside the range are nobody's."""
    beside = (Person(FIRST - 1), Person(FIRST + 8))
    policy = OPEN_POLICY.replace("[quota]", f"{PODS}[quota]")
    with running_tap_helper(policy) as helper, ExitStack() as stack:
        answers = [
            ask_once(helper.path, tap_on(queues=1), person) for person in (*MANY, *MANY, *beside)
        ]
        for answer in answers:
            stack.callback(answer.fds.close)

    codes = [a.reply.code if isinstance(a.reply, ErrorReply) else None for a in answers]
    assert codes == [None] * 8 + [Code.QUOTA] * 8 + [Code.REFUSED] * 2


# -- uids that are nobody's


def greeted(helper: HelperProcess, person: Person) -> Answered:
    """Say hello as *person*, who may be sent away before asking."""
    with connect(helper.path, person) as sock:
        return ask(sock, Hello())


@pytest.mark.parametrize("named", [False, True])
def test_a_uid_that_is_nobodys_is_refused(*, named: bool) -> None:
    """It has no name and no owner. The control: policy names it, by its number."""
    stranger = Person(FIRST)
    more = f"[load]\nusers = [{stranger.uid}]\n" if named else ""
    with running_helper(NO_LIMITS + more) as helper:
        reply = greeted(helper, stranger).reply

    assert named == isinstance(reply, HelloReply)
    if isinstance(reply, ErrorReply):
        assert (reply.code, "has no name on this host" in reply.message) == (Code.REFUSED, True)


def test_a_stranger_who_gets_a_name_is_let_in() -> None:
    """Somebody was added to the host: nobody restarts the helper for that."""
    with running_helper() as helper:
        before = greeted(helper, Person(FIRST)).reply
        with (helper.folder / "upper/passwd").open("a") as file:
            file.write(f"newcomer:x:{FIRST}:{FIRST}::/:/bin/false\n")
        subprocess.run(
            ["nsenter", f"--mount=/proc/{helper.pid}/ns/mnt", "touch", "/etc/passwd"], check=True
        )

        assert isinstance(before, ErrorReply)
        assert wait_until(lambda: isinstance(greeted(helper, Person(FIRST)).reply, HelloReply))


# -- groups without end

GROUPS = tuple(range(3_000_000, 3_065_535))
CONNECTIONS = 48
USERS = 4
MOST_KIB = 8192


def resident_kib(pid: int) -> int:
    """Return how much memory the process *pid* has."""
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1])


def test_long_lists_of_groups_take_no_memory() -> None:
    """48 connections, each with as many groups as there can be."""
    people = [Person(1_700_010 + number, SOCKET_GID, GROUPS) for number in range(USERS)]
    with running_helper() as helper, ExitStack() as stack:
        helper.check_serves()
        before = resident_kib(helper.pid)
        greeted = [
            ask(stack.enter_context(sock), Hello()).reply
            for person in people
            for sock in connect_often(helper.path, person, CONNECTIONS // USERS)
        ]
        grown = resident_kib(helper.pid) - before

    counts = [reply.caller.gid_count for reply in greeted if isinstance(reply, HelloReply)]
    assert counts == [len(GROUPS) + 1] * CONNECTIONS
    assert grown < MOST_KIB


KEEP_THEM = f"""
def peak_kib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
before = peak_kib()
kept = [frozenset(int(str(gid)) for gid in range(65_535)) for _ in range({CONNECTIONS})]
print(peak_kib() - before)
"""
"""Not by getrusage(2): its peak begins with that of the process that started this one."""


def test_without_the_defence_they_would() -> None:
    """The control: kept as sets, as they were before, they are more than the unit's MemoryHigh=."""
    done = subprocess.run([PYTHON, "-c", KEEP_THEM], capture_output=True, check=True)

    assert int(done.stdout) > 128 * 1024


# -- a name service that hangs


def test_names_that_hang_stop_nobody_who_is_known() -> None:
    """/etc/passwd is a FIFO that nobody writes: looking a name up there blocks forever."""
    policy = f"{NO_LIMITS}[load]\nusers = ['person{BOB.uid}', {ALICE.uid}]\n"
    with running_helper(policy) as helper, connect(helper.path, BOB) as known:
        ask(known, Hello())
        inside = helper.inside(Path("/etc"))
        os.mkfifo(inside / "hanging")
        (inside / "hanging").rename(inside / "passwd")
        control = ["nsenter", f"--mount=/proc/{helper.pid}/ns/mnt", "getent", "passwd", "5"]
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(control, timeout=1, check=False)
        with connect(helper.path, Person(1_700_050)) as unknown:
            answers = [
                ask_once(helper.path, Load("rss", bytes(32)), person).reply
                for person in (ALICE, BOB, ALICE, BOB)
            ]
            unknown.settimeout(1)
            with pytest.raises(TimeoutError):
                code_of_next(unknown)

    codes = [answer.code for answer in answers if isinstance(answer, ErrorReply)]
    assert codes == [Code.UNKNOWN_OBJECT] * 4


def test_who_waits_for_a_name_in_vain_is_told() -> None:
    """After as long as anybody may take for a first request."""
    with hasty_helper() as helper:
        inside = helper.inside(Path("/etc"))
        helper.check_serves()
        os.mkfifo(inside / "hanging")
        (inside / "hanging").rename(inside / "passwd")
        with connect(helper.path, Person(1_700_050)) as sock:
            reply = decode_reply(channel.receive(sock).data, Hello())

    assert isinstance(reply, ErrorReply)
    assert (reply.code, "is still being looked up" in reply.message) == (Code.BUSY, True)
