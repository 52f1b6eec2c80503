# SPDX-License-Identifier: LGPL-2.1-or-later
"""The graphics cards of the guest.

One is the primary: the firmware draws on it, and it is a VGA card if there is such a model.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import Device, Found, Part, Slot
from bpferry.domain.architectures import is_pc
from bpferry.domain.forms import called
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.model.videos import Video
from bpferry.domain.names import Named, chosen, listed, named
from bpferry.errors import Unsupported

PRIMARY_DRIVERS: Final = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "vmvga": "vmware-svga",
    "qxl": "qxl-vga",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
}

PRIMARY_SLOTS: Final = {"pc": ("2",), "q35": ("1",)}
"""Where firmware and guests expect it, by machine family (as QEMU and libvirt have it)."""

EXPRESS_MODELS: Final = ("virtio", "bochs")
"""The models that are PCI Express devices on a machine with PCI Express."""

OF_ALL: Final = frozenset({"model", "backend", "primary", "alias", "address", "heads"})
VIRTIO: Final = frozenset({"iommu", "ats", "packed", "page_per_vq"})
ACCELERATION: Final = frozenset({"accel2d", "accel3d"})
RESOLUTION: Final = frozenset({"width", "height"})
IGNORED_MEMORY: Final = frozenset({"vram_kib"})
"""A size that libvirt writes into each document, but leaves to QEMU for these models."""

OF_MODEL: Final[dict[str, frozenset[str]]] = {
    "vga": RESOLUTION | ACCELERATION | {"vram_kib"},
    "cirrus": IGNORED_MEMORY | ACCELERATION,
    "vmvga": ACCELERATION | {"vram_kib"},
    "qxl": RESOLUTION | ACCELERATION | {"ram_kib", "vram_kib", "vram64_kib", "vgamem_kib"},
    "virtio": RESOLUTION | ACCELERATION | VIRTIO | IGNORED_MEMORY | {"blob"},
    "bochs": RESOLUTION | ACCELERATION | {"vram_kib"},
    "ramfb": IGNORED_MEMORY | ACCELERATION,
    "none": frozenset(),
}
"""The fields of a card in addition to the common ones, by model."""

OUTSIDE: Final = RESOLUTION | ACCELERATION | VIRTIO | IGNORED_MEMORY | {"render_node"}
"""The fields of a virtio card that another process implements."""

SEVERAL_HEADS: Final = {"qxl": 65535, "virtio": 16}
"""The most monitors of one card (hw/display/qxl.c; VIRTIO_GPU_MAX_SCANOUTS)."""

QXL_RAM_KIB: Final = 64 * 1024
QXL_VGAMEM_KIB: Final = 16 * 1024
VGA_KIB: Final = 16 * 1024
"""libvirt's defaults; the guest sees them."""

LEAST_KIB: Final = 1024
"""QEMU counts the memory of VGA in MiB."""


class _Card(Struct, frozen=True):
    device: Named[Video]
    model: str
    primary: bool

    @property
    def video(self) -> Video:
        """What the document says of it."""
        return self.device.value

    @property
    def outside(self) -> bool:
        """Whether another process implements it."""
        return self.video.backend == "vhostuser"


def parts(context: Context) -> Iterator[Part]:
    """Yield the graphics cards, the primary one first."""
    for place, device in enumerate(_ordered(context)):
        yield from attempt(partial(_video, primary=place == 0), device, context)


def _ordered(context: Context) -> list[Named[Video]]:
    """Return the cards, the primary one first; displays without any card get one.

    They are named by their place in this order, as in libvirt.
    """
    videos = list(named(context.machine.videos, "videos", "video"))
    if not videos and context.machine.graphics:
        first = next(listed(context.machine.graphics, "graphics"))
        return [Named(first.key, "video0", Video())]
    primary = next((device for device in videos if device.value.primary), None)
    if primary is None:
        return videos
    others = [device for device in videos if device is not primary]
    return [
        replace(primary, id=chosen(primary.value) or "video0"),
        *(_behind(primary, device) for device in others),
    ]


def _behind(primary: Named[Video], device: Named[Video]) -> Named[Video]:
    """Return *device* with the id that it has once *primary* is first."""
    place = device.number + (device.number < primary.number)
    return replace(device, id=chosen(device.value) or f"video{place}")


def _video(device: Named[Video], context: Context, *, primary: bool) -> Iterator[Found]:
    card = _Card(device, device.value.model or _usual_model(context), primary=primary)
    others = context.machine.videos
    if card.model == "none":
        if len(others) > 1:
            yield device.mistake(
                "",
                "'none' contradicts the other graphics cards",
                "remove the card with 'none', or the others",
            )
        return
    if card.video.primary and not primary:
        yield device.mistake(
            "primary", "another one is already the primary card", "let one card be the primary one"
        )
    yield from _check(card, context)
    if card.outside:
        from bpferry.commandline.displays.vhost_user_videos import connection  # noqa: PLC0415 - rare

        yield from connection(device, context, primary=primary)
    yield _device(card, context)


def _usual_model(context: Context) -> str:
    """Return libvirt's choice for a card without a model."""
    if not is_pc(context.capabilities.arch):
        return "virtio"
    return "cirrus" if context.capabilities.has_device("cirrus-vga") else "vga"


