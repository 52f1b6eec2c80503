# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sound cards, and where their sound goes to."""

import pytest

from bpferry.commandline.parts import Slot
from tests.client.commandline.display_parts import (
    devices_in,
    drivers,
    environment,
    objects,
    parts_of,
    properties,
    values,
)
from tests.client.refusals import refusal_of

AC97 = "<sound model='ac97'/>"
FIXED = "mixingEngine='yes' fixedSettings='yes'"


def sound(model: str, inner: str = "", attributes: str = "") -> str:
    """Return a sound card."""
    return f"<sound model='{model}' {attributes}>{inner}</sound>"


def audio(kind: str, inner: str = "", attributes: str = "") -> str:
    """Return an audio back end of id 1."""
    return f"<audio id='1' type='{kind}' {attributes}>{inner}</audio>"


@pytest.mark.parametrize(
    ("model", "driver", "slot"),
    [
        ("ac97", "AC97", Slot.CONVENTIONAL),
        ("es1370", "ES1370", Slot.CONVENTIONAL),
        ("sb16", "sb16", Slot.NONE),
        ("usb", "usb-audio", Slot.USB),
        ("virtio", "virtio-sound-pci", Slot.EXPRESS),
    ],
)
def test_card(model: str, driver: str, slot: Slot) -> None:
    """Each model is one device, joined to the back end."""
    (device,) = devices_in(parts_of(sound(model)))

    assert (driver, "sound0", slot) == (device.driver, device.id, device.slot)
    assert {"audiodev": "audio1"} == properties(device)


@pytest.mark.parametrize(
    ("model", "driver", "usual"),
    [("ich6", "intel-hda", ()), ("ich9", "ich9-intel-hda", ("1b",))],
)
def test_high_definition(model: str, driver: str, usual: tuple[str, ...]) -> None:
    """A controller comes with a codec for both directions."""
    controller, codec = devices_in(parts_of(sound(model)))

    assert (driver, usual) == (controller.driver, controller.usual)
    assert ("hda-duplex", "sound0-codec0") == (codec.driver, codec.id)
    assert {"bus": "sound0.0", "cad": 0, "audiodev": "audio1"} == properties(codec)


def test_codecs() -> None:
    """They are those of the document, in its order."""
    text = sound("ich9", "<codec type='micro'/><codec type='output'/>")

    assert ["hda-micro", "hda-output"] == drivers(parts_of(text))[1:]


def test_settings_of_cards() -> None:
    """What only some cards have."""
    text = (
        sound("usb", attributes="multichannel='yes'")
        + sound("virtio", "<driver ats='on'/>", "streams='4'")
        + sound("sb16", "<address type='isa' iobase='0x240' irq='0x7'/>")
    )
    usb, virtio, sb16 = (properties(device) for device in devices_in(parts_of(text)))

    assert {"audiodev": "audio1", "multi": True} == usb
    assert {"audiodev": "audio1", "streams": 4, "ats": True} == virtio
    assert {"audiodev": "audio1", "iobase": 0x240, "irq": 7} == sb16


def test_speaker() -> None:
    """The speaker is a part of the machine, which is told where its sound goes."""
    parts = parts_of(sound("pcspk"))

    assert [] == drivers(parts)
    assert ["pcspk-audiodev=audio1"] == values(parts, "-M")


def test_card_finds_its_back_end() -> None:
    """By its id, or it is the first one."""
    backends = "<audio id='3' type='alsa'/><audio id='2' type='none'/>"
    text = backends + sound("ac97", "<audio id='2'/>") + AC97
    found = [device.properties["audiodev"] for device in devices_in(parts_of(text))]

    assert ["audio2", "audio3"] == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (AC97, ["none"]),
        ("<graphics type='vnc' port='-1'/>", ["none"]),
        ("<graphics type='spice'/>", ["spice"]),
        ("<graphics type='spice'/><graphics type='vnc' port='-1'/>", ["none"]),
        ("<graphics type='dbus' p2p='yes'/>", []),
        ("<graphics type='spice'/>" + audio("alsa"), ["alsa"]),
    ],
)
def test_back_end_that_fits_the_display(text: str, expected: list[str]) -> None:
    """Without one in the document, it is libvirt's choice."""
    found = [described["driver"] for described in objects(parts_of(text), "-audiodev")]

    assert expected == found


