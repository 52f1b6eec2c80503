# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host, on the command line."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bpferry.commandline.build import build
from bpferry.commandline.context import Context, Folders, HostNode
from bpferry.commandline.host_devices import build as host_devices
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import (
    Device,
    LockedMemory,
    OpenDevice,
    Option,
    Part,
    Remark,
    Slot,
)
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from bpferry.errors import Unsupported
from tests.client.commandline.sound import sound
from tests.client.support import CAPABILITIES, OWNER

DOCUMENT = """\
<domain type='kvm'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type machine='{machine}'>hvm</type></os>
  {top}
  <devices>{devices}</devices>
</domain>
"""

USB = "<source {attributes}>{inner}</source>"
PLACE = "<address bus='14' device='6'/>"
KIND = "<vendor id='0x1234'/><product id='0xbeef'/>"
PCI = "<address domain='0x0005' bus='0x90' slot='0x01' function='0x2'/>"
UUID = "53764d0e-85a0-42b4-af5c-2046b460b1dc"


def hostdev(kind: str, source: str = "", inner: str = "", attributes: str = "") -> str:
    """Return the XML of a device of the host."""
    return (
        f"<hostdev mode='subsystem' type='{kind}' {attributes}>"
        f"<source>{source}</source>{inner}</hostdev>"
    )


def context_of(
    devices: str, machine: str = "q35", top: str = "", nodes: Sequence[HostNode] = ()
) -> Context:
    """Return the context of a document with *devices*, of which *nodes* are known in order."""
    text = DOCUMENT.format(devices=devices, machine=machine, top=top)
    found = read_bytes(text.encode(), Path("/vms/vm.xml")).machine
    which = [device.which for device in found.host_devices]
    return Context(
        machine=found,
        host_nodes=dict(zip(which, nodes, strict=False)),
        capabilities=CAPABILITIES,
        accelerator=Accelerator.KVM,
        plans={},
        owner=OWNER,
        folders=Folders("/run/vm", "/state/vm"),
        fd=str,
        machine_type=machine,
    )


def parts_of(
    devices: str, machine: str = "q35", top: str = "", nodes: Sequence[HostNode] = ()
) -> list[Part]:
    """Return what a document with *devices* gives."""
    return sound(list(host_devices.parts(context_of(devices, machine, top, nodes))))


def opened(parts: list[Part]) -> list[tuple[str, str]]:
    """Return name and path of what bpferry opens."""
    return [(part.name, part.path) for part in parts if isinstance(part, OpenDevice)]


def device_of(parts: list[Part]) -> tuple[str, dict[str, object], Slot]:
    """Return driver, properties and slot of the one device, without what is None."""
    (found,) = (part for part in parts if isinstance(part, Device))
    kept = {key: value for key, value in found.properties.items() if value is not None}
    return found.driver, kept, found.slot


@pytest.mark.parametrize("source", [PLACE, KIND])
def test_usb_device_comes_by_an_fd(source: str) -> None:
    """Bpferry opens the one that it has found, by its place or by what it is."""
    node = HostNode("/dev/bus/usb/014/006")
    text = hostdev("usb", source, "<boot order='2'/>", "managed='yes'")
    parts = parts_of(text, nodes=[node])

    properties = {"hostdevice": "/dev/fdset/1000", "bootindex": 2}
    assert ("usb-host", properties, Slot.USB) == device_of(parts)
    assert [("hostdev0.usb", "/dev/bus/usb/014/006")] == opened(parts)
    assert Option("-add-fd", "set=1000,fd=hostdev0.usb,opaque=hostdev0.usb") in parts


def test_usb_devices_have_sets_of_their_own() -> None:
    """Each is found by its own number."""
    parts = parts_of(hostdev("usb", PLACE) + hostdev("usb", KIND))

    assert ["/dev/fdset/1000", "/dev/fdset/1001"] == [
        part.properties["hostdevice"] for part in parts if isinstance(part, Device)
    ]


ABSENT = HostNode(problem="the host has none", is_absent=True)


def test_optional_usb_device_that_is_absent_is_left_out() -> None:
    """QEMU would take any device of the host in its place; the user is told."""
    source = f"<source startupPolicy='optional'>{KIND}</source>"
    parts = parts_of(f"<hostdev mode='subsystem' type='usb'>{source}</hostdev>", nodes=[ABSENT])

    assert [Remark("the guest goes without it: the host has none", "", "host-devices[0]")] == parts


def test_needed_usb_device_that_is_absent_stays_on_the_command_line() -> None:
    """A dry run shows what would be started, and says beside it what is missing."""
    assert "usb-host" == device_of(parts_of(hostdev("usb", KIND), nodes=[ABSENT]))[0]


