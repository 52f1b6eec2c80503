# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sound cards and their back ends in a real QEMU."""

from pathlib import Path

import pytest

from tests.devices.running import domain, running

pytestmark = pytest.mark.qemu


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_cards(machine: str, tmp_path: Path) -> None:
    """Every model is there, joined to the back end."""
    drivers = {
        "ac97": "AC97",
        "es1370": "ES1370",
        "sb16": "sb16",
        "ich6": "intel-hda",
        "ich9": "ich9-intel-hda",
        "usb": "usb-audio",
        "virtio": "virtio-sound-pci",
    }
    cards = "".join(f"<sound model='{model}'/>" for model in drivers)
    with running(domain(cards, machine=machine), tmp_path) as vm:
        found = [vm.qom_type(f"sound{number}") for number in range(len(drivers))]

        assert list(drivers.values()) == found
        assert "audio1" == vm.property_of("sound0", "audiodev")


def test_codecs(tmp_path: Path) -> None:
    """They are on the controller's own bus."""
    codecs = "".join(f"<codec type='{kind}'/>" for kind in ("duplex", "micro", "output"))
    with running(domain(f"<sound model='ich9'>{codecs}</sound>"), tmp_path) as vm:
        found = [vm.qom_type(f"sound0-codec{number}") for number in range(3)]

        assert ["hda-duplex", "hda-micro", "hda-output"] == found


def test_speaker(tmp_path: Path) -> None:
    """The machine knows where the sound of its speaker goes."""
    with running(domain("<sound model='pcspk'/>"), tmp_path) as vm:
        found = vm.execute("qom-get", path="/machine", property="pcspk-audiodev")

        assert "audio1" == found


def test_back_ends(tmp_path: Path) -> None:
    """QEMU takes every setting of those that need nothing of this host."""
    both = "".join(
        f"<{way} mixingEngine='yes' fixedSettings='yes' voices='2' bufferLength='20000'>"
        f"<settings frequency='44100' channels='2' format='s16'/></{way}>"
        for way in ("input", "output")
    )
    audios = (
        f"<audio id='1' type='none' timerPeriod='10000'>{both}</audio>"
        f"<audio id='2' type='file' path='{tmp_path}/a.wav'>{both}</audio>"
        f"<audio id='3' type='spice'>{both}</audio>"
        f"<audio id='4' type='dbus'>{both}</audio>"
        "<graphics type='spice'/><graphics type='dbus' p2p='yes'><audio id='4'/></graphics>"
    )
    with running(domain(audios), tmp_path) as vm:
        found = vm.execute("query-audiodevs")

        assert isinstance(found, list)
        assert {"none", "wav", "spice", "dbus"} == {audio["driver"] for audio in found}
        assert [44100] * 4 == [audio["out"]["frequency"] for audio in found]