def _check(card: _Card, context: Context) -> Iterator[Unsupported]:
    """Refuse what is not possible with this model or place."""
    device, video, model = card.device, card.video, card.model
    if card.outside and model != "virtio":
        yield device.refusal(
            "backend",
            "only a 'virtio' card can run in another process",
            "choose the model 'virtio', or leave the backend out",
        )
    own = OUTSIDE if card.outside else OF_MODEL[model]
    yield from refuse_others(device, OF_ALL | own, f"a graphics card of model '{model}'")
    if not card.primary and model not in SEVERAL_HEADS:
        yield device.refusal(
            "",
            f"a card of model '{model}' can only be the first graphics card",
            "make it the first one, or choose another model",
        )
    if (video.heads or 1) > SEVERAL_HEADS.get(model, 1):
        most = SEVERAL_HEADS.get(model, 1)
        yield device.refusal(
            "heads",
            f"a card of model '{model}' has at most {most} monitors",
            f"write at most {most}",
        )
    if (video.width is None) != (video.height is None):
        yield device.mistake(
            "",
            "a resolution needs a width and a height",
            "add the other one, or leave the resolution out",
        )
    if video.accel2d:
        yield device.refusal("accel2d", "QEMU has no such setting", "leave it out")
    if video.accel3d and not card.outside:
        yield from _check_3d(card, context)
    yield from check_address(device, *(() if model == "ramfb" else ("pci",)))


def _check_3d(card: _Card, context: Context) -> Iterator[Unsupported]:
    if card.model != "virtio":
        yield card.device.refusal(
            "accel3d",
            "only 'virtio' has 3D acceleration",
            "choose the model 'virtio', or leave it out",
        )
    drawing = (single.gl or single.type == "egl-headless" for single in context.machine.graphics)
    if not any(drawing):
        yield card.device.refusal(
            "accel3d",
            "no display of the VM has OpenGL",
            f"switch on OpenGL ({called(Graphics, 'gl')}) of graphics of type spice, sdl or dbus, "
            "or add egl-headless to vnc",
        )


def _device(card: _Card, context: Context) -> Device:
    driver = _driver(card, context)
    if card.model == "ramfb":
        return Device(driver, card.device.id, card.device.key)
    express = card.model in EXPRESS_MODELS
    return Device(
        driver,
        card.device.id,
        card.device.key,
        {**_memory(card), **_features(card), **_chardev(card)},
        slot=Slot.EXPRESS if express else Slot.CONVENTIONAL,
        address=card.video.address,
        usual=PRIMARY_SLOTS.get(context.family, ()) if card.primary else (),
    )


def _driver(card: _Card, context: Context) -> str:
    if card.model != "virtio":
        return PRIMARY_DRIVERS[card.model] if card.primary else card.model
    if card.outside:
        # QEMU's name for it on a virtio bus has no "-device".
        vga, other = "vhost-user-vga", f"vhost-user-gpu{'-pci' if context.has_pci else ''}"
    else:
        suffix = "-gl" if card.video.accel3d else ""
        vga, other = f"virtio-vga{suffix}", context.virtio(f"virtio-gpu{suffix}")
    if card.primary and context.has_pci and context.capabilities.has_device(vga):
        return vga
    return other


def _chardev(card: _Card) -> dict[str, object]:
    if not card.outside:
        return {}
    from bpferry.commandline.displays.vhost_user_videos import chardev_of  # noqa: PLC0415 - as above

    return {"chardev": chardev_of(card.device.id)}


def _features(card: _Card) -> dict[str, object]:
    video = card.video
    properties: dict[str, object] = {"xres": video.width, "yres": video.height}
    if card.model in SEVERAL_HEADS:
        properties["max_outputs"] = video.heads or 1
    if card.model == "virtio":
        properties |= {"blob": video.blob, **virtio_properties(video)}
    return properties


def _memory(card: _Card) -> dict[str, object]:
    video, model = card.video, card.model
    if model == "qxl":
        return _qxl_memory(card.device)
    size_kib = _power_of_two(video.vram_kib or VGA_KIB)
    if model == "bochs":
        return {"vgamem": size_kib * 1024}
    if model in ("vga", "vmvga"):
        _check_least(size_kib, card.device, "vram-kib")
        return {"vgamem_mb": size_kib // 1024}
    return {}


def _qxl_memory(device: Named[Video]) -> dict[str, object]:
    video = device.value
    vgamem_kib = video.vgamem_kib or QXL_VGAMEM_KIB
    _check_least(vgamem_kib, device, "vgamem-kib")
    if vgamem_kib != _power_of_two(vgamem_kib):
        raise device.mistake(
            "vgamem-kib",
            "it has to be a power of two",
            "write 8192, 16384, 32768 or another power of two",
        )
    return {
        "ram_size": _bytes(video.ram_kib, device, "ram-kib"),
        "vram_size": _bytes(video.vram_kib, device, "vram-kib"),
        "vram64_size_mb": (video.vram64_kib or 0) // 1024,
        "vgamem_mb": vgamem_kib // 1024,
    }


def _bytes(size_kib: int | None, device: Named[Video], field: str) -> int:
    size = _power_of_two(size_kib or QXL_RAM_KIB) * 1024
    if size >= 1 << 32:
        raise device.mistake(
            field,
            "rounded up to a power of two it is more than the 2 GiB that QEMU takes",
            "write at most 2097152",
        )
    return size


def _check_least(size_kib: int, device: Named[Video], field: str) -> None:
    if size_kib < LEAST_KIB:
        raise device.mistake(
            field,
            f"it has to be at least {LEAST_KIB} KiB",
            f"write {LEAST_KIB} or more, or leave it out",
        )


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least *number*."""
    return 1 << (number - 1).bit_length()
