# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that are slow to look up, or change all the time, hold up nobody else."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bpferry_helper.disposal import Disposal
from bpferry_helper.door import MAX_UNNAMED, Door
from bpferry_helper.policy import current
from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.policy.rules import Policy
from bpferry_wire.errors import Code
from tests.support.census import wait_until
from tests.support.helper_process import NO_LIMITS, HelperProcess, running_helper
from tests.support.people import Person, code_of_next, connect
from tests.support.policy_file import end

pytestmark = pytest.mark.privileged

SLOW_S = 0.2
FLOODER = Person(1_700_050)
VICTIM = Person(1_700_051)
GID = 1_700_000
ALLOWS = Policy("policy.toml", users=frozenset(), groups=frozenset({GID}))

# -- a user who changes /etc/passwd with chfn all the time


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return the files that are looked at, of the test's own; to read them takes SLOW_S."""
    paths = {name: tmp_path / name for name in ("policy.toml", "subuid", "passwd", "group")}
    for path in paths.values():
        path.touch()

    def read_slowly(*_: object) -> Policy:
        time.sleep(SLOW_S)
        return ALLOWS

    monkeypatch.setattr(current, "SUBUID_PATH", str(paths["subuid"]))
    monkeypatch.setattr(current, "NAME_FILES", (str(paths["passwd"]), str(paths["group"])))
    monkeypatch.setattr(current, "read_policy", read_slowly)
    monkeypatch.setattr(current, "SETTLE_S", 1.0)
    return paths


@contextmanager
def policy_file(paths: dict[str, Path]) -> Iterator[PolicyFile]:
    """Yield a file that was read once."""
    file = PolicyFile(str(paths["policy.toml"]), GID)
    try:
        assert wait_until(lambda: file.groups() == {GID})
        yield file
    finally:
        end(file)


def longest_wait_s(file: PolicyFile, change: Callable[[], None]) -> float:
    """Return for how long the loop waits at most, of some times, each after a *change*."""
    waits = []
    for _ in range(5):
        change()
        started = time.monotonic()
        file.groups()
        waits.append(time.monotonic() - started)
    return max(waits)


@pytest.mark.parametrize(
    ("name", "waits"),
    [("passwd", False), ("group", False), ("policy.toml", True), ("subuid", True)],
)
def test_only_what_root_changes_makes_the_loop_wait(
    files: dict[str, Path], name: str, *, waits: bool
) -> None:
    """chfn(1) changes /etc/passwd for anybody, as often as they like. The control: the others."""
    with policy_file(files) as file:
        longest_s = longest_wait_s(file, lambda: replace(files[name]))

    assert waits is (longest_s > SLOW_S / 2)


def reads_into(done: list[str]) -> Callable[..., Policy]:
    """Return what reads the policy, and notes that in *done*."""

    def read(*_: object) -> Policy:
        done.append("policy")
        return ALLOWS

    return read


def replace(path: Path) -> None:
    """Replace *path*, as programs do that change such a file."""
    new = path.with_suffix(".new")
    new.touch()
    new.rename(path)


def test_names_that_change_are_read_now_and_then(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often they change; and after the last change, once more."""
    reads: list[str] = []
    monkeypatch.setattr(current, "read_policy", reads_into(reads))
    monkeypatch.setattr(current, "NAMES_S", 0.3)
    with policy_file(files) as file:
        started, before = time.monotonic(), len(reads)
        while time.monotonic() - started < 1:
            replace(files["passwd"])
            file.groups()
        during = len(reads) - before
        time.sleep(0.35)
        file.groups()
        assert wait_until(lambda: len(reads) - before > during)

    assert 1 <= during <= 4


def test_a_change_of_the_policy_is_read_before_names_that_wait(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred uids that are looked up do not put off a "deny"."""
    gate = Event()
    done: list[str] = []

    def look_up(uid: int) -> None:
        gate.wait()
        done.append(str(uid))

    with policy_file(files) as file:
        monkeypatch.setattr(current, "user_name", look_up)
        monkeypatch.setattr(current, "SETTLE_S", 0.0)
        # All of this takes less time than a request, for which the files are looked at once.
        monkeypatch.setattr(current, "SAME_S", 0.0)
        monkeypatch.setattr(current, "read_policy", reads_into(done))
        for uid in range(100):
            assert file.whose(1_000_000 + uid) is None
        replace(files["policy.toml"])
        file.groups()
        gate.set()
        assert wait_until(lambda: len(done) > 100)

    # One was being looked up already.
    assert done.index("policy") < 2


# -- many connections of one user whose name is being looked up


@contextmanager
def hanging_names() -> Iterator[HelperProcess]:
    """Yield a helper on whose host no name can be looked up any more."""
    with running_helper(NO_LIMITS) as helper:
        helper.check_serves()
        inside = helper.inside(Path("/etc"))
        os.mkfifo(inside / "hanging")
        (inside / "hanging").rename(inside / "passwd")
        yield helper


def is_waiting(sock: socket.socket) -> bool:
    """Return whether *sock* was not turned away."""
    sock.settimeout(0.5)
    try:
        return code_of_next(sock) is not Code.BUSY
    except TimeoutError:
        return True


def test_who_waits_for_a_name_keeps_no_other_from_waiting() -> None:
    """Of those who fill the room, one makes room. The control: one more of them is turned away."""
    with hanging_names() as helper, ExitStack() as stack:
        for _ in range(MAX_UNNAMED):
            stack.enter_context(connect(helper.path, FLOODER))
        one_more = stack.enter_context(connect(helper.path, FLOODER))
        another = stack.enter_context(connect(helper.path, VICTIM))

        assert (is_waiting(another), is_waiting(one_more)) == (True, False)


class Unknown:
    """Accounts whose names never come, though others' do."""

    def whose(self, _uid: int) -> None:
        """Say that it is being looked up."""

    def take_wake_up(self) -> None:
        """Do nothing."""


def test_names_of_others_give_nobody_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told after as long as before, however many names come meanwhile."""
    now = [100.0]
    unused: Any = None
    accounts: Any = Unknown()
    monkeypatch.setattr("bpferry_helper.door.time.monotonic", lambda: now[0])
    door = Door(accounts, unused, unused, Disposal())
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine:
        door.admit(its)
        first = door.next_deadline()
        now[0] = 105.0
        door.admit_named()
        second = door.next_deadline()
        now[0] = 111.0
        door.admit_named()
        code = code_of_next(mine)

    assert (first, second, code, door.is_quiet) == (110.0, 110.0, Code.BUSY, True)
