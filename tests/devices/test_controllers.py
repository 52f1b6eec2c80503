# SPDX-License-Identifier: LGPL-2.1-or-later
"""Controllers in a real QEMU: those of the document, and those that its devices bring with them."""

from pathlib import Path
from typing import cast

import pytest

from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu

IOH3420 = (
    "<controller type='pci' index='1' model='pcie-root-port'><model name='ioh3420'/></controller>"
)

KINDS = [
    ("pc", "<controller type='scsi' model='lsilogic'/>", "scsi0", "lsi53c895a"),
    ("pc", "<controller type='scsi' model='auto'/>", "scsi0", "lsi53c895a"),
    ("q35", "<controller type='scsi' model='virtio-scsi'/>", "scsi0", "virtio-scsi-pci"),
    ("q35", "<controller type='scsi' model='virtio-transitional'/>", "scsi0",
     "virtio-scsi-pci-transitional"),
    ("q35", "<controller type='sata' index='1'/>", "sata1", "ich9-ahci"),
    ("pc", "<controller type='sata'/>", "sata0", "ich9-ahci"),
    ("q35", "<controller type='virtio-serial' ports='4'/>", "virtio-serial0", "virtio-serial-pci"),
    ("q35", "<controller type='ccid'/>", "ccid0", "usb-ccid"),
    ("pc", "<controller type='usb'/>", "usb", "piix3-usb-uhci"),
    ("q35", "<controller type='usb' model='nec-xhci' ports='8'/>", "usb", "nec-usb-xhci"),
    ("q35", "<controller type='usb' model='piix4-uhci'/>", "usb", "piix4-usb-uhci"),
    ("q35", "<controller type='usb' model='ehci'/>", "usb", "usb-ehci"),
    ("q35", "<controller type='usb' model='pci-ohci'/>", "usb", "pci-ohci"),
    ("pc", "<controller type='pci' index='1' model='pci-bridge'/>", "pci.1", "pci-bridge"),
    ("pc", "<controller type='pci' index='1' model='pci-expander-bus'/>", "pci.1", "pxb"),
    ("q35", "<controller type='pci' index='1' model='dmi-to-pci-bridge'/>", "pci.1",
     "i82801b11-bridge"),
    ("q35", "<controller type='pci' index='1' model='pcie-to-pci-bridge'/>", "pci.1",
     "pcie-pci-bridge"),
    ("q35", "<controller type='pci' index='1' model='pcie-root-port'/>", "pci.1", "pcie-root-port"),
    ("q35", IOH3420, "pci.1", "ioh3420"),
    ("q35", "<controller type='pci' index='1' model='pcie-expander-bus'/>", "pci.1", "pxb-pcie"),
    ("microvm", "<controller type='virtio-serial'/>", "virtio-serial0", "virtio-serial-device"),
    ("q35", "", "usb", "qemu-xhci"),
    ("pc", "", "usb", "piix3-usb-uhci"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "devices", "device_id", "driver"), KINDS)
def test_controller_is_there(
    machine: str, devices: str, device_id: str, driver: str, tmp_path: Path
) -> None:
    """QEMU has made the controller, under the name that it has on the command line."""
    with running(domain(devices, machine=machine), tmp_path) as vm:
        assert driver == vm.qom_type(device_id)


def pci_devices(vm: Running) -> dict[str, tuple[int, int]]:
    """Return slot and function of each device with an id on the root bus."""
    found = cast("list[dict[str, list[dict[str, object]]]]", vm.execute("query-pci"))
    return {
        str(one["qdev_id"]): (cast("int", one["slot"]), cast("int", one["function"]))
        for one in found[0]["devices"]
    }


USB2 = "".join(
    f"<controller type='usb' model='ich9-{name}'/>" for name in ("uhci1", "ehci1", "uhci2", "uhci3")
)


def test_companions_share_a_slot_with_their_controller(tmp_path: Path) -> None:
    """A USB 2 controller and its three companions are functions of one slot, in any order."""
    with running(domain(USB2), tmp_path) as vm:
        places = pci_devices(vm)

    assert (0x1D, 7) == places["usb"]
    assert {(0x1D, 0), (0x1D, 1), (0x1D, 2)} == {
        place for name, place in places.items() if name.startswith("usb-")
    }


SWITCH = """
<controller type='pci' index='0' model='pcie-root'/>
<controller type='pci' index='1' model='pcie-root-port'/>
<controller type='pci' index='2' model='pcie-switch-upstream-port'/>
<controller type='pci' index='3' model='pcie-switch-downstream-port'/>
<controller type='pci' index='4' model='pcie-switch-downstream-port'/>
<controller type='pci' index='5' model='dmi-to-pci-bridge'/>
<controller type='pci' index='6' model='pci-bridge'/>
"""


@pytest.mark.parametrize(
    ("device_id", "bus"),
    [("pci.2", "/pci.1/"), ("pci.3", "/pci.2/"), ("pci.4", "/pci.2/"), ("pci.6", "/pci.5/")],
)
def test_bridges_are_behind_each_other(device_id: str, bus: str, tmp_path: Path) -> None:
    """A switch is behind a port, its ports behind it, a conventional bridge behind another."""
    with running(domain(SWITCH), tmp_path) as vm:
        parent = str(vm.property_of(device_id, "parent_bus"))

    assert bus in f"{parent}/"


GLOBALS = [
    ("pc", "pci-root", "<target hotplug='off'/>", "PIIX4_PM", "acpi-root-pci-hotplug", False),
    ("pc", "pci-root", "<pcihole64 unit='GiB'>1</pcihole64>", "i440FX-pcihost",
     "pci-hole64-size", 2**30),
    ("q35", "pcie-root", "<pcihole64 unit='KiB'>2097152</pcihole64>", "q35-pcihost",
     "pci-hole64-size", 2**31),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "model", "inside", "driver", "name", "value"), GLOBALS)
def test_root_takes_its_options(  # noqa: PLR0917 - a table
    machine: str, model: str, inside: str, driver: str, name: str, value: object, tmp_path: Path
) -> None:
    """What the document asks of the root bus has reached the machine's own device."""
    devices = f"<controller type='pci' index='0' model='{model}'>{inside}</controller>"
    acpi = "<features><acpi/></features>"
    with running(domain(devices, machine=machine, top=acpi), tmp_path) as vm:
        path = find_device(vm, "/machine", driver)

        assert value == vm.execute("qom-get", path=path, property=name)


def find_device(vm: Running, path: str, driver: str) -> str:
    """Return the path of the first device of a type below *path*, or nothing."""
    children = cast("list[dict[str, str]]", vm.execute("qom-list", path=path))
    for child in children:
        below = f"{path}/{child['name']}"
        if child["type"] == f"child<{driver}>":
            return below
        if child["type"].startswith("child<") and below.count("/") <= 4:
            found = find_device(vm, below, driver)
            if found:
                return found
    return ""


def test_scsi_controller_takes_its_options(tmp_path: Path) -> None:
    """Queues, commands and sectors are properties of the controller."""
    options = "<driver queues='3' cmd_per_lun='50' max_sectors='512'/>"
    devices = f"<controller type='scsi' model='virtio-scsi'>{options}</controller>"
    with running(domain(devices), tmp_path) as vm:
        found = [
            vm.property_of("scsi0", name) for name in ("num_queues", "cmd_per_lun", "max_sectors")
        ]

    assert [3, 50, 512] == found


def test_no_usb(tmp_path: Path) -> None:
    """A document can say that there is no USB controller."""
    with running(domain("<controller type='usb' model='none'/>"), tmp_path) as vm:
        assert "usb" not in pci_devices(vm)
