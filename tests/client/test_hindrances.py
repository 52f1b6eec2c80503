# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in the way of a VM: `check` says it, and `run` stops with all of it at once."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.domain.document import read_bytes
from bpferry.errors import BpferryError, NameTaken
from bpferry.machine import hindrances
from bpferry.machine.draft import draft
from bpferry.machine.hindrances import find_all, find_unusable_vhost
from bpferry.machine.image_locks import FLOCK
from bpferry.machine.name_lock import hold_name
from bpferry.network import macvtap
from bpferry_wire.errors import Code
from bpferry_wire.messages import Request
from tests.client import fake_helper as fake
from tests.client.images import write_qcow2
from tests.client.running import BASE, DISK, start, type_in
from tests.client.support import Record

pytestmark = pytest.mark.qemu

Captured = pytest.CaptureFixture[str]

VM = """\
name = "{name}"
memory = "32 MiB"
accelerator = "tcg"

[[disks]]
file = "disk.img"
format = "raw"

[[cards]]
bridge = "br0"
queues = 2

[[graphics]]
type = "vnc"
port = {port}

[[serials]]
type = "unix"
sources = [{{mode = "bind", path = "s"}}]
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Request]]:
    """Serve as both helpers, which permit all and do nothing; yield what they were asked to do."""
    requests: list[Request] = []
    sockets = {"BPFERRY_TAP_SOCKET": tmp_path / "tap.sock", "BPFERRY_BPF_SOCKET": tmp_path / "b"}
    for variable, path in sockets.items():
        monkeypatch.setenv(variable, str(path))
    refuse = fake.permits(fake.keeps(requests, fake.refuses(Code.REFUSED)))
    with (
        fake.helper(sockets["BPFERRY_TAP_SOCKET"], refuse),
        fake.helper(sockets["BPFERRY_BPF_SOCKET"], refuse),
    ):
        yield requests


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Path]:
    """Write a VM whose disk is locked, and whose port and socket are taken."""
    (tmp_path / "disk.img").write_bytes(bytes(2**20))
    with (
        (tmp_path / "disk.img").open("rb") as image,
        socket.create_server(("127.0.0.1", 0), backlog=1) as server,
        socket.socket(socket.AF_UNIX) as local,
    ):
        fcntl.fcntl(image, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0))
        local.bind(str(tmp_path / "s"))
        local.listen()
        path = tmp_path / "vm.toml"
        path.write_text(VM.format(name="x", port=server.getsockname()[1]), encoding="utf-8")
        yield path


def expected(folder: Path, port: str) -> list[str]:
    """Return how what is in the way begins, and how it ends."""
    return [
        f"'{folder}/vm.toml':6: 'disks[0].file': cannot use '{folder}/disk.img': it is locked now",
        f"'{folder}/vm.toml':17: 'serials[0]': cannot listen at '{folder}/s': a process is already",
        f"'{folder}/vm.toml':13: 'graphics[0]': cannot listen at 127.0.0.1:{port} for 'vnc'",
    ]


def port_of(vm: Path) -> str:
    """Return the port in the document."""
    return vm.read_text().partition("port = ")[2].split()[0]


def test_run_stops_with_all_of_it_before_a_helper_is_asked(
    vm: Path, asked: list[Request], capsys: Captured
) -> None:
    """Each thing is told with its place, once, and what to do; no tap is made."""
    assert main(["run", str(vm)]) == 1

    lines = capsys.readouterr().err.splitlines()
    errors = [line.removeprefix("bpferry: error: ") for line in lines if "error: " in line]
    for error, start_of_it in zip(errors, expected(vm.parent, port_of(vm)), strict=True):
        assert error.startswith(start_of_it)
        assert error.count("vm.toml") == 1
    assert 3 == sum("bpferry: hint: " in line for line in lines)
    assert [] == asked


def test_run_tells_programs_all_of_it(vm: Path, asked: list[Request], capsys: Captured) -> None:
    """The first is the error, and the others come with it."""
    assert main(["run", "--json", str(vm)]) == 1

    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["element"]) == ("not-ready", "disks[0].file")
    assert [one["element"] for one in error["others"]] == ["serials[0]", "graphics[0]"]
    assert [] == asked


def test_check_says_the_same(vm: Path, asked: list[Request], capsys: Captured) -> None:
    """It is status 1, with no helper asked to do anything."""
    assert main(["check", "--json", str(vm)]) == 1

    findings = json.loads(capsys.readouterr().out)["findings"]
    errors = [finding for finding in findings if finding["severity"] == "error"]
    for error, start_of_it in zip(errors, expected(vm.parent, port_of(vm)), strict=True):
        assert error["message"].startswith(start_of_it)
        assert error["cause"] is None
        assert error["hint"]
        assert error["kind"] == "not-ready"
    assert [] == asked


def test_dry_run_says_the_same(vm: Path, asked: list[Request], capsys: Captured) -> None:
    """A dry run is possible all the same."""
    assert main(["run", "--dry-run=json", str(vm)]) == 0

    answer = json.loads(capsys.readouterr().out)
    errors = answer["errors"]
    assert [error["message"] for error in errors] == [
        one["message"] for one in answer["findings"] if one["severity"] == "error"
    ]
    assert [] == asked
    for error, start_of_it in zip(errors, expected(vm.parent, port_of(vm)), strict=True):
        assert error["message"].startswith(start_of_it)


def test_check_of_a_vm_that_runs(tmp_path: Path, capsys: Captured) -> None:
    """Its own locks and ports are in nobody's way."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")

        assert main(["check", str(tmp_path / "vm.toml")]) == 1

        out = capsys.readouterr().out
        assert "you already have a VM" in out
        assert out.count("error: ") == 1
        type_in(run, b"q")
        assert run.status() == 0


