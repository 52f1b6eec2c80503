# SPDX-License-Identifier: LGPL-2.1-or-later
"""Graphics cards: models, memory, and which one is the primary."""

from typing import Literal

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.displays import build as displays
from bpferry.commandline.parts import Companion, Link, Remark, Slot
from bpferry.domain.model.memory import MemoryBacking
from tests.client.commandline.display_parts import (
    context_of,
    devices_in,
    drivers,
    parts_of,
    properties,
    values,
)
from tests.client.refusals import refusal_of

MEMORY_OF_QXL = {"ram_size": 1 << 26, "vram_size": 1 << 26, "vram64_size_mb": 0, "vgamem_mb": 16}


OUTSIDE = "<driver name='vhostuser'/>"
"""What says that another process plays a card."""


def video(model: str, inner: str = "", driver: str = "") -> str:
    """Return a graphics card; *model* has its attributes."""
    return f"<video>{driver}<model {model}>{inner}</model></video>"


@pytest.mark.parametrize(
    ("model", "driver", "expected"),
    [
        ("vga", "VGA", {"vgamem_mb": 16}),
        ("cirrus", "cirrus-vga", {}),
        ("vmvga", "vmware-svga", {"vgamem_mb": 16}),
        ("qxl", "qxl-vga", {"max_outputs": 1, **MEMORY_OF_QXL}),
        ("virtio", "virtio-vga", {"max_outputs": 1}),
        ("bochs", "bochs-display", {"vgamem": 1 << 24}),
        ("ramfb", "ramfb", {}),
    ],
)
def test_primary_card(model: str, driver: str, expected: dict[str, object]) -> None:
    """The first card is one that the firmware can draw on, with libvirt's sizes of memory."""
    (device,) = devices_in(parts_of(video(f"type='{model}'")))

    assert (driver, "video0", expected) == (device.driver, device.id, properties(device))


@pytest.mark.parametrize(("machine", "slot"), [("pc", "2"), ("q35", "1")])
def test_primary_card_has_its_usual_place(machine: str, slot: str) -> None:
    """Guests look for it there."""
    (device,) = devices_in(parts_of(video("type='vga'"), machine))

    assert ((slot,), Slot.CONVENTIONAL) == (device.usual, device.slot)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("type='vga' vram='9000'", {"vgamem_mb": 16}),
        ("type='cirrus' vram='9000'", {}),
        ("type='bochs' vram='32768'", {"vgamem": 1 << 25}),
        ("type='qxl' ram='131072' vram='32768' vram64='262144' vgamem='8192' heads='3'",
         {"ram_size": 1 << 27, "vram_size": 1 << 25, "vram64_size_mb": 256, "vgamem_mb": 8,
          "max_outputs": 3}),
        ("type='virtio' heads='2' blob='on'", {"max_outputs": 2, "blob": True}),
    ],
)  # fmt: skip
def test_card_with_its_settings(model: str, expected: dict[str, object]) -> None:
    """Memory is in KiB in the document, and a power of two for the guest."""
    (device,) = devices_in(parts_of(video(model)))

    assert expected == properties(device)


def test_resolution() -> None:
    """The first picture has the size that the document gives."""
    (device,) = devices_in(parts_of(video("type='vga'", "<resolution x='1280' y='720'/>")))

    assert (1280, 720) == (device.properties["xres"], device.properties["yres"])


def test_virtio_options() -> None:
    """A virtio card has the options of all virtio devices."""
    text = video("type='virtio'", driver="<driver iommu='on' packed='off'/>")
    (device,) = devices_in(parts_of(text))

    assert (True, False) == (device.properties["iommu_platform"], device.properties["packed"])


def test_second_card() -> None:
    """It is not a VGA card; the id of each is its number."""
    text = video("type='virtio'") + video("type='virtio'") + video("type='qxl'")
    found = [(device.driver, device.id, device.slot) for device in devices_in(parts_of(text))]

    assert [
        ("virtio-vga", "video0", Slot.EXPRESS),
        ("virtio-gpu-pci", "video1", Slot.EXPRESS),
        ("qxl", "video2", Slot.CONVENTIONAL),
    ] == found


