# SPDX-License-Identifier: LGPL-2.1-or-later
"""Controllers: which device each of them is, where it sits, and what it takes."""

import msgspec
import pytest

from bpferry.commandline.parts import Device, Option, Slot
from tests.client.commandline.disk_parts import QEMU, device, parts_of, properties
from tests.client.refusals import refusal_of


def controller(kind: str, inside: str = "", **attributes: object) -> str:
    """Return the XML of one controller."""
    words = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return f"<controller type='{kind}'{words}>{inside}</controller>"


def pci(index: int, model: str, inside: str = "") -> str:
    """Return the XML of one PCI controller."""
    return controller("pci", inside, index=index, model=model)


def drivers(document: str, machine: str = "q35") -> list[str]:
    """Return the drivers of all devices."""
    return [part.driver for part in parts_of(document, machine) if isinstance(part, Device)]


BUILT_IN = [("q35", "sata"), ("pc", "ide"), ("pc", "fdc"), ("q35", "fdc")]


@pytest.mark.parametrize(("machine", "kind"), BUILT_IN)
def test_machine_has_its_own(machine: str, kind: str) -> None:
    """What is part of the machine is not a device of the command line."""
    usb = drivers("", machine)

    assert usb == drivers(controller(kind, index=0), machine)


def test_scsi_model_depends_on_the_qemu() -> None:
    """A SCSI controller without a model is an LSI one where QEMU has it."""
    poor = msgspec.structs.replace(QEMU, devices={})

    assert "lsi53c895a" == device(parts_of(controller("scsi")), "scsi0").driver
    assert (
        "virtio-scsi-pci" == device(parts_of(controller("scsi"), capabilities=poor), "scsi0").driver
    )


def test_options_of_virtio_scsi() -> None:
    """Queues, threads and the rest are properties."""
    options = "<driver queues='2' cmd_per_lun='3' max_sectors='4' ioeventfd='on' iothread='5'/>"
    document = controller("scsi", options, model="virtio-scsi")
    found = properties(parts_of(document, top="<iothreads>5</iothreads>"), "scsi0")

    assert {
        "num_queues": 2,
        "cmd_per_lun": 3,
        "max_sectors": 4,
        "ioeventfd": True,
        "iothread": "iothread5",
    } == found


def test_threads_of_queues() -> None:
    """Each queue of virtio-scsi can have a thread."""
    threads = "<driver><iothreads><iothread id='2'><queue id='0'/></iothread></iothreads></driver>"
    document = controller("scsi", threads, model="virtio-scsi")
    found = properties(parts_of(document, top="<iothreads>2</iothreads>"), "scsi0")

    assert [{"iothread": "iothread2", "vqs": [0]}] == found["iothread-vq-mapping"]


def test_ports_of_virtio_serial() -> None:
    """Ports and vectors are properties."""
    found = properties(parts_of(controller("virtio-serial", ports=0, vectors=4)), "virtio-serial0")

    assert {"max_ports": 0, "vectors": 4} == found


USB2 = [controller("usb", model=f"ich9-{name}") for name in ("uhci2", "uhci1", "ehci1")]


def test_usb_companions_follow_their_controller() -> None:
    """The controller with the bus comes first; each companion takes its ports from it."""
    parts = [part for part in parts_of("".join(USB2)) if isinstance(part, Device)]
    assert ["usb", "usb-uhci2", "usb-uhci1"] == [part.id for part in parts]
    assert [("usb0", 7), ("usb0", 1), ("usb0", 0)] == [(p.group, p.function) for p in parts]
    assert ("usb.0", 2) == tuple(parts[1].properties[key] for key in ("masterbus", "firstport"))


def test_second_group_is_another_controller() -> None:
    """A model that a group has already begins the next group."""
    parts = parts_of("".join(USB2[1:]) + controller("usb", model="ich9-uhci1"))

    assert "usb1.0" == properties(parts, "usb1-uhci1")["masterbus"]


def test_usb_without_a_model_is_an_old_one() -> None:
    """On x86 that is the controller of the PIIX3, whatever the machine."""
    assert "piix3-usb-uhci" == device(parts_of(controller("usb", index=0)), "usb").driver


BRIDGES = [
    ("pc", "pci-bridge", {"chassis_nr": 1}),
    ("q35", "dmi-to-pci-bridge", {}),
    ("q35", "pcie-to-pci-bridge", {}),
    ("q35", "pcie-root-port", {"chassis": 1}),
    ("pc", "pci-expander-bus", {"bus_nr": 254}),
    ("q35", "pcie-expander-bus", {"bus_nr": 254}),
]


