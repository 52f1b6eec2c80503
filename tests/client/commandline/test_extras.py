# SPDX-License-Identifier: LGPL-2.1-or-later
"""Balloon, random numbers, watchdogs, panic devices, crypto, and the guest's last words."""

import pytest

from bpferry.commandline.parts import Command, Device, Folder, Slot
from tests.client.commandline.extra_parts import (
    ACPI,
    FOLDERS,
    devices_in,
    options,
    parts_of,
    values,
)
from tests.client.refusals import refusal_of

MAX_ADDRESS = "<address type='pci' domain='0' bus='0' slot='5' function='0'/>"


@pytest.mark.parametrize(
    ("balloon", "expected"),
    [
        ("<memballoon model='virtio'/>", ("virtio-balloon-pci", "balloon0", {})),
        (
            "<memballoon model='virtio-transitional'/>",
            ("virtio-balloon-pci-transitional", "balloon0", {}),
        ),
        (
            "<memballoon model='virtio-non-transitional'/>",
            ("virtio-balloon-pci-non-transitional", "balloon0", {}),
        ),
        (
            (
                "<memballoon model='virtio' autodeflate='on' freePageReporting='off'>"
                "<alias name='ua-b'/><driver iommu='on' ats='off' packed='on' page_per_vq='on'/>"
                "</memballoon>"
            ),
            (
                "virtio-balloon-pci",
                "ua-b",
                {
                    "deflate-on-oom": True,
                    "free-page-reporting": False,
                    "iommu_platform": True,
                    "ats": False,
                    "packed": True,
                    "page-per-vq": True,
                },
            ),
        ),
    ],
)
def test_balloon(balloon: str, expected: tuple[str, str, dict[str, object]]) -> None:
    """A balloon is a virtio device with its switches."""
    assert [expected] == devices_in(parts_of(balloon))


@pytest.mark.parametrize(
    ("model", "slot"),
    [
        ("virtio", Slot.EXPRESS),
        ("virtio-transitional", Slot.CONVENTIONAL),
        ("virtio-non-transitional", Slot.EXPRESS),
    ],
)
def test_place_of_old_devices(model: str, slot: Slot) -> None:
    """What speaks the old protocol as well is on conventional PCI."""
    balloon = f"<memballoon model='{model}'/>"
    rng = f"<rng model='{model}'><backend model='builtin'/></rng>"
    folder = f"<filesystem model='{model}'><source dir='/a'/><target dir='t'/></filesystem>"

    parts = parts_of(balloon + rng + folder)

    assert [slot] * 3 == [part.slot for part in parts if isinstance(part, Device)]


def test_no_balloon() -> None:
    """The model none is not a device; an address there is ignored, as in libvirt."""
    assert [] == devices_in(parts_of(f"<memballoon model='none'>{MAX_ADDRESS}</memballoon>"))


def test_a_balloon_that_is_none_has_no_switches() -> None:
    """What would have no effect is refused."""
    refusal = refusal_of(parts_of, "<memballoon model='none' autodeflate='on'/>")
    assert "balloon.auto-deflate" == refusal.element


def test_balloon_statistics() -> None:
    """QEMU is told over QMP how often to ask the guest."""
    parts = parts_of("<memballoon model='virtio'><stats period='10'/></memballoon>")

    assert [
        {
            "path": "/machine/peripheral/balloon0",
            "property": "guest-stats-polling-interval",
            "value": 10,
        }
    ] == [part.arguments for part in parts if isinstance(part, Command)]


@pytest.mark.parametrize(
    ("backend", "behind"),
    [
        (
            "<backend model='random'/>",
            '{"qom-type":"rng-random","id":"objrng0","filename":"/dev/random"}',
        ),
        (
            "<backend model='random'>/dev/urandom</backend>",
            '{"qom-type":"rng-random","id":"objrng0","filename":"/dev/urandom"}',
        ),
        ("<backend model='builtin'/>", '{"qom-type":"rng-builtin","id":"objrng0"}'),
        (
            "<backend model='egd' type='unix'><source mode='connect' path='/a,b'/></backend>",
            '{"qom-type":"rng-egd","id":"objrng0","chardev":"charrng0"}',
        ),
    ],
)
def test_random_numbers(backend: str, behind: str) -> None:
    """Each back end is an object, and the device refers to it."""
    parts = parts_of(f"<rng model='virtio'>{backend}</rng>")

    assert [behind] == values(parts, "-object")
    assert [("virtio-rng-pci", "rng0", {"rng": "objrng0"})] == devices_in(parts)


