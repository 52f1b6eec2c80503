# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line, by table."""

import json
from dataclasses import replace

import pytest

from bpferry.domain.model import Accelerator, Disk, DiskFormat, Machine
from bpferry.errors import NoHelper
from bpferry.qemu.commandline import build_commandline, fd_names
from bpferry.steering.plan import CardPlan, Granted, HelperAnswer, plan_card
from tests.client.support import CAPABILITIES, CARD, MACHINE

EBPF = Granted.YES
FALLEN = NoHelper("nobody")


def plans(machine: Machine, answer: HelperAnswer = EBPF) -> dict[str, CardPlan]:
    """Plan each card of *machine*."""
    return {card.id: plan_card(card, CAPABILITIES, answer) for card in machine.cards}


def build(machine: Machine, answer: HelperAnswer = EBPF) -> tuple[str, ...]:
    """Return the command line of *machine* with fds by their names."""
    cards = plans(machine, answer)
    names = {name: name for name in fd_names(machine, cards)}
    return build_commandline(machine, CAPABILITIES, Accelerator.TCG, cards, names)


def values(argv: tuple[str, ...], option: str) -> list[str]:
    """Return the values of *option*."""
    return [argv[place + 1] for place, word in enumerate(argv) if word == option]


def test_smallest_machine() -> None:
    """The command line of a VM that has nothing but its console."""
    assert build(MACHINE) == (
        "/usr/bin/qemu-system-x86_64",
        "-name", "guest=test",
        "-no-user-config",
        "-nodefaults",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine", "q35",
        "-accel", "tcg",
        "-cpu", "max",
        "-smp", "cpus=1",
        "-m", "32M",
        "-display", "none",
        "-chardev", "socket,id=qmp,fd=qmp",
        "-mon", "chardev=qmp,mode=control",
        "-chardev", "socket,id=serial0,fd=serial",
        "-serial", "chardev:serial0",
    )  # fmt: skip


def test_no_console() -> None:
    """Without a console there is no chardev for one, and no fd."""
    machine = replace(MACHINE, serial=False)

    assert values(build(machine), "-serial") == []
    assert fd_names(machine, {}) == ("qmp",)


def test_kernel_and_its_words_stand_alone() -> None:
    """Commas and quotes of paths and command lines mean nothing to QEMU."""
    machine = replace(MACHINE, kernel="/a,b", initrd="/c,d", command_line='x=",y" -z')

    argv = build(machine)

    assert values(argv, "-kernel") == ["/a,b"]
    assert values(argv, "-initrd") == ["/c,d"]
    assert values(argv, "-append") == ['x=",y" -z']


def test_disk_is_json() -> None:
    """A disk's path goes into JSON, where it can begin no other option."""
    disk = Disk('/a,"b', DiskFormat.RAW, read_only=True)

    argv = build(replace(MACHINE, disks=(disk,)))

    assert [json.loads(value) for value in values(argv, "-blockdev")] == [
        {
            "driver": "raw",
            "node-name": "disk0",
            "read-only": True,
            "file": {"driver": "file", "filename": '/a,"b'},
        }
    ]
    assert [json.loads(value)["drive"] for value in values(argv, "-device")] == ["disk0"]


def test_card_with_ebpf() -> None:
    """A card that eBPF steers gets its queues, RSS, and four fds in QEMU's order."""
    argv = build(replace(MACHINE, cards=(CARD,)))

    assert [json.loads(value) for value in values(argv, "-netdev")] == [
        {
            "type": "tap",
            "id": "host-net0",
            "fds": "net0.tap0:net0.tap1:net0.tap2:net0.tap3",
            "vhost": False,
        }
    ]
    assert [json.loads(value) for value in values(argv, "-device")] == [
        {
            "driver": "virtio-net-pci",
            "id": "net0",
            "netdev": "host-net0",
            "mac": "52:54:00:00:00:01",
            "mq": True,
            "vectors": 10,
            "rss": True,
            "ebpf-rss-fds": ["net0.program", "net0.config", "net0.key", "net0.table"],
        }
    ]


def test_card_without_helper() -> None:
    """A card that QEMU steers offers RSS and has no eBPF fds."""
    machine = replace(MACHINE, cards=(CARD,))

    device = json.loads(values(build(machine, FALLEN), "-device")[0])

    assert device["rss"]
    assert "ebpf-rss-fds" not in device
    assert "net0.program" not in fd_names(machine, plans(machine, FALLEN))


def test_single_queue_card() -> None:
    """A card with one queue says nothing of queues and RSS."""
    card = replace(CARD, queues=1, rss=False)

    argv = build(replace(MACHINE, cards=(card,)))

    assert json.loads(values(argv, "-netdev")[0])["fds"] == "net0.tap0"
    assert {"driver", "id", "netdev", "mac"} == set(json.loads(values(argv, "-device")[0]))


def test_numbers_take_the_place_of_names() -> None:
    """The same function gives the real command line: each name by its number."""
    machine = replace(MACHINE, cards=(CARD,))
    cards = plans(machine)
    numbers = {name: str(100 + place) for place, name in enumerate(fd_names(machine, cards))}

    argv = build_commandline(machine, CAPABILITIES, Accelerator.TCG, cards, numbers)

    assert json.loads(values(argv, "-netdev")[0])["fds"] == "102:103:104:105"
    device = json.loads(values(argv, "-device")[0])
    assert device["ebpf-rss-fds"] == ["106", "107", "108", "109"]


def test_two_cards_have_their_own_fds() -> None:
    """No fd is used twice."""
    machine = replace(MACHINE, cards=(CARD, replace(CARD, id="net1", tap="tap1")))
    names = fd_names(machine, plans(machine))

    assert len(names) == len(set(names)) == 2 + 2 * (4 + 4)


@pytest.mark.parametrize(
    ("accelerator", "processor"), [(Accelerator.KVM, "host"), (Accelerator.TCG, "max")]
)
def test_processor_follows_the_accelerator(accelerator: Accelerator, processor: str) -> None:
    """Each accelerator gives the fullest processor that it can."""
    argv = build_commandline(
        MACHINE, CAPABILITIES, accelerator, {}, {"qmp": "qmp", "serial": "serial"}
    )

    assert [processor] == values(argv, "-cpu")


def test_qemu_without_a_sandbox() -> None:
    """A QEMU that knows no -sandbox is not given one, and one that ends with us is told to."""
    capabilities = replace(CAPABILITIES, sandbox=False, exit_with_parent=True)

    argv = build_commandline(
        MACHINE, capabilities, Accelerator.TCG, {}, {"qmp": "qmp", "serial": "serial"}
    )

    assert values(argv, "-sandbox") == []
    assert values(argv, "-run-with") == ["exit-with-parent=on"]
