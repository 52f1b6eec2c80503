# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices of the host, on the command line."""

from pathlib import Path

import pytest

from bpferry.commandline.context import Context, Folders
from bpferry.commandline.host_devices import build as host_devices
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import Device, HostUsb, HostVfio, OpenDevice, Part, Slot
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


def context_of(devices: str, machine: str = "q35") -> Context:
    """Return the context of a document with *devices*."""
    text = DOCUMENT.format(devices=devices, machine=machine)
    return Context(
        machine=read_bytes(text.encode(), Path("/vms/vm.xml")).machine,
        capabilities=CAPABILITIES,
        accelerator=Accelerator.KVM,
        plans={},
        owner=OWNER,
        folders=Folders("/run/vm", "/state/vm"),
        fd=str,
        machine_type=machine,
    )


def parts_of(devices: str, machine: str = "q35") -> list[Part]:
    """Return what a document with *devices* gives."""
    return sound(list(host_devices.parts(context_of(devices, machine))))


def device_of(parts: list[Part]) -> tuple[str, dict[str, object], Slot]:
    """Return driver, properties and slot of the one device, without what is None."""
    (found,) = (part for part in parts if isinstance(part, Device))
    kept = {key: value for key, value in found.properties.items() if value is not None}
    return found.driver, kept, found.slot


def test_usb_device_by_its_place() -> None:
    """It is the device that is plugged in there now."""
    parts = parts_of(hostdev("usb", PLACE, "<boot order='2'/>", "managed='yes'"))
    node = "/dev/bus/usb/014/006"

    assert ("usb-host", {"hostdevice": node, "bootindex": 2}, Slot.USB) == device_of(parts)
    assert HostUsb("host-devices[0]", node, None, None, optional=False) in parts


def test_usb_device_by_what_it_is() -> None:
    """QEMU finds it, wherever it is plugged in."""
    parts = parts_of(hostdev("usb", KIND))

    assert ("usb-host", {"vendorid": 0x1234, "productid": 0xBEEF}, Slot.USB) == device_of(parts)
    assert HostUsb("host-devices[0]", None, 0x1234, 0xBEEF, optional=False) in parts


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
    path = "/sys/bus/pci/devices/0005:90:01.2"
    assert HostVfio("host-devices[0]", path, pci=True) in parts


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
    found = device_of(parts_of(hostdev(kind, source, attributes=attributes)))

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
