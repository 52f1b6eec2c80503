# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry capabilities: what it prints."""

import json
from pathlib import Path

import pytest

from bpferry.cli.capabilities import show
from bpferry.errors import BadInput, QemuError
from bpferry.qemu import cache, trial
from bpferry.qemu.capabilities import Capabilities, EbpfObject, MachineType
from tests.client.support import QEMU, script


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is found in a folder of the test, and have no KVM to try."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "KVM_DEVICE", "/nowhere/kvm")


def _show(*, as_json: bool = False, refresh: bool = False, clear: bool = False) -> int:
    return show(None if clear else QEMU, as_json=as_json, refresh=refresh, clear=clear)


@pytest.mark.qemu
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """People get one short line for each thing."""
    assert _show() == 0

    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["virtio-net 'ebpf-rss-fds'"].strip() == "yes"
    assert lines["eBPF object 'rss'"].strip().endswith("bytes, used by bpferry")
    said = "cannot open '/nowhere/kvm': No such file or directory"
    assert lines["accelerator 'kvm'"].strip() == said
    assert "pc-i440fx" in lines["machine types"]


@pytest.mark.qemu
def test_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is longer than a terminal of today is wide."""
    _show()

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


@pytest.mark.qemu
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get everything, in one object."""
    assert _show(as_json=True) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["ebpf"]["rss"].keys() == {"bytes", "sha256", "known"}
    assert answer["devices"]["virtio-net-pci"]["rss"] == "bool"
    assert "tap" in answer["netdevs"]


@pytest.mark.qemu
def test_json_is_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """What is read from the cache is printed as what was asked."""
    _show(as_json=True)
    first = capsys.readouterr().out
    _show(as_json=True)

    assert first == capsys.readouterr().out


@pytest.mark.qemu
def test_clear(capsys: pytest.CaptureFixture[str]) -> None:
    """It says how many files it has removed."""
    _show()
    capsys.readouterr()

    _show(clear=True)
    _show(clear=True, as_json=True)

    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first.startswith("removed 1 file in '")
    assert json.loads(rest)["removed"] == 0


@pytest.mark.parametrize(("qemu", "refresh"), [(QEMU, False), (None, True)])
def test_clear_takes_nothing_else(qemu: str | None, refresh: bool) -> None:  # noqa: FBT001 - a parameter
    """Who clears asks no QEMU."""
    with pytest.raises(BadInput, match="'--clear' takes no path"):
        show(qemu, as_json=False, refresh=refresh, clear=True)


def test_program_that_is_not_a_qemu(tmp_path: Path) -> None:
    """A program that ends is an error in its own words, and nothing is kept."""
    with pytest.raises(QemuError) as caught:
        show(script(tmp_path, "echo no; exit 7"), as_json=False, refresh=False, clear=False)

    assert caught.value.hint == "it said: no"
    assert cache.clear() == 0


def _print(found: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "find_or_probe", lambda _qemu, **_rest: found)
    show("/qemu", as_json=False, refresh=False, clear=False)


def test_object_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An eBPF object with an id of tomorrow is shown, and said to be unknown."""
    found = Capabilities("/qemu", (12, 0, 0), objects={"next": EbpfObject(b"\x7fELF", bytes(32))})

    _print(found, monkeypatch)

    assert "4 bytes, not used by bpferry" in capsys.readouterr().out


def test_qemu_that_can_do_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not there is said to be not there."""
    machines = {"virt-12.0": MachineType("virt-12.0", alias="virt")}

    _print(Capabilities("/qemu", (12, 0, 0), machines=machines), monkeypatch)

    text = capsys.readouterr().out
    assert "eBPF objects                 none" in text
    assert "1, virt is virt-12.0\n" in text
    assert "; QEMU's own: none" in text
