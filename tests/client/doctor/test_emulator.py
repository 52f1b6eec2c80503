# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about QEMUs."""

import msgspec
import pytest

from bpferry.errors import NoProgram, QemuError
from bpferry.machine.doctor.emulator import ask, check_qemu
from bpferry.machine.doctor.finding import Finding
from bpferry.qemu.capabilities import Capabilities
from tests.client.doctor.support import named
from tests.client.support import CAPABILITIES, QEMU, without

NEWEST = msgspec.structs.replace(CAPABILITIES, version=(11, 1, 3))


def about(capabilities: Capabilities) -> list[Finding]:
    """Return what is said about the QEMU with *capabilities*."""
    return list(check_qemu(capabilities.qemu, capabilities))


def test_a_qemu_with_all_of_it_is_ok() -> None:
    """10.0 has eBPF, and eBPF with vhost."""
    found = about(CAPABILITIES)

    assert {"ok"} == {one.state for one in found}
    assert ["qemu.answers", "qemu.sandbox", "qemu.ebpf", "qemu.ebpf-with-vhost"] == [
        one.name for one in found
    ]


def test_a_qemu_that_has_one_or_the_other_is_a_warning() -> None:
    """The words are those of the quirk, by which cards are planned."""
    found = named(about(NEWEST), "qemu.ebpf-with-vhost")

    assert found.state == "warning"
    assert "10.1 and newer ignores the eBPF program of a card with vhost" in found.message
    assert "docs/quirks.md" in found.fix


@pytest.mark.parametrize(
    ("capabilities", "word"),
    [
        (msgspec.structs.replace(CAPABILITIES, objects={}), "hands out no eBPF object 'rss'"),
        (without(CAPABILITIES, "ebpf-rss-fds"), "has no property 'ebpf-rss-fds'"),
        (without(CAPABILITIES, "rss"), "has no RSS"),
    ],
)
def test_a_qemu_without_ebpf_is_a_fault(capabilities: Capabilities, word: str) -> None:
    """With what it lacks, and with one that has it; whether with vhost is not a question then."""
    found = about(capabilities)

    assert named(found, "qemu.ebpf").state == "fault"
    assert word in named(found, "qemu.ebpf").message
    assert "9.0" in named(found, "qemu.ebpf").fix
    assert "qemu.ebpf-with-vhost" not in [one.name for one in found]


def test_what_is_only_to_be_known_is_no_obstacle() -> None:
    """9.1 goes on without eBPF where it cannot use it, and so it is watched."""
    found = about(msgspec.structs.replace(CAPABILITIES, version=(9, 1, 0)))

    assert named(found, "qemu.soft-failure").state == "ok"
    assert named(found, "qemu.ebpf").state == "ok"
    assert named(found, "qemu.ebpf-with-vhost").state == "ok"


def test_a_qemu_without_a_sandbox_is_a_warning() -> None:
    """It runs, less safely."""
    found = named(about(msgspec.structs.replace(CAPABILITIES, options={})), "qemu.sandbox")

    assert found.state == "warning"


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/nowhere/qemu-system-x86_64", "sudo apt install qemu-system-x86"),
        ("/nowhere/qemu-system-aarch64", "sudo apt install qemu-system-arm"),
        ("/nowhere/my-qemu", ""),
    ],
)
def test_a_qemu_that_is_not_there_has_a_package(path: str, command: str) -> None:
    """The command installs it, if it is one that we know."""
    answer = ask(path)
    [found] = check_qemu(path, answer)

    assert isinstance(answer, NoProgram)
    assert ("fault", command) == (found.state, found.command)


def test_a_qemu_that_fails_is_not_installed_again() -> None:
    """It is there; its own words are told."""
    [found] = check_qemu("/bin/true", QemuError("it ended at once", "look at it"))

    assert ("fault", "look at it", "") == (found.state, found.fix, found.command)


@pytest.mark.qemu
def test_the_installed_qemu_is_asked() -> None:
    """It answers with its version."""
    answer = ask(QEMU)

    assert isinstance(answer, Capabilities)
    assert f"'{QEMU}' is QEMU {answer.version_text}" in about(answer)[0].message