def test_second_vm_with_the_same_disk(tmp_path: Path, capsys: Captured) -> None:
    """Another VM is told which one has its disk, in words of ours and not of QEMU's."""
    other = tmp_path / "other.toml"
    other.write_text((BASE + DISK).replace('"t"', '"u"'), encoding="utf-8")
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        run.qemu()

        assert main(["run", str(other)]) == 1

        err = capsys.readouterr().err
        assert "it is locked now by your VM 't', which " in err
        assert "hint: end that VM (bpferry stop t), or give this VM an image of its own" in err
        assert "qemu: " not in err


def test_container_that_is_said_to_be_raw_starts_with_a_warning(tmp_path: Path) -> None:
    """It is told, and the VM starts."""
    write_qcow2(tmp_path / "i")
    with start(tmp_path, BASE + '[[disks]]\nfile = "i"\nformat = "raw"\n') as run:
        run.qemu()

        assert f"warning: '{tmp_path}/vm.toml':6: 'disks[0].format': '{tmp_path}/i' is qcow2" in (
            run.err()
        )


def test_container_without_a_format_does_not_start(tmp_path: Path) -> None:
    """The guest would destroy it."""
    write_qcow2(tmp_path / "i")
    with start(tmp_path, BASE + '[[disks]]\nfile = "i"\n') as run:
        assert run.status() == 1
        assert 'write format = "qcow2", or ' in run.err()


def test_vm_that_starts_at_that_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it uses is found in use, and its name is told in place of that."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    plan = draft(read_bytes(BASE.encode(), tmp_path / "vm.toml"), Record())

    with contextlib.ExitStack() as other:

        def in_use(*_: object, **__: object) -> Iterator[BpferryError]:
            other.enter_context(hold_name(plan.machine.name, tmp_path / "other.toml", Record()))
            yield BpferryError("its socket")

        monkeypatch.setattr(hindrances, "find_in_use", in_use)
        assert [NameTaken] == [type(error) for error in find_all(plan)]


def test_vhost_by_name_that_cannot_be_used(tmp_path: Path) -> None:
    """What is wrong with the device is told, what mends it, and the way without it."""
    card = '[[cards]]\ntap = "t0"\ndriver = "vhost"\nvhost-device = "/nosuch/vhost"\n'
    plan = draft(read_bytes((BASE + card).encode(), tmp_path / "vm.toml"), Record())

    (error,) = find_unusable_vhost(plan)

    assert "cannot open '/nosuch/vhost': No such file or directory" in error.message
    assert "modprobe vhost_net" in error.hint
    assert error.hint.endswith("the VM starts without it if you leave out the driver's name")


@pytest.mark.parametrize(
    ("mac", "told"),
    [
        ("52:54:00:00:00:01", "it takes only frames for its own, '52:54:00:12:34:56'"),
        ("52:54:00:12:34:56", "of the macvtap 'lo': No such file or directory"),
    ],
)
def test_macvtap_that_the_card_cannot_have(
    mac: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    """An address that is not the interface's and a device that does not open are told early."""
    index = socket.if_nametoindex("lo")
    device = tmp_path / "lo/macvtap" / f"tap{index}"
    device.mkdir(parents=True)
    (device / "dev").write_text("246:1\n", encoding="ascii")
    (tmp_path / "lo/ifindex").write_text(f"{index}\n", encoding="ascii")
    (tmp_path / "lo/address").write_text("52:54:00:12:34:56\n", encoding="ascii")
    monkeypatch.setattr(macvtap, "INTERFACES", tmp_path)
    monkeypatch.setattr(macvtap, "DEVICES", tmp_path)
    card = f'[[cards]]\ntap = "lo"\nmac = "{mac}"\nqueues = 2\nrss = true\n'
    (tmp_path / "vm.toml").write_text(BASE + card, encoding="utf-8")

    status = main(["check", str(tmp_path / "vm.toml")])
    said = capsys.readouterr()

    assert 1 == status
    assert "'cards[0].tap': cannot " in said.out + said.err
    assert told in said.out + said.err
    assert "which the kernel lets no eBPF program steer" in said.out + said.err
