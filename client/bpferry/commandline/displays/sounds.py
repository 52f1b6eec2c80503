# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sound cards of the guest."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.parts import Device, Found, Option, Part, Slot, join
from bpferry.domain.model.sounds import Codec, Sound
from bpferry.domain.names import Named, named

OF_ALL: Final = frozenset({"model", "audio", "alias", "address"})
VIRTIO: Final = frozenset({"iommu", "ats", "packed", "page_per_vq"})

OF_MODEL: Final[dict[str, frozenset[str]]] = {
    "ich6": frozenset({"codecs"}),
    "ich9": frozenset({"codecs"}),
    "usb": frozenset({"multichannel"}),
    "virtio": VIRTIO | {"streams"},
}
"""The fields of a card in addition to the common ones, by model."""

PCI_DRIVERS: Final = {
    "ac97": "AC97",
    "es1370": "ES1370",
    "ich6": "intel-hda",
    "ich9": "ich9-intel-hda",
}

CODECS: Final = {"duplex": "hda-duplex", "micro": "hda-micro", "output": "hda-output"}

ICH9_SLOT: Final = "1b"
"""Its place in an ICH9 (hw/pci-host/q35.c describes the chipset's layout)."""

WITH_SPEAKER: Final = ("pc", "q35", "isapc")


def parts(context: Context) -> Iterator[Part]:
    """Yield the sound cards."""
    for device in named(context.machine.sounds, "sounds", "sound"):
        yield from attempt(_sound, device, context)


def _sound(device: Named[Sound], context: Context) -> Iterator[Found]:
    sound = device.value
    meaningful = OF_ALL | OF_MODEL.get(sound.model, frozenset())
    yield from refuse_others(device, meaningful, f"a sound card of model '{sound.model}'")
    audio = audio_id(device, context)
    if audio is None:
        raise device.refusal("", "there is no audio for its sound", "add an audio, of type none")
    if sound.model == "pcspk":
        yield from _speaker(device, audio, context)
    else:
        yield from _card(device, audio, context)


def _card(device: Named[Sound], audio: str, context: Context) -> Iterator[Found]:
    sound = device.value
    own: dict[str, object]
    if sound.model in ("ich6", "ich9"):
        yield from _high_definition(device, audio, context)
    elif sound.model == "sb16":
        yield from _sound_blaster(device, audio)
    elif sound.model == "usb":
        yield from check_address(device, "usb")
        own = {"audiodev": audio, "multi": sound.multichannel}
        yield Device("usb-audio", device.id, device.key, own, slot=Slot.USB, address=sound.address)
    elif sound.model == "virtio":
        yield from check_address(device, "pci")
        driver = context.virtio("virtio-sound")
        own = {**virtio_properties(sound), "audiodev": audio, "streams": sound.streams}
        yield Device(driver, device.id, device.key, own, slot=Slot.EXPRESS, address=sound.address)
    else:
        yield from check_address(device, "pci")
        driver, own = PCI_DRIVERS[sound.model], {"audiodev": audio}
        yield Device(
            driver, device.id, device.key, own, slot=Slot.CONVENTIONAL, address=sound.address
        )


def _high_definition(device: Named[Sound], audio: str, context: Context) -> Iterator[Found]:
    """Yield a controller of HD Audio with its codecs, one for both directions by default."""
    sound = device.value
    yield from check_address(device, "pci")
    yield Device(
        PCI_DRIVERS[sound.model],
        device.id,
        device.key,
        slot=Slot.CONVENTIONAL,
        address=sound.address,
        usual=(ICH9_SLOT,) if sound.model == "ich9" and context.family == "q35" else (),
    )
    for cad, codec in enumerate(sound.codecs or (Codec(type="duplex"),)):
        properties = {"bus": f"{device.id}.0", "cad": cad, "audiodev": audio}
        yield Device(CODECS[codec.type], f"{device.id}-codec{cad}", device.key, properties)


def _sound_blaster(device: Named[Sound], audio: str) -> Iterator[Found]:
    sound = device.value
    yield from check_address(device, "isa")
    where = sound.address
    properties = {
        "audiodev": audio,
        "iobase": where.iobase if where else None,
        "irq": where.irq if where else None,
    }
    yield Device("sb16", device.id, device.key, properties)


def _speaker(device: Named[Sound], audio: str, context: Context) -> Iterator[Found]:
    """Yield what connects the machine's own speaker.

    QEMU merges it with the other ``-machine`` options.
    """
    sound = device.value
    yield from check_address(device)
    if context.family not in WITH_SPEAKER:
        yield device.refusal(
            "",
            f"the machine '{context.machine_type}' has no PC speaker",
            "remove the sound device, or choose another model",
        )
    if sound.alias is not None:
        yield device.refusal("alias", "the speaker is part of the machine", "remove it")
    yield Option("-M", join("", pcspk_audiodev=audio))
