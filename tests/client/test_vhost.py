# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether vhost-net can be used, and its fds."""

import fcntl
import grp
import os
import pwd
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.cards import Card
from bpferry.errors import BpferryError
from bpferry.machine.host import gather_facts
from bpferry.network.vhost import open_vhost, probe_vhost
from tests.client.support import CARD, MACHINE
from tests.support.people import ALICE, acting_as

GROUP = 1_799_999
"""Of nobody."""


def open_fds() -> int:
    """Return how many fds this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_device_that_is_not_there(tmp_path: Path) -> None:
    """A device that does not open is named, with why."""
    path = str(tmp_path / "vhost-net")

    assert probe_vhost(path) == f"cannot open '{path}': No such file or directory"


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_device_that_opens_and_is_another(path: str) -> None:
    """That a device opens does not make it vhost; nothing stays open."""
    before = open_fds()

    assert f"cannot use '{path}': it is not a vhost device" in probe_vhost(path)
    with pytest.raises(BpferryError, match="it is not a vhost device"):
        open_vhost(path, 4)
    assert before == open_fds()


def test_one_fd_for_each_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device answers, each queue gets an fd of its own, that no child inherits."""
    # No machine of ours has vhost-net: /dev/null answers in its place.
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: bytes(8))
    before = open_fds()

    assert probe_vhost("/dev/null") == ""
    with open_vhost("/dev/null", 3) as fds:
        assert [False] * 3 == [os.get_inheritable(fd) for fd in fds.borrow()]
        assert before + 3 == open_fds()
    assert before == open_fds()


def test_facts_of_the_host() -> None:
    """Each device that a card with a tap may want is looked at, once."""
    other = Card(type="user", vhost_device="/dev/zero")
    machine = msgspec.structs.replace(MACHINE, cards=(CARD, CARD, other))

    facts = gather_facts(machine, Accelerator.KVM)

    assert facts.kvm
    assert ["/dev/vhost-net"] == list(facts.vhost)
    assert "was not checked" in facts.problem_of("/dev/zero")
    assert not gather_facts(machine, Accelerator.TCG).kvm


@pytest.fixture
def closed_device() -> Iterator[Path]:
    """Make a device that GROUP may open, and nobody else."""
    path = Path(f"/dev/bpferry-test-{uuid.uuid4().hex[:8]}")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    try:
        os.chown(path, 0, GROUP)
        path.chmod(0o660)
        yield path
    finally:
        path.unlink()


def denied(path: Path, groups: tuple[int, ...] = ()) -> BpferryError:
    """Open the device as Alice, who has *groups*, and return what is in the way."""
    with (
        acting_as(ALICE._replace(groups=groups)),
        pytest.raises(BpferryError) as caught,
    ):
        open_vhost(str(path), 4)
    return caught.value


@pytest.mark.privileged
def test_group_that_the_user_is_not_in(closed_device: Path) -> None:
    """Who is not in the device's group is told so, with the command that changes it."""
    error = denied(closed_device)

    assert error.message == (
        f"cannot open '{closed_device}': "
        f"only members of the group '{GROUP}' may use it (root:{GROUP}, mode 0660), "
        "and you are not one"
    )
    assert error.hint == (
        f"ask the administrator to run 'sudo usermod -aG {GROUP} {ALICE.uid}', and log in again"
    )


@pytest.mark.privileged
def test_group_that_the_session_does_not_know(
    closed_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who became a member after having logged in is told to log in again."""
    entry = grp.struct_group(("vms", "x", GROUP, ["alice"]))
    monkeypatch.setattr(grp, "getgrgid", lambda _: entry)
    user = pwd.struct_passwd(("alice", "x", ALICE.uid, ALICE.gid, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)

    error = denied(closed_device)

    assert "group 'vms' may use it (" in error.message
    assert "); you are one now, but this session" in error.message
    assert error.hint == "log in again, or run 'newgrp vms' in this shell"


@pytest.mark.privileged
def test_group_that_does_not_help(closed_device: Path) -> None:
    """A device that is open to no group of users is the administrator's to open."""
    closed_device.chmod(0o600)

    error = denied(closed_device, (GROUP,))

    assert "users may not open it" in error.message
    assert f"'chgrp kvm {closed_device}' and 'chmod 0660 {closed_device}'" in error.hint


@pytest.mark.privileged
def test_member_of_the_group(closed_device: Path) -> None:
    """A member gets past the mode: what is in the way then is another thing."""
    assert "it is not a vhost device" in denied(closed_device, (GROUP,)).message
