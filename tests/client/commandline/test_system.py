# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine as a whole on the command line."""

import json

import pytest

from bpferry.commandline.parts import Device, Environment, Option
from bpferry.domain.identity import derive_uuid
from bpferry.errors import Unsupported
from tests.client.commandline.system_parts import (
    QEMU,
    all_parts,
    context_of,
    of_kind,
    values,
)
from tests.client.refusals import refusal_of
from tests.client.support import OWNER

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def test_smallest() -> None:
    """The options of a machine of which nothing is said."""
    context = context_of()

    assert ["guest=vm,debug-threads=on"] == values(context, "-name")
    assert ["q35,usb=off,acpi=off,dump-guest-core=off,memory-backend=pc.ram"] == values(
        context, "-machine"
    )
    assert ["tcg"] == values(context, "-accel")
    assert ["strict=on"] == values(context, "-boot")
    assert [] == values(context, "-no-shutdown") + values(context, "-no-reboot")


def test_name_with_a_comma() -> None:
    """A comma in a name begins no other option."""
    context = context_of(name="a=1,process=b")

    assert ["guest=a=1,,process=b,debug-threads=on"] == values(context, "-name")


def test_uuid() -> None:
    """The UUID is the document's, or is made of host, user and name."""
    assert [UUID] == values(context_of(f"<uuid>{UUID}</uuid>"), "-uuid")
    assert [derive_uuid(OWNER, "vm")] == values(context_of(), "-uuid")


@pytest.mark.parametrize(
    ("genid", "guid"), [("<genid/>", "auto"), (f"<genid>{UUID}</genid>", UUID)]
)
def test_generation_id(genid: str, guid: str) -> None:
    """A generation id is a device; one without a value is made for each start."""
    assert [device.properties for device in of_kind(context_of(genid), Device)] == [{"guid": guid}]


def test_core_dumps() -> None:
    """The guest's memory is in core dumps only if the document says so."""
    context = context_of(memory="<memory unit='MiB' dumpCore='on'>64</memory>")

    assert "dump-guest-core=on" in (values(context, "-machine")[0] or "")


def test_reboot_that_ends() -> None:
    """A VM that is to end where it would reboot does."""
    assert [None] == values(context_of("<on_reboot>destroy</on_reboot>"), "-no-reboot")


def test_crash_that_stays() -> None:
    """A guest that panicked can be kept for a look."""
    assert ["panic=pause"] == values(context_of("<on_crash>preserve</on_crash>"), "-action")


def test_crash_that_restarts() -> None:
    """QEMU pauses a guest that has panicked, and bpferry resets it; without a device none does."""
    top = "<on_crash>restart</on_crash>"
    panic = "<panic model='isa'/>"

    assert [] == values(context_of(top), "-action")
    assert ["panic=pause"] == values(context_of(top, devices=panic), "-action")
    both = context_of(f"{top}<on_reboot>destroy</on_reboot>", devices=panic)
    refusal = refusal_of(all_parts, both)
    assert refusal.element == "on-crash"
    assert "a reset ends this VM" in refusal.message


def test_crash_that_ends() -> None:
    """QEMU's status tells it from a power-down."""
    context = context_of(devices="<panic model='isa'/>")

    assert ["panic=exit-failure"] == values(context, "-action")


def test_iothreads() -> None:
    """Threads are those of the list and as many more as the number says, under free ids."""
    context = context_of(
        "<iothreads>3</iothreads><iothreadids>"
        "<iothread id='2' thread_pool_min='1' thread_pool_max='4'><poll max='9'/></iothread>"
        "</iothreadids><defaultiothread thread_pool_min='2' thread_pool_max='8'/>"
    )

    found = [json.loads(value or "") for value in values(context, "-object")][1:]

    assert found == [
        {
            "qom-type": "iothread",
            "id": "iothread2",
            "thread-pool-min": 1,
            "thread-pool-max": 4,
            "poll-max-ns": 9,
        },
        {"qom-type": "iothread", "id": "iothread1"},
        {"qom-type": "iothread", "id": "iothread3"},
        {"qom-type": "main-loop", "id": "main-loop", "thread-pool-min": 2, "thread-pool-max": 8},
    ]


def test_own_words() -> None:
    """What the user says to QEMU comes last, as it is."""
    context = context_of(
        "<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='a,b=c'/>"
        "<qemu:env name='BAR' value='x'/></qemu:commandline>"
    )

    assert all_parts(context)[-2:] == [Option("-global"), Option("a,b=c")]
    assert of_kind(context, Environment) == [Environment("BAR", "x")]


@pytest.mark.parametrize(
    ("top", "machine", "arch", "key"),
    [
        ("", "pc-q35-99.0", "x86_64", "machine-type"),
        ("", "q35", "aarch64", "arch"),
        (
            "<iothreadids><iothread id='1'/><iothread id='1'/></iothreadids>",
            "q35",
            "x86_64",
            "iothread-list[1].id",
        ),
    ],
)
def test_refusals(top: str, machine: str, arch: str, key: str) -> None:
    """What this QEMU does not have is refused, with its key."""
    assert refusal_of(all_parts, context_of(top, machine=machine, arch=arch)).element == key


@pytest.mark.parametrize(
    ("machine", "short"),
    [
        ("pc-q35-noble", "q35"),
        ("pc-q35-rhel9.4.0", "q35"),
        ("pc-i440fx-jammy", "pc"),
        ("pc-q35-99.0", "q35"),
    ],
)
def test_machine_of_another_distribution(machine: str, short: str) -> None:
    """The hint has the short name to write, and a whole one that this QEMU has."""
    with pytest.raises(Unsupported) as caught:
        all_parts(context_of(machine=machine))

    assert caught.value.hint.startswith(f"write '{short}', or a type with a version that it has, ")
    assert f"such as '{QEMU.machine_name(short)}'; " in caught.value.hint


def test_machine_of_no_family_that_is_known() -> None:
    """Of other names it is only said where the names are listed."""
    with pytest.raises(Unsupported) as caught:
        all_parts(context_of(machine="spaceship"))

    assert f"'{QEMU.qemu} -machine help' lists those that it has" == caught.value.hint
