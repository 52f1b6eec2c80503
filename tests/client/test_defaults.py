# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a description means that names no QEMU, no machine type and no card, by kind of guest."""

import msgspec
import pytest

from bpferry.domain.model.cards import Card
from bpferry.qemu.defaults import card_model_of, default_qemu, machine_type_of
from tests.client.support import MACHINE
from tests.support.golden import capabilities_of

DEBIAN = capabilities_of("10.0.13")


@pytest.mark.parametrize(
    ("arch", "path"),
    [
        ("x86_64", "/usr/bin/qemu-system-x86_64"),
        ("i686", "/usr/bin/qemu-system-x86_64"),
        ("aarch64", "/usr/bin/qemu-system-aarch64"),
    ],
)
def test_qemu_for_a_kind_of_guest(arch: str, path: str) -> None:
    """Both kinds of PC run on one QEMU."""
    assert path == default_qemu(arch)


@pytest.mark.parametrize(
    ("named", "arch", "expected"),
    [
        ("default", "x86_64", "pc"),
        ("default", "i386", "pc"),
        ("default", "i686", "pc"),
        ("default", "aarch64", "virt"),
        ("q35", "i386", "q35"),
        ("q35", "aarch64", "virt"),
        ("microvm", "x86_64", "microvm"),
    ],
)
def test_machine_type(named: str, arch: str, expected: str) -> None:
    """A QEMU that calls itself i386 has PCs as well as one that calls itself x86_64."""
    machine = msgspec.structs.replace(MACHINE, machine_type=named)

    assert expected == machine_type_of(machine, arch)


@pytest.mark.parametrize(
    ("arch", "model"), [("x86_64", "rtl8139"), ("i386", "rtl8139"), ("aarch64", "virtio")]
)
def test_card_that_nobody_named(arch: str, model: str) -> None:
    """A PC gets the oldest card, by whichever name QEMU calls the PC."""
    known = msgspec.structs.replace(DEBIAN, arch=arch)

    assert model == card_model_of(Card(type="user", model="default"), known)