@pytest.mark.parametrize(
    ("backend", "chardev"),
    [
        (
            "type='unix'><source mode='connect' path='/a,b'/>",
            "socket,id=charrng0,path=/a,,b",
        ),
        (
            (
                "type='tcp'><source mode='connect' host='1.2.3.4' service='1234'/>"
                "<protocol type='raw'/>"
            ),
            "socket,id=charrng0,host=1.2.3.4,port=1234",
        ),
        (
            (
                "type='udp'><source mode='bind' host='::' service='5'/>"
                "<source mode='connect' host='h' service='6'/>"
            ),
            "udp,id=charrng0,host=h,port=6,localaddr=::,localport=5",
        ),
        (
            "type='unix'><source mode='bind' path='/s'/>",
            "socket,id=charrng0,fd=rng0.listen,server=on,wait=off",
        ),
    ],
)
def test_daemon_for_random_numbers(backend: str, chardev: str) -> None:
    """An entropy gathering daemon is reached by a character device, which comes first."""
    parts = parts_of(f"<rng model='virtio'><backend model='egd' {backend}</backend></rng>", "pc")

    assert [("-chardev", chardev)] == options(parts)[:1]
    assert ["-chardev", "-object"] == [name for name, _ in options(parts)]


def test_rate_of_random_numbers() -> None:
    """A rate is bytes in a period, which is a second unless it is said."""
    rng = "<rng model='virtio'><backend model='random'/><rate bytes='{}'/></rng>"
    parts = parts_of(rng.format("1234' period='2000") + rng.format("12"))

    assert [
        {"rng": "objrng0", "max-bytes": 1234, "period": 2000},
        {"rng": "objrng1", "max-bytes": 12, "period": 1000},
    ] == [properties for _, _, properties in devices_in(parts)]


@pytest.mark.parametrize(
    ("backend", "key"),
    [
        ("<backend model='builtin'>/dev/random</backend>", "rngs[0].file"),
        ("<backend model='random' type='unix'/>", "rngs[0].type"),
        ("<backend model='random'><source path='/x'/></backend>", "rngs[0].sources"),
        ("<backend model='egd'/>", "rngs[0]"),
        ("<backend model='egd' type='stdio'/>", "rngs[0].type"),
        ("<backend model='egd' type='file'><source path='/x'/></backend>", "rngs[0].type"),
    ],
)
def test_random_numbers_that_cannot_be(backend: str, key: str) -> None:
    """What belongs to another back end, or has nobody at its other end, is refused."""
    assert key == refusal_of(parts_of, f"<rng model='virtio'>{backend}</rng>").element


NO_REBOOT = ("-global", "ICH9-LPC.noreboot=off")


@pytest.mark.parametrize(
    ("watchdogs", "machine", "devices", "others"),
    [
        ("", "q35", [], [NO_REBOOT, ("-watchdog-action", "reset")]),
        ("", "pc", [], []),
        (
            "<watchdog model='itco' action='pause'/>",
            "q35",
            [],
            [NO_REBOOT, ("-watchdog-action", "pause")],
        ),
        (
            "<watchdog model='ib700' action='inject-nmi'/>",
            "pc",
            [("ib700", "watchdog0", {})],
            [("-watchdog-action", "inject-nmi")],
        ),
        (
            "<watchdog model='i6300esb' action='none'/><watchdog model='itco' action='none'/>",
            "q35",
            [("i6300esb", "watchdog0", {})],
            [NO_REBOOT, ("-watchdog-action", "none")],
        ),
    ],
)
def test_watchdogs(
    watchdogs: str,
    machine: str,
    devices: list[tuple[str, str, dict[str, object]]],
    others: list[tuple[str, str]],
) -> None:
    """One action for all; the timer of q35 is always there, and may do what it is for."""
    parts = parts_of(watchdogs, machine)

    assert (devices, others) == (devices_in(parts), options(parts))


@pytest.mark.parametrize(
    ("watchdogs", "machine", "key"),
    [
        ("<watchdog model='itco'/>", "pc", "watchdogs[0].model"),
        ("<watchdog model='ib700'/>", "q35", "watchdogs[0].model"),
        (f"<watchdog model='ib700'>{MAX_ADDRESS}</watchdog>", "pc", "watchdogs[0].address"),
        (
            "<watchdog model='itco'/><watchdog model='i6300esb' action='pause'/>",
            "q35",
            "watchdogs[1].action",
        ),
    ],
)
def test_watchdogs_that_cannot_be(watchdogs: str, machine: str, key: str) -> None:
    """A watchdog where its bus is not, or with an action of its own, is refused."""
    assert key == refusal_of(parts_of, watchdogs, machine).element


