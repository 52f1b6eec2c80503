# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether vhost-net can be used, and its fds."""

import fcntl
import os
from pathlib import Path

import msgspec
import pytest

from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.cards import Card
from bpferry.errors import BpferryError
from bpferry.machine.host import gather_facts
from bpferry.network.vhost import open_vhost, probe_vhost
from tests.client.support import CARD, MACHINE


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

    assert f"cannot use '{path}': it is no vhost device" in probe_vhost(path)
    with pytest.raises(BpferryError, match="it is no vhost device"):
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
    assert "nobody has looked" in facts.problem_of("/dev/zero")
    assert not gather_facts(machine, Accelerator.TCG).kvm
