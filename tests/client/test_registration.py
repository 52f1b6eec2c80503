# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM is put into the list of the user's machined, if there is one.

No release of Debian has such a machined yet. A server of our own stands in: it speaks Varlink, and
takes what the published interface takes.
"""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from bpferry.cli.main import main
from bpferry.commandline.parts import Endpoint
from bpferry.machine import registration
from bpferry.machine.registration import described, register, unregister
from tests.client.running import BASE, DISK, start
from tests.client.support import Record, wait_until

UUID: Final = "c7a5fdbd-edaf-4455-926a-d65c16db1809"

FIELDS: Final[dict[str, type]] = {
    "name": str,
    "id": str,
    "service": str,
    "class": str,
    "leader": int,
    "rootDirectory": str,
    "ifIndices": list,
    "vSockCid": int,
    "sshAddress": str,
    "sshPrivateKeyPath": str,
    "allocateUnit": bool,
    "allowInteractiveAuthentication": bool,
}
"""What Register takes (varlink-io.systemd.Machine.c); name and class have to be there."""

INVALID: Final = "org.varlink.service.InvalidParameter"


class Machined:
    """A machined that keeps what it was told."""

    def __init__(self) -> None:
        self.machines: dict[str, dict[str, object]] = {}

    def answer(self, request: bytes) -> bytes:
        """Return the answer to one request, without the zero bytes."""
        called = json.loads(request)
        interface, _, method = called["method"].rpartition(".")
        assert "io.systemd.Machine" == interface
        return json.dumps(self._methods()[method](called["parameters"])).encode() + b"\0"

    def _methods(self) -> dict[str, Callable[[dict[str, object]], dict[str, object]]]:
        return {"Register": self._register, "Unregister": self._unregister}

    def _unregister(self, told: dict[str, object]) -> dict[str, object]:
        if self.machines.pop(str(told["name"]), None) is None:
            return {"error": "io.systemd.Machine.NoSuchMachine", "parameters": {}}
        return {"parameters": {}}

    def _register(self, told: dict[str, object]) -> dict[str, object]:
        wrong = [key for key, value in told.items() if type(value) is not FIELDS.get(key)]
        if wrong or told["class"] not in ("vm", "container", "host"):
            return {"error": INVALID, "parameters": {"parameter": [*wrong, "class"][0]}}
        if told["name"] in self.machines:
            return {"error": "io.systemd.Machine.MachineExists", "parameters": {}}
        self.machines[str(told["name"])] = told
        return {"parameters": {}}


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Listen where the user's machined does; each request gets what *answer* makes of it."""
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / registration.SOCKET
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener, answer))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def serve(listener: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    """Answer one request of each connection until *listener* is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            request = b""
            while not request.endswith(b"\0"):
                request += connection.recv(4096)
            with suppress(BrokenPipeError):
                connection.sendall(answer(request[:-1]))


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user a runtime folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def told_of(*endpoints: Endpoint) -> dict[str, object]:
    """Return what machined is told about a VM whose QEMU is this process."""
    return described("web", UUID, os.getpid(), endpoints)


def registered(record: Record) -> bool:
    """Say whether the VM was put into the list; *record* is told of it."""
    return asyncio.run(register(told_of(), record))


def test_vm_is_in_the_list_until_it_ends() -> None:
    """With its UUID and the process id of QEMU."""
    machined, record = Machined(), Record()
    with answering(machined.answer):
        assert registered(record)
        told = dict(machined.machines["web"])
        asyncio.run(unregister("web"))

    assert {} == machined.machines
    assert [] == record.all
    assert told.pop("allocateUnit") in (True, False)
    assert {
        "name": "web",
        "id": UUID.replace("-", ""),
        "service": "bpferry",
        "class": "vm",
        "leader": os.getpid(),
    } == told


def test_guest_with_vsock_is_reached_by_ssh_there() -> None:
    """As systemd-ssh-proxy takes it; a CID of the host is none."""
    guest = Endpoint("vsock", "vsock", "vsock", port="7")
    host = Endpoint("vsock", "vsock", "vsock", port="2")

    assert (7, "vsock/7") == (told_of(guest)["vSockCid"], told_of(guest)["sshAddress"])
    assert "vSockCid" not in told_of(host)


def test_without_a_machined_nothing_is_said(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is normal; so is a user without a runtime folder."""
    record = Record()

    assert not registered(record)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert not registered(record)
    asyncio.run(unregister("web"))
    assert [] == record.all
    assert [] == list(runtime.iterdir())


def test_refusal_is_a_warning() -> None:
    """Somebody may have registered another machine of this name."""
    machined, record = Machined(), Record()
    machined.machines["web"] = {}
    with answering(machined.answer):
        assert not registered(record)

    (warning,) = record.texts("warning")
    assert "does not show the VM: machined refused it: io.systemd.Machine.MachineExists" in warning


@pytest.mark.parametrize("answer", [b"", b"nonsense\0", b"[]\0", b"x" * 100_000, b'{"a":1}'])
def test_answer_that_is_no_varlink_is_a_warning(answer: bytes) -> None:
    """The VM runs all the same."""
    record = Record()
    with answering(lambda _: answer):
        assert not registered(record)

    assert 1 == len(record.texts("warning"))


def test_machined_that_is_silent_or_gone_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not wait for it for long; the file of one that is gone is still there."""
    monkeypatch.setattr(registration, "ANSWER_SECONDS", 0.2)
    record, over = Record(), threading.Event()

    def silent(_: bytes) -> bytes:
        over.wait()
        return b""

    with answering(silent):
        assert not registered(record)
        over.set()
    assert not registered(record)
    one, other = record.texts("warning")
    assert "did not answer within" in one
    assert "Connection refused" in other


@pytest.mark.qemu
def test_run_registers_its_vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the guest runs, until it has ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    machined = Machined()
    with answering(machined.answer):
        with start(tmp_path, BASE + DISK) as run:
            assert wait_until(lambda: "t" in machined.machines), run.err()
            leader = machined.machines["t"]["leader"]
            assert run.qemu() == leader
            assert main(["stop", "--force", "t"]) == 0
            assert run.status() == 0
        assert {} == machined.machines
