# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd learns when a VM runs, what it does, and how long its end may take."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.machine.control.states import State
from bpferry.machine.service_manager import WORDS, ServiceManager
from tests.client.running import BASE, DISK, start
from tests.client.support import wait_until


class Manager:
    """A service manager that keeps what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.told: list[str] = []

    def lines(self) -> list[str]:
        """Return all lines so far."""
        while True:
            try:
                self.told += self._sock.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.told

    def hears(self, line: str) -> bool:
        """Wait until it was told *line*."""
        return wait_until(lambda: line in self.lines())


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Listen as systemd does, and say so in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify.sock"))
        sock.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify.sock"))
        yield Manager(sock)


@pytest.mark.qemu
def test_service_is_ready_when_the_guest_runs_and_says_what_it_does(
    tmp_path: Path, manager: Manager
) -> None:
    """From ready to the end, with the time that the end may take."""
    with start(tmp_path, BASE + "stop-timeout = 7\n" + DISK) as run:
        assert manager.hears("READY=1")
        assert manager.lines()[:3] == ["STATUS=QEMU starts", "READY=1", "STATUS=the VM runs"]
        assert run.says("hello")
        run.signal(signal.SIGTERM)
        assert manager.hears("STOPPING=1")
        assert manager.hears("STATUS=the guest was asked to power down, within 7 s")
        assert manager.hears("EXTEND_TIMEOUT_USEC=27000000")
        run.signal(signal.SIGINT)
        assert manager.hears("STATUS=QEMU was told to end")

        assert run.status() == 0


@pytest.mark.qemu
def test_children_of_a_service_are_not_the_service(tmp_path: Path, manager: Manager) -> None:
    """QEMU does not inherit the way to the service manager."""
    with start(tmp_path, BASE + DISK) as run:
        assert manager.hears("READY=1")
        environment = Path(f"/proc/{run.qemu()}/environ").read_bytes()

        assert b"NOTIFY_SOCKET" not in environment


@pytest.mark.qemu
def test_service_whose_vm_is_killed_on_request_has_not_failed(
    tmp_path: Path, manager: Manager
) -> None:
    """Otherwise systemd would start a VM again that somebody has stopped."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        os.kill(run.qemu(), signal.SIGSTOP)
        for words in ("asked the guest", "stopping QEMU", ""):
            run.signal(signal.SIGINT)
            assert run.says(words)

        assert run.status() == 0
        assert "STOPPING=1" in manager.lines()


@pytest.mark.qemu
def test_service_whose_qemu_is_killed_by_others_has_failed(
    tmp_path: Path, manager: Manager
) -> None:
    """Such as by the kernel, for want of memory: systemd may start it again."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        assert manager.hears("READY=1")
        os.kill(run.qemu(), signal.SIGKILL)

        assert run.status() == 128 + signal.SIGKILL


def test_each_state_is_told_once(manager: Manager) -> None:
    """A pause and its end are told; what is known already is not told again."""
    service = ServiceManager()
    for state in (State.STARTING, State.RUNNING, State.PAUSED, State.PAUSED, State.RUNNING):
        service.show(state)

    assert manager.lines() == [
        "STATUS=QEMU starts",
        "READY=1",
        "STATUS=the VM runs",
        "STATUS=the VM is paused",
        "STATUS=the VM runs",
    ]
    assert set(State) == set(WORDS)


def test_guest_without_a_time_limit_has_a_day(manager: Manager) -> None:
    """Systemd needs a limit, or it would use its own."""
    ServiceManager().stopping(None)

    assert manager.lines() == [
        "STOPPING=1",
        "STATUS=the guest was asked to power down",
        "EXTEND_TIMEOUT_USEC=86400000000",
    ]


def test_start_that_waits_for_somebody_may_take_long(manager: Manager) -> None:
    """QEMU may wait for a process to connect, and the status says for whom."""
    ServiceManager().waits("QEMU waits")

    assert manager.lines() == ["STATUS=QEMU waits", "EXTEND_TIMEOUT_USEC=86400000000"]


@pytest.mark.parametrize("address", ["", "/nowhere/notify.sock"])
def test_without_a_service_manager_nothing_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VM in the foreground does not care, nor does one whose manager is gone."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    ServiceManager().show(State.RUNNING)


def test_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd writes the zero byte of an abstract socket's name as '@'."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"bpferry-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        ServiceManager().show(State.RUNNING)

        assert sock.recv(100) == b"READY=1\nSTATUS=the VM runs"