@pytest.mark.parametrize(
    ("panic", "machine", "expected"),
    [
        ("<panic/>", "pc", [("pvpanic", "panic0", {})]),
        ("<panic/>", "virt", [("pvpanic-pci", "panic0", {})]),
        (
            "<panic model='isa'><address type='isa' iobase='0x506'/></panic>",
            "q35",
            [("pvpanic", "panic0", {"ioport": 0x506})],
        ),
        (
            "<panic model='hyperv'/><panic model='pvpanic'/>",
            "q35",
            [("pvpanic-pci", "panic1", {})],
        ),
    ],
)
def test_panic_devices(
    panic: str, machine: str, expected: list[tuple[str, str, dict[str, object]]]
) -> None:
    """A panic device is on ISA or PCI; Hyper-V's is a part of the processor."""
    assert expected == devices_in(parts_of(panic, machine))


@pytest.mark.parametrize(
    ("panic", "machine", "key"),
    [
        ("<panic/><panic model='isa'/>", "pc", "panics[1]"),
        ("<panic model='isa'/>", "virt", "panics[0].model"),
        ("<panic model='hyperv'><address type='isa' iobase='5'/></panic>", "pc",
         "panics[0].address"),
        ("<panic><address type='isa' irq='5'/></panic>", "pc", "panics[0].address.irq"),
    ],
)  # fmt: skip
def test_panic_devices_that_cannot_be(panic: str, machine: str, key: str) -> None:
    """Two of a kind, and one where its bus is not, are refused."""
    assert key == refusal_of(parts_of, panic, machine).element


def test_crypto_devices() -> None:
    """Each has a back end of its own."""
    crypto = "<crypto model='virtio' type='qemu'><backend model='builtin'{}/></crypto>"
    parts = parts_of(crypto.format("") + crypto.format(" queues='1'"), "pc")

    assert [
        '{"qom-type":"cryptodev-backend-builtin","id":"objcrypto0"}',
        '{"qom-type":"cryptodev-backend-builtin","id":"objcrypto1","queues":1}',
    ] == values(parts, "-object")
    assert [
        ("virtio-crypto-pci", "crypto0", {"cryptodev": "objcrypto0"}),
        ("virtio-crypto-pci", "crypto1", {"cryptodev": "objcrypto1"}),
    ] == devices_in(parts)


def test_crypto_device_with_queues() -> None:
    """QEMU ends where its builtin back end is to have several (cryptodev-builtin.c)."""
    crypto = "<crypto model='virtio' type='qemu'><backend model='builtin' queues='2'/></crypto>"

    assert "cryptos[0].queues" == refusal_of(parts_of, crypto).element


PSTORE = "<pstore backend='acpi-erst'>{}<size unit='KiB'>{}</size></pstore>"


def test_pstore() -> None:
    """The guest's last words are in a file of the VM unless another one is named."""
    parts = parts_of(PSTORE.format("", 16), "pc", ACPI)

    assert [
        (
            '{"qom-type":"memory-backend-file","id":"mempstore0",'
            f'"mem-path":"{FOLDERS.state}/pstore.raw","size":16384,"share":true}}'
        )
    ] == values(parts, "-object")
    assert [("acpi-erst", "pstore0", {"memdev": "mempstore0"})] == devices_in(parts)
    assert [Folder(FOLDERS.state, "pstore")] == [p for p in parts if isinstance(p, Folder)]


def test_pstore_of_the_user() -> None:
    """The folder of a file that the document names is the user's."""
    parts = parts_of(PSTORE.format("<path>/a,b</path>", 64), "pc", ACPI)

    (behind,) = values(parts, "-object")
    assert behind is not None
    assert '"mem-path":"/a,b"' in behind
    assert [] == [part for part in parts if isinstance(part, Folder)]


@pytest.mark.parametrize(
    ("size", "machine", "top", "key"),
    [
        (16, "pc", "", "pstore"),
        (16, "virt", ACPI, "pstore"),
        (20, "pc", ACPI, "pstore.size"),
        (8, "pc", ACPI, "pstore.size"),
    ],
)
def test_pstore_that_cannot_be(size: int, machine: str, top: str, key: str) -> None:
    """It needs ACPI and room for whole records."""
    assert key == refusal_of(parts_of, PSTORE.format("", size), machine, top).element