@pytest.mark.parametrize(
    ("kind", "attributes", "inner", "expected"),
    [
        ("none", "timerPeriod='50'", "", {"driver": "none", "timer-period": 50}),
        ("file", "path='/tmp/a.wav'", "", {"driver": "wav", "path": "/tmp/a.wav"}),
        ("pulseaudio", "serverName='s'", "", {"driver": "pa", "server": "s"}),
        ("oss", "tryMMap='yes' exclusive='no' dspPolicy='3'", "",
         {"driver": "oss", "try-mmap": True, "exclusive": False, "dsp-policy": 3}),
        ("oss", "", "<input dev='/dev/dsp' tryPoll='yes' bufferCount='4'/>",
         {"driver": "oss", "in": {"dev": "/dev/dsp", "try-poll": True, "buffer-count": 4}}),
        ("jack", "", "<output serverName='a' clientName='b' connectPorts='c' exactName='no'/>",
         {"driver": "jack", "out": {"server-name": "a", "client-name": "b",
                                    "connect-ports": "c", "exact-name": False}}),
        ("pipewire", "", "<output name='a' streamName='b' latency='9'/>",
         {"driver": "pipewire", "out": {"name": "a", "stream-name": "b", "latency": 9}}),
        ("alsa", "", (f"<input {FIXED} voices='2' bufferLength='7' dev='hw'>"
                     "<settings frequency='44100' channels='2' format='s16'/></input><output/>"),
         {"driver": "alsa", "in": {"mixing-engine": True, "fixed-settings": True, "voices": 2,
                                   "buffer-length": 7, "dev": "hw", "frequency": 44100,
                                   "channels": 2, "format": "s16"}}),
    ],
)  # fmt: skip
def test_settings_of_back_ends(
    kind: str, attributes: str, inner: str, expected: dict[str, object]
) -> None:
    """Every setting has its place in QEMU's."""
    (found,) = objects(parts_of(audio(kind, inner, attributes)), "-audiodev")

    assert {"id": "audio1", **expected} == found


def test_environment_of_back_ends() -> None:
    """Two back ends are told something by the environment."""
    text = (
        audio("sdl", attributes="driver='alsa'") + "<audio id='2' type='pipewire' runtimeDir='/p'/>"
    )

    assert {"SDL_AUDIODRIVER": "alsa", "PIPEWIRE_RUNTIME_DIR": "/p"} == environment(parts_of(text))


@pytest.mark.parametrize(
    ("text", "element"),
    [
        (audio("none") + audio("alsa"), "audios[1].id"),
        (audio("coreaudio"), "audios[0].type"),
        (audio("spice"), "audios[0].type"),
        (audio("alsa", attributes="serverName='s'"), "audios[0].server"),
        (audio("alsa", "<input latency='1'/>"), "audios[0].input.latency"),
        (audio("alsa", "<output fixedSettings='yes'/>"), "audios[0].output.fixed-settings"),
        (audio("alsa", "<output><settings channels='2'/></output>"), "audios[0].output.channels"),
        (sound("ac97", "<audio id='5'/>"), "sounds[0].audio"),
        (sound("ac97", "<codec type='micro'/>"), "sounds[0].codecs"),
        (sound("ac97", attributes="streams='2'"), "sounds[0].streams"),
        (sound("ac97", "<address type='usb' bus='0' port='1'/>"), "sounds[0].address"),
        (sound("pcspk", "<alias name='ua-beep'/>"), "sounds[0].alias"),
        ("<graphics type='dbus' p2p='yes'/>" + AC97, "sounds[0]"),
    ],
)  # fmt: skip
def test_refused(text: str, element: str) -> None:
    """What cannot be done is refused by its name."""
    assert element == refusal_of(parts_of, text).element


def test_machine_without_a_speaker() -> None:
    """It is refused where the machine has none."""
    assert "sounds[0]" == refusal_of(parts_of, sound("pcspk"), "virt").element
