# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sound cards of the guest."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.context import Context, unsupported, virtio_properties
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.parts import Device, Option, Part, Slot, join
from bpferry.domain.model.sounds import Codec, Sound
from bpferry.domain.names import named

OF_ALL: Final = frozenset({"model", "audio", "alias", "address"})
VIRTIO: Final = frozenset({"iommu", "ats", "packed", "page_per_vq"})

OF_MODEL: Final[dict[str, frozenset[str]]] = {
    "ich6": frozenset({"codecs"}),
    "ich9": frozenset({"codecs"}),
    "usb": frozenset({"multichannel"}),
    "virtio": VIRTIO | {"streams"},
}
"""What a card has beside what all have, by model."""

PCI_DRIVERS: Final = {
    "ac97": "AC97",
    "es1370": "ES1370",
    "ich6": "intel-hda",
    "ich9": "ich9-intel-hda",
}

CODECS: Final = {"duplex": "hda-duplex", "micro": "hda-micro", "output": "hda-output"}

ICH9_SLOT: Final = "1b"
"""Where an ICH9 has it (hw/pci-host/q35.c describes the chipset's layout)."""

WITH_SPEAKER: Final = ("pc", "q35", "isapc")


def parts(context: Context) -> Iterator[Part]:
    """Yield the sound cards."""
    for key, sound_id, sound in named(context.machine.sounds, "sounds", "sound"):
        meaningful = OF_ALL | OF_MODEL.get(sound.model, frozenset())
        refuse_others(sound, key, meaningful, f"a sound card of model '{sound.model}'")
        audio = audio_id(sound.audio, f"{key}.audio", context)
        if audio is None:
            raise unsupported(
                key, "there is no audio that its sound could go to", "add an audio, of type none"
            )
        if sound.model == "pcspk":
            yield _speaker(sound, key, audio, context)
        else:
            yield from _card(sound, key, sound_id, audio, context)


def _card(sound: Sound, key: str, sound_id: str, audio: str, context: Context) -> Iterator[Part]:
    own: dict[str, object]
    if sound.model in ("ich6", "ich9"):
        yield from _high_definition(sound, key, sound_id, audio, context)
    elif sound.model == "sb16":
        yield _sound_blaster(sound, key, sound_id, audio)
    elif sound.model == "usb":
        check_address(sound, key, "usb")
        own = {"audiodev": audio, "multi": sound.multichannel}
        yield Device("usb-audio", sound_id, key, own, Slot.USB, sound.address)
    elif sound.model == "virtio":
        check_address(sound, key, "pci")
        driver = context.virtio("virtio-sound")
        own = {**virtio_properties(sound), "audiodev": audio, "streams": sound.streams}
        yield Device(driver, sound_id, key, own, Slot.EXPRESS, sound.address)
    else:
        check_address(sound, key, "pci")
        driver, own = PCI_DRIVERS[sound.model], {"audiodev": audio}
        yield Device(driver, sound_id, key, own, Slot.CONVENTIONAL, sound.address)


def _high_definition(
    sound: Sound, key: str, sound_id: str, audio: str, context: Context
) -> Iterator[Part]:
    """Yield a controller of HD Audio with its codecs, one for both directions by default."""
    check_address(sound, key, "pci")
    yield Device(
        PCI_DRIVERS[sound.model],
        sound_id,
        key,
        slot=Slot.CONVENTIONAL,
        address=sound.address,
        preferred=ICH9_SLOT if sound.model == "ich9" and context.family == "q35" else None,
    )
    for cad, codec in enumerate(sound.codecs or (Codec(type="duplex"),)):
        properties = {"bus": f"{sound_id}.0", "cad": cad, "audiodev": audio}
        yield Device(CODECS[codec.type], f"{sound_id}-codec{cad}", key, properties)


def _sound_blaster(sound: Sound, key: str, sound_id: str, audio: str) -> Device:
    check_address(sound, key, "isa")
    where = sound.address
    properties = {
        "audiodev": audio,
        "iobase": where.iobase if where else None,
        "irq": where.irq if where else None,
    }
    return Device("sb16", sound_id, key, properties)


def _speaker(sound: Sound, key: str, audio: str, context: Context) -> Option:
    """Return what connects the machine's own speaker.

    QEMU merges it with what stands at ``-machine``.
    """
    check_address(sound, key)
    if context.family not in WITH_SPEAKER:
        raise unsupported(key, f"the machine '{context.machine_type}' has no PC speaker")
    if sound.alias is not None:
        raise unsupported(f"{key}.alias", "the speaker is a part of the machine", "take it out")
    return Option("-M", join("", pcspk_audiodev=audio))