def test_card_that_says_it_is_the_primary() -> None:
    """It comes first, wherever it is."""
    text = video("type='qxl' heads='2'") + video("type='vga' primary='yes'")

    assert ["VGA", "qxl"] == drivers(parts_of(text))


def test_virtio_without_vga() -> None:
    """Where QEMU has no such VGA card, it is a plain one."""
    parts = parts_of(video("type='virtio'"), devices={"piix3-usb-uhci": {}})

    assert ["virtio-gpu-pci"] == drivers(parts)


@pytest.mark.parametrize(
    "graphics",
    [
        "<graphics type='spice'><listen type='socket'/><gl enable='yes'/></graphics>",
        "<graphics type='vnc' port='-1'/><graphics type='egl-headless'/>",
    ],
)
def test_acceleration(graphics: str) -> None:
    """A card that draws in 3D needs a display that does."""
    text = video("type='virtio'", "<acceleration accel3d='yes'/>") + graphics

    assert ["virtio-vga-gl"] == drivers(parts_of(text))


def test_graphics_without_a_card() -> None:
    """A display has something to show: libvirt's usual card."""
    assert ["cirrus-vga"] == drivers(parts_of("<graphics type='vnc' port='-1'/>"))


def test_no_card_at_all() -> None:
    """A VM with a display may go without, if its document says so."""
    assert [] == drivers(parts_of("<graphics type='vnc' port='-1'/>" + video("type='none'")))


def test_name_of_the_user() -> None:
    """An alias is the id."""
    text = "<video><model type='vga'/><alias name='ua-screen'/></video>"

    assert "ua-screen" == devices_in(parts_of(text))[0].id


def test_card_that_another_process_plays() -> None:
    """QEMU and the process each inherit one end of a socket pair."""
    parts = parts_of(video("type='virtio' heads='2'", driver=OUTSIDE))
    (device,) = devices_in(parts)
    (link,) = [part for part in parts if isinstance(part, Link)]
    (process,) = [part for part in parts if isinstance(part, Companion)]

    assert "vhost-user-vga" == device.driver
    assert {"max_outputs": 2, "chardev": "chr-vu-video0"} == properties(device)
    assert [f"socket,id=chr-vu-video0,fd={link.name}"] == values(parts, "-chardev")
    assert ("vhost-user-gpu", f"--fd={link.peer}") == process.argv
    assert ("", (link.peer,)) == (process.socket, process.inherits)


def test_virtio_options_of_a_card_that_another_process_plays() -> None:
    """It has the options of all virtio devices."""
    text = video("type='virtio'", driver="<driver name='vhostuser' packed='on' ats='off'/>")
    (device,) = devices_in(parts_of(text))

    assert (True, False) == (device.properties["packed"], device.properties["ats"])


def test_acceleration_outside_qemu() -> None:
    """The process draws in 3D; QEMU needs no display for it."""
    inner = "<acceleration accel3d='yes' rendernode='/dev/dri/renderD128'/>"
    parts = parts_of(video("type='virtio'", inner, OUTSIDE))
    (process,) = [part for part in parts if isinstance(part, Companion)]

    assert ["vhost-user-vga"] == drivers(parts)
    assert ("--virgl", "--render-node=/dev/dri/renderD128") == process.argv[2:]


def test_cards_that_other_processes_play() -> None:
    """The second is not a VGA card, and each has a process and a socket of its own."""
    parts = parts_of(video("type='virtio'", driver=OUTSIDE) * 2)
    found = [(device.driver, device.slot) for device in devices_in(parts)]
    links = [part for part in parts if isinstance(part, Link)]

    assert [
        ("vhost-user-vga", Slot.EXPRESS),
        ("vhost-user-gpu-pci", Slot.EXPRESS),
    ] == found
    assert 4 == len({name for link in links for name in (link.name, link.peer)})


def test_card_outside_qemu_without_vga() -> None:
    """Where QEMU has no such VGA card, it is a plain one."""
    parts = parts_of(video("type='virtio'", driver=OUTSIDE), devices={"piix3-usb-uhci": {}})

    assert ["vhost-user-gpu-pci"] == drivers(parts)