@pytest.mark.parametrize(
    ("word", "properties"),
    [
        ("off", {"guest-reset": False}),
        ("uninitialized", {"guest-reset": True, "guest-resets-all": False}),
        ("on", {"guest-reset": True, "guest-resets-all": True}),
    ],
)
def test_reset_of_a_usb_device(word: str, properties: dict[str, bool]) -> None:
    """Whether the guest may reset it is two properties of QEMU's."""
    source = f"<source guestReset='{word}'>{KIND}</source>"
    text = f"<hostdev mode='subsystem' type='usb'>{source}</hostdev>"

    assert properties.items() <= device_of(parts_of(text))[1].items()


def test_controller_for_a_usb_device() -> None:
    """A machine that has none otherwise gets one."""
    devices = complete(context_of(hostdev("usb", KIND), "virt")).machine.controllers

    assert any(one.type == "usb" for one in devices)


def test_pci_device() -> None:
    """It is named by its place; where the guest has it is a place like any other."""
    inner = "<driver name='vfio'/><rom bar='off' file='/x.rom'/><boot order='1'/>"
    parts = parts_of(hostdev("pci", PCI, inner))
    properties = {"host": "0005:90:01.2", "bootindex": 1, "rombar": 0, "romfile": "/x.rom"}

    assert ("vfio-pci", properties, Slot.EXPRESS) == device_of(parts)
    assert [] == opened(parts)


@pytest.mark.parametrize("source", [("pci", PCI), ("mdev", f"<address uuid='{UUID}'/>")])
def test_device_by_iommufd(source: tuple[str, str]) -> None:
    """QEMU gets two fds, and no name."""
    node = HostNode("/dev/vfio/devices/vfio3", by_iommufd=True)
    parts = parts_of(hostdev(*source), nodes=[node])

    _, properties, _ = device_of(parts)
    assert {"iommufd": "iommufd0", "fd": "hostdev0.vfio"} == properties
    assert [
        ("hostdev0.vfio", "/dev/vfio/devices/vfio3"),
        ("iommufd0", "/dev/iommu"),
    ] == opened(parts)
    described = '{"qom-type":"iommufd","id":"iommufd0","fd":"iommufd0"}'
    assert Option("-object", described) in parts


MIB, GIB = 2**20, 2**30
MDEV = hostdev("mdev", f"<address uuid='{UUID}'/>")
LOCKED = [
    ("", hostdev("pci", PCI), 64 * MIB),
    ("<maxMemory slots='2' unit='MiB'>512</maxMemory>", hostdev("pci", PCI), 512 * MIB),
    ("", hostdev("pci", PCI) + MDEV, 64 * MIB),
    ("", hostdev("pci", PCI) + MDEV + "<iommu model='virtio'/>", 128 * MIB),
]


@pytest.mark.parametrize(("top", "devices", "size"), LOCKED)
def test_memory_is_locked(top: str, devices: str, size: int) -> None:
    """All that the guest can have, once for each device behind an IOMMU, and what libvirt adds."""
    assert [LockedMemory(size + GIB, "host-devices[0]")] == [
        part for part in parts_of(devices, top=top) if isinstance(part, LockedMemory)
    ]


def test_usb_needs_no_locked_memory() -> None:
    """QEMU is between the device and the guest's memory."""
    assert not any(isinstance(part, LockedMemory) for part in parts_of(hostdev("usb", KIND)))


@pytest.mark.parametrize(
    "text", [hostdev("pci", PCI) + hostdev("pci", PCI, attributes="managed='yes'"), MDEV + MDEV]
)
def test_a_device_is_given_once(text: str) -> None:
    """Two of them would be one."""
    with pytest.raises(Unsupported) as caught:
        parts_of(text)

    assert "host-devices[1]" == caught.value.element


def test_usb_device_is_given_once() -> None:
    """Also where it is named in two ways."""
    node = HostNode("/dev/bus/usb/014/006")
    with pytest.raises(Unsupported) as caught:
        parts_of(hostdev("usb", PLACE) + hostdev("usb", KIND), nodes=[node, node])

    assert "host-devices[1]" == caught.value.element


def test_only_devices_of_the_host_can_be_kept_from_the_guest() -> None:
    """Another device is there for the guest alone."""
    built = build(context_of("<sound model='ich6'><address type='unassigned'/></sound>"))

    assert "sounds[0].address" in [refusal.error.element for refusal in built.refusals]


