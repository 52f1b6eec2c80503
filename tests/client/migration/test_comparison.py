# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is compared before a VM moves, and the address of the host that it moves to."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from bpferry.domain.model.cards import Card
from bpferry.errors import BadInput, NotReady, Unsupported
from bpferry.machine.migration import same_files
from bpferry.machine.migration.comparison import check_devices
from bpferry.machine.migration.destination import Destination, parse_destination
from bpferry.machine.migration.keeping import service_argv
from bpferry.machine.migration.messages import Devices, SharedFile
from bpferry.machine.migration.obstacles import check_movable
from tests.client.support import CARD, MACHINE

RSS, MQ = "VIRTIO_NET_F_RSS", "VIRTIO_NET_F_MQ"


def offers(*features: str, processor: int = 7) -> Devices:
    """Return what a QEMU offers with one card."""
    return Devices(cards={"net0": features}, processor={"CPUID 0x1 EDX": processor})


def test_the_same_devices_are_the_same() -> None:
    """Also if one QEMU is too old to say what it offers."""
    check_devices(offers(RSS, MQ), offers(RSS, MQ), "beta")
    check_devices(offers(RSS), Devices(cards={}, processor={}), "beta")


def test_a_feature_that_is_missing_there_is_named() -> None:
    """A guest goes on using what it found when it booted."""
    with pytest.raises(NotReady, match="net0: VIRTIO_NET_F_RSS only here"):
        check_devices(offers(RSS, MQ), offers(MQ), "beta")
    with pytest.raises(NotReady, match="net0: VIRTIO_NET_F_RSS only there"):
        check_devices(offers(MQ), offers(RSS, MQ), "beta")


def test_another_processor_is_named_by_its_bits() -> None:
    """QEMU itself would move the guest, which then uses instructions that are not there."""
    with pytest.raises(NotReady, match="CPUID 0x1 EDX is 0x7 here and 0x3 there"):
        check_devices(offers(RSS), offers(RSS, processor=3), "beta")


def shared(path: Path, /, **other: object) -> SharedFile:
    """Return what is said of the file *path* that nobody has locked, or *other* than that."""
    status = path.stat()
    found = SharedFile(path=str(path), inode=status.st_ino, bytes=status.st_size, locked=False)
    return replace(found, **other)


def told(file: SharedFile) -> str:
    """Return what is wrong with *file* here; empty if nothing is."""
    return "".join(error.message for error in same_files.find_differences((file,), "alpha"))


def test_the_same_file_is_the_same(tmp_path: Path) -> None:
    """An image that grows may have another size there for a while."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 512)
    assert told(shared(path)) == ""
    assert told(shared(path, bytes=None)) == ""


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"inode": 1}, "it has the inode"),
        ({"bytes": 1}, "it has 512 bytes here and 1 there"),
        ({"locked": True}, "the lock that QEMU has on it there is not seen here"),
        ({"path": "/nowhere/disk.img"}, "there is none"),
        ({"path": "/dev/null"}, "it is not a regular file"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, other: dict[str, object], difference: str) -> None:
    """A copy under the same path is not the same disk."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 512)
    said = told(shared(path, **other))
    assert difference in said
    assert "disks have to be shared, and are not copied" in said


def test_what_belongs_to_the_host_does_not_move() -> None:
    """A card on a tap that somebody made, or what was plugged in."""
    check_movable(MACHINE, MACHINE, "/vm.toml")
    with_card = replace(MACHINE, cards=(CARD,))
    with pytest.raises(Unsupported, match="its card on the tap 'tap0' needs that tap"):
        check_movable(with_card, with_card, "/vm.toml")
    with pytest.raises(NotReady, match="cannot move: net0 was plugged in, and the other host"):
        check_movable(replace(MACHINE, cards=(Card(type="user"),)), MACHINE, "/vm.toml")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ssh://beta", Destination("beta")),
        ("ssh://beta/", Destination("beta")),
        ("ssh://alice@beta.example.org:2222", Destination("beta.example.org", "alice", 2222)),
        ("ssh://[fd00::2]:22", Destination("fd00::2", "", 22)),
        ("ssh://MyAlias", Destination("MyAlias")),
    ],
)
def test_a_host_is_read(text: str, found: Destination) -> None:
    """Its name stays as it is, since it may be one of ssh's own configuration."""
    assert parse_destination(text) == found


@pytest.mark.parametrize(
    "text",
    ["ssh://h\x1b", "ssh://h\udcff",
     "beta", "", "ssh://", "qemu+ssh://beta/session", "ssh://beta/web", "ssh://-oProxyCommand=x",
     "ssh://-l@beta", "ssh://beta:0", "ssh://beta:65536", "ssh://a:secret@beta", "ssh://a b"],
)  # fmt: skip
def test_what_is_no_host_is_refused(text: str) -> None:
    """Above all what ssh would take for an option."""
    with pytest.raises(BadInput, match=r"is not the address|has the port"):
        parse_destination(text)


def test_ssh_is_told_what_to_start() -> None:
    """A shell reads it at the other host."""
    argv = Destination("beta", "alice", 2222).argv("a b")
    assert argv == ("ssh", "-p", "2222", "-T", "alice@beta", "bpferry", "receive", "'a b'")


def test_without_a_systemd_that_lingers_there_is_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end with the connection."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert service_argv("web") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "systemd-run"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/private").touch()
    monkeypatch.setattr("bpferry.machine.migration.keeping.has_linger", lambda: False)
    assert service_argv("web") is None
    monkeypatch.setattr("bpferry.machine.migration.keeping.has_linger", lambda: True)
    argv = service_argv("web")
    assert argv is not None
    assert argv[:6] == (
        str(program), "--user", "--pipe", "--quiet", "--collect",
        "--unit=bpferry-arrived-web.service",
    )  # fmt: skip
    assert argv[-4:] == ("receive", f"--front={os.getpid()}", "--", "web")
    assert f"--setenv=XDG_RUNTIME_DIR={tmp_path}" in argv