@pytest.mark.parametrize("access", ["shared", "private"])
def test_memory_that_the_process_cannot_reach_is_remarked(
    access: Literal["shared", "private"],
) -> None:
    """The user is told that the guest's driver will not work, and QEMU starts all the same."""
    context = context_of(video("type='virtio'", driver=OUTSIDE))
    machine = msgspec.structs.replace(context.machine, memory_backing=MemoryBacking(access=access))
    remarks = [
        part
        for part in displays.parts(replace(context, machine=machine))
        if isinstance(part, Remark)
    ]

    assert ([] if access == "shared" else ["videos[0]"]) == [remark.key for remark in remarks]


@pytest.mark.parametrize(
    "graphics",
    [
        "<graphics type='dbus' p2p='yes'/>",
        "<graphics type='spice'><listen type='none'/><gl enable='yes'/></graphics>",
    ],
)
def test_graphics_that_show_a_card_outside_qemu(graphics: str) -> None:
    """They take pictures as DMABUF, as such a card gives them."""
    text = video("type='virtio'", driver=OUTSIDE) + graphics

    assert ["vhost-user-vga"] == drivers(parts_of(text))


def test_vnc_beside_a_card_outside_qemu() -> None:
    """VNC shows the primary card, and the other one may be any."""
    text = video("type='vga'") + video("type='virtio'", driver=OUTSIDE)

    assert ["VGA", "vhost-user-gpu-pci"] == drivers(
        parts_of(text + "<graphics type='vnc' port='-1'/>")
    )


@pytest.mark.parametrize(
    ("text", "element"),
    [
        (video("type='vga'") + video("type='vga'"), "videos[1]"),
        (video("type='qxl' primary='yes'") * 2, "videos[1].primary"),
        (video("type='none'") + video("type='vga'"), "videos[0]"),
        (video("type='vga' heads='2'"), "videos[0].heads"),
        (video("type='virtio' heads='17'"), "videos[0].heads"),
        (video("type='vga' blob='on'"), "videos[0].blob"),
        (video("type='virtio' ram='65536'"), "videos[0].ram-kib"),
        (video("type='vga' vram='512'"), "videos[0].vram-kib"),
        (video("type='qxl' vgamem='5000'"), "videos[0].vgamem-kib"),
        (video("type='qxl' vgamem='512'"), "videos[0].vgamem-kib"),
        (video("type='qxl' ram='4194303'"), "videos[0].ram-kib"),
        (video("type='cirrus'", "<resolution x='800' y='600'/>"), "videos[0].width"),
        (video("type='vga'", "<acceleration accel2d='yes'/>"), "videos[0].accel2d"),
        (video("type='vga'", "<acceleration accel3d='yes'/>"), "videos[0].accel3d"),
        (video("type='virtio'", "<acceleration accel3d='yes'/>"), "videos[0].accel3d"),
        (video("type='vga'", driver="<driver ats='on'/>"), "videos[0].ats"),
        (video("type='vga'", driver=OUTSIDE), "videos[0].backend"),
        (video("type='virtio' blob='on'", driver=OUTSIDE), "videos[0].blob"),
        (video("type='virtio'", "<acceleration accel2d='yes'/>", OUTSIDE), "videos[0].accel2d"),
        (video("type='virtio'", "<acceleration rendernode='/dev/dri/x'/>"),
         "videos[0].render-node"),
        (video("type='virtio'", driver=OUTSIDE) + "<graphics type='vnc' port='-1'/>",
         "videos[0].backend"),
        (video("type='virtio'", driver=OUTSIDE) + "<graphics type='spice'/>", "videos[0].backend"),
        (video("type='vga'") + video("type='virtio'", driver=OUTSIDE) + "<graphics type='spice'/>",
         "videos[1].backend"),
        ("<video><model type='ramfb'/><address type='pci' bus='0' slot='9'/></video>",
         "videos[0].address"),
        ("<video><model type='vga'/><address type='usb' bus='0' port='1'/></video>",
         "videos[0].address"),
    ],
)  # fmt: skip
def test_refused(text: str, element: str) -> None:
    """What cannot be done is refused by its name."""
    assert element == refusal_of(parts_of, text).element