@pytest.mark.parametrize(("machine", "model", "expected"), BRIDGES)
def test_bridge(machine: str, model: str, expected: dict[str, object]) -> None:
    """Numbers that the document leaves out come from the index."""
    assert expected == properties(parts_of(pci(1, model), machine), "pci.1")


TARGETS = [
    ("q35", "pcie-root-port", "<target chassis='9' port='0x1a' hotplug='off' memReserve='8'/>",
     {"chassis": 9, "port": 26, "hotplug": False, "mem-reserve": 8192}),
    ("pc", "pci-bridge", "<target chassisNr='56'/>", {"chassis_nr": 56}),
    ("pc", "pci-expander-bus", "<target busNr='200'><node>1</node></target>",
     {"bus_nr": 200, "numa_node": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "model", "target", "expected"), TARGETS)
def test_numbers_of_a_bridge(
    machine: str, model: str, target: str, expected: dict[str, object]
) -> None:
    """Numbers in the document are kept."""
    assert expected == properties(parts_of(pci(1, model, target), machine), "pci.1")


def test_expanders_count_downwards() -> None:
    """An expander without a number begins two below the lowest."""
    document = pci(1, "pci-expander-bus", "<target busNr='200'/>") + pci(2, "pci-expander-bus")

    assert 198 == properties(parts_of(document, "pc"), "pci.2")["bus_nr"]


GLOBALS = [
    ("pc", "pci-root", "<target hotplug='on'/>", "PIIX4_PM.acpi-root-pci-hotplug=on"),
    ("pc", "pci-root", "<pcihole64 unit='KiB'>5</pcihole64>", "i440FX-pcihost.pci-hole64-size=5K"),
    ("q35", "pcie-root", "<pcihole64>0</pcihole64>", "q35-pcihost.pci-hole64-size=0K"),
]


@pytest.mark.parametrize(("machine", "model", "inside", "value"), GLOBALS)
def test_root(machine: str, model: str, inside: str, value: str) -> None:
    """The root is part of the machine, so what it takes is a global."""
    assert Option("-global", value) in parts_of(pci(0, model, inside), machine)


REFUSED = [
    ("q35", controller("ide", index=0), "controllers[0]"),
    ("pc", controller("ide", index=1), "controllers[0]"),
    ("q35", controller("fdc", index=1), "controllers[0].index"),
    ("q35", controller("scsi", model="buslogic"), "controllers[0].model"),
    ("q35", controller("scsi", "<driver queues='2'/>", model="lsilogic"), "controllers[0].queues"),
    ("q35", controller("sata", "<driver queues='2'/>"), "controllers[0].queues"),
    ("q35", controller("usb", model="qusb1"), "controllers[0].model"),
    ("q35", controller("usb", model="qemu-xhci", ports=16), "controllers[0].ports"),
    ("q35", controller("usb", model="ehci", ports=4), "controllers[0].ports"),
    ("q35", controller("usb", model="none") + controller("usb", index=1), "controllers[0].model"),
    ("q35", controller("scsi", index=1) * 2, "controllers[1].index"),
    ("q35", pci(0, "pci-root"), "controllers[0].model"),
    ("pc", pci(1, "pcie-root-port"), "controllers[0].model"),
    ("q35", pci(1, "pci-expander-bus"), "controllers[0].model"),
    ("q35", pci(1, "pcie-root"), "controllers[0].index"),
    ("q35", pci(1, "pcie-root-port", "<model name='pxb'/>"), "controllers[0].implementation"),
    ("q35", pci(1, "pcie-root-port", "<target busNr='1'/>"), "controllers[0].bus-number"),
    ("q35", pci(1, "pcie-root-port", "<address type='pci' bus='1' slot='1'/>"),
     "controllers[0].address.bus"),
    ("q35", controller("sata", "<address type='pci' slot='4'/>", index=0),
     "controllers[0].address"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "devices", "key"), REFUSED)
def test_misfit_is_refused(machine: str, devices: str, key: str) -> None:
    """A controller that cannot be like this is refused by its key."""
    assert key == refusal_of(parts_of, devices, machine).element


def test_xhci_has_a_port_of_its_own() -> None:
    """Where there is PCI Express, it is behind a root port; older controllers are not."""
    assert Slot.EXPRESS is device(parts_of(controller("usb", model="qemu-xhci")), "usb").slot
    assert Slot.CONVENTIONAL is device(parts_of(controller("usb", model="ehci")), "usb").slot