@pytest.mark.parametrize(
    ("attributes", "driver", "properties"),
    [
        ("", "vfio-pci", {}),
        ("display='on' ramfb='off'", "vfio-pci", {"display": "on"}),
        ("display='on' ramfb='on'", "vfio-pci-nohotplug", {"display": "on", "ramfb": True}),
    ],
)
@pytest.mark.parametrize("kind", ["pci", "mdev"])
def test_graphics_device(
    kind: str, attributes: str, driver: str, properties: dict[str, object]
) -> None:
    """What is shown of it is said, also before the guest has a driver."""
    source = PCI if kind == "pci" else f"<address uuid='{UUID}'/>"
    viewer = "<graphics type='vnc'/>"
    found = device_of(parts_of(hostdev(kind, source, attributes=attributes) + viewer))

    path = f"/sys/bus/mdev/devices/{UUID}"
    where = {"host": "0005:90:01.2"} if kind == "pci" else {"sysfsdev": path}
    assert (driver, where | properties, Slot.EXPRESS) == found


def test_device_that_stands_in_for_a_card() -> None:
    """The guest uses it in place of a virtio card, which is named by its alias."""
    card = (
        "<interface type='user'><model type='virtio'/><alias name='ua-b'/>"
        "<teaming type='persistent'/></interface>"
    )
    team = "<teaming type='transient' persistent='ua-b'/>"

    found = device_of(parts_of(card + hostdev("pci", PCI, team)))[1]
    assert "ua-b" == found["failover_pair_id"]
    with pytest.raises(Unsupported) as caught:
        parts_of(hostdev("pci", PCI, team))
    assert caught.value.element == "host-devices[0].stands-in-for"


@pytest.mark.parametrize(
    ("model", "driver"),
    [
        ("", "vhost-scsi-pci"),
        ("model='virtio-transitional'", "vhost-scsi-pci-transitional"),
    ],
)
def test_target_of_the_kernel(model: str, driver: str) -> None:
    """Its node is opened by bpferry, and QEMU inherits it."""
    source = "<source protocol='vhost' wwpn='naa.5123456789abcde0'/>"
    parts = parts_of(f"<hostdev mode='subsystem' type='scsi_host' {model}>{source}</hostdev>")
    name = "hostdev0.vhost"

    assert OpenDevice(name, "/dev/vhost-scsi", "host-devices[0]") in parts
    assert (driver, {"wwpn": "naa.5123456789abcde0", "vhostfd": name}) == device_of(parts)[:2]


def test_device_that_the_guest_does_not_get() -> None:
    """It stays on the host, and nothing is said of it."""
    assert [] == parts_of(hostdev("pci", PCI, "<address type='unassigned'/>"))


@pytest.mark.parametrize(
    ("devices", "machine", "field"),
    [
        (hostdev("usb"), "q35", ""),
        (hostdev("usb", "<vendor id='1'/>"), "q35", ""),
        (hostdev("usb", "<address bus='1'/>"), "q35", ".at"),
        (hostdev("usb", "<address bus='1' device='2' slot='3'/>"), "q35", ".at"),
        (hostdev("usb", PLACE, "<address type='pci' slot='3'/>"), "q35", ".address"),
        (hostdev("usb", PLACE, attributes="display='on'"), "q35", ".display"),
        (hostdev("pci"), "q35", ".at"),
        (hostdev("pci", KIND), "q35", ".vendor"),
        (hostdev("pci", "<address bus='256' slot='1'/>"), "q35", ".at"),
        (hostdev("pci", PCI), "microvm", ""),
        (hostdev("pci", PCI, attributes="ramfb='on'"), "q35", ".boot-display"),
        (hostdev("pci", PCI, attributes="display='on'"), "q35", ".display"),
        (hostdev("pci", PCI, "<rom enabled='no' bar='on'/>"), "q35", ".rom"),
        (hostdev("pci", PCI, "<teaming persistent='ua-b'/>"), "q35", ".stands-in-for"),
        (hostdev("mdev", PCI), "q35", ".at"),
        (
            hostdev("mdev", f"<address uuid='{UUID}'/>", attributes="model='virtio'"),
            "q35",
            ".model",
        ),
        (hostdev("scsi_host"), "q35", ".wwpn"),
        (hostdev("mdev", f"<address uuid='{UUID}'/>", "<rom bar='off'/>"), "q35", ".rom-bar"),
    ],
)
def test_refusals(devices: str, machine: str, field: str) -> None:
    """What is not said, or means nothing for the type, is refused."""
    with pytest.raises(Unsupported) as caught:
        parts_of(devices, machine)

    assert f"host-devices[0]{field}" == caught.value.element
