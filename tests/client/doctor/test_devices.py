# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about KVM, vhost-net and firmware."""

import fcntl
import os
from pathlib import Path

import msgspec
import pytest

from bpferry.machine.doctor.devices import check_kvm, check_vhost
from bpferry.machine.doctor.firmware import check_firmware
from bpferry.machine.doctor.modules import LISTS
from bpferry.machine.host_files import HOST
from bpferry.qemu import trial
from bpferry.qemu.capabilities import Capabilities, MachineType
from bpferry.qemu.firmware import Descriptor, Mapping_, Target
from bpferry.qemu.trial import Outcome, Verdict
from tests.client.doctor.support import host
from tests.client.support import CAPABILITIES, let_in
from tests.support.people import ALICE, acting_as

WITH_Q35 = msgspec.structs.replace(
    CAPABILITIES, machines={"pc-q35-10.0": MachineType("pc-q35-10.0", alias="q35")}
)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let KVM's device be one that opens."""
    monkeypatch.setattr(trial, "KVM_DEVICE", "/dev/null")


@pytest.mark.usefixtures("opens")
@pytest.mark.parametrize(
    ("verdict", "state", "word"),
    [
        (Verdict(Outcome.WORKS), "ok", "a guest ran its first instructions"),
        (Verdict(Outcome.FAILS, "kaputt"), "fault", "KVM does not work: kaputt"),
        (Verdict(Outcome.UNKNOWN, "busy"), "warning", "could not be tried: busy"),
    ],
)
def test_kvm_is_what_a_guest_makes_of_it(verdict: Verdict, state: str, word: str) -> None:
    """That the device opens proves nothing."""
    [found] = check_kvm(WITH_Q35, lambda _: verdict)

    assert state == found.state
    assert word in found.message


@pytest.mark.usefixtures("opens")
@pytest.mark.parametrize("capabilities", [None, CAPABILITIES])
def test_kvm_that_cannot_be_tried_is_not_called_working(capabilities: Capabilities | None) -> None:
    """Without a QEMU, or without the machine that a trial runs."""
    [found] = check_kvm(capabilities, lambda _: pytest.fail("tried"))

    assert found.state == "warning"
    assert "was not tried" in found.message


def test_kvm_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fault says what the firmware of the host has to offer."""
    monkeypatch.setattr(trial, "KVM_DEVICE", str(tmp_path / "kvm"))
    [found] = check_kvm(WITH_Q35)

    assert found.state == "fault"
    assert "No such file or directory" in found.message
    assert "kvm_intel or kvm_amd" in found.fix


@pytest.mark.privileged
def test_kvm_of_a_group_that_one_is_not_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The group is named, and the command that lets the user in."""
    device = tmp_path / "kvm"
    device.touch(mode=0o660)
    device.chmod(0o660)
    os.chown(device, 0, 1)
    let_in(tmp_path)
    monkeypatch.setattr(trial, "KVM_DEVICE", str(device))
    with acting_as(ALICE):
        [found] = check_kvm(WITH_Q35)

    assert found.state == "fault"
    assert "only members of the group" in found.message
    assert "usermod -aG" in found.fix


def test_vhost_that_is_not_there(tmp_path: Path) -> None:
    """The module is named, and what it costs to be without it."""
    [found] = check_vhost(host(tmp_path, {}), str(tmp_path / "vhost-net"))

    assert found.state == "fault"
    assert "QEMU moves the packets" in found.message
    assert found.command == "sudo modprobe vhost_net"


def test_vhost_that_the_kernel_lacks(tmp_path: Path) -> None:
    """Loading a module that is not there would not help."""
    files = host(
        tmp_path,
        {
            "/proc/sys/kernel/osrelease": "6.1.0",
            **{f"/lib/modules/6.1.0/{name}": "kernel/drivers/net/tun.ko:" for name in LISTS},
        },
    )
    [found] = check_vhost(files, str(tmp_path / "vhost-net"))

    assert (found.state, found.command) == ("fault", "")
    assert "this kernel lacks it: boot" in found.fix


def test_what_is_no_vhost_device_keeps_its_own_words() -> None:
    """Loading the module is the way out of that as well."""
    [found] = check_vhost(HOST, "/dev/null")

    assert "it is not a vhost device" in found.message


@pytest.mark.privileged
def test_vhost_of_a_group_that_one_is_not_in(tmp_path: Path) -> None:
    """The group is named, and the command is the one that lets the user in."""
    device = tmp_path / "vhost-net"
    device.touch()
    device.chmod(0o660)
    os.chown(device, 0, 1)
    let_in(tmp_path)
    with acting_as(ALICE):
        [found] = check_vhost(HOST, str(device))

    assert "only members of the group" in found.message
    assert found.command == ""
    assert found.mended_by.startswith("sudo usermod -aG")


def test_vhost_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for its features."""
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: bytes(8))
    [found] = check_vhost(HOST, "/dev/null")

    assert (found.state, found.fix) == ("ok", "")


def _uefi(*features: str, arch: str = "x86_64") -> Descriptor:
    return Descriptor(
        ("uefi",), Mapping_("flash"), (Target(arch, ("pc-q35-*",)),), frozenset(features)
    )


BIOS = Descriptor(("bios",), Mapping_("memory"), (Target("x86_64"),))


@pytest.mark.parametrize(
    ("installed", "state", "word"),
    [
        ((BIOS, _uefi("secure-boot")), "ok", "with secure boot"),
        ((_uefi(),), "ok", "without secure boot"),
        ((BIOS,), "fault", "no UEFI firmware for x86_64 guests"),
        ((_uefi(arch="aarch64"),), "fault", "no UEFI firmware for x86_64 guests"),
    ],
)
def test_firmware_is_for_an_architecture(
    installed: tuple[Descriptor, ...], state: str, word: str
) -> None:
    """UEFI of another one is of no use."""
    [found] = check_firmware(installed, "x86_64")

    assert state == found.state
    assert word in found.message


@pytest.mark.parametrize(("arch", "package"), [("x86_64", "ovmf"), ("aarch64", "qemu-efi-aarch64")])
def test_firmware_that_is_missing_has_a_package(arch: str, package: str) -> None:
    """The command installs the one of that architecture."""
    [found] = check_firmware((), arch)

    assert found.command == f"sudo apt install {package}"
