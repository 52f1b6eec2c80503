# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a command line that displays, inputs and sound of a small document give."""

import json
from pathlib import Path

import msgspec

from bpferry.commandline.buses import hubs
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.displays import build as displays
from bpferry.commandline.parts import Device, Environment, Option, OwnSocket, Part, Remark
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from tests.client.commandline.sound import completed, sound
from tests.client.support import CAPABILITIES, OWNER

FOLDERS = Folders(runtime="/run/user/7/bpferry/vm", state="/home/u/.local/state/bpferry/vm")

VIDEOS = (
    "cirrus-vga", "VGA", "virtio-vga", "virtio-vga-gl", "vhost-user-vga", "piix3-usb-uhci",
)  # fmt: skip
COMMANDS = ("query-spice", "query-vnc-servers")
DISPLAYS = ("none", "sdl", "egl-headless", "dbus")
AUDIODEVS = ("none", "alsa", "dbus", "jack", "oss", "pa", "pipewire", "sdl", "spice", "wav")

THIS_QEMU = msgspec.structs.replace(
    CAPABILITIES,
    devices={driver: {} for driver in VIDEOS},
    commands=dict.fromkeys(COMMANDS, frozenset()),
    displays=dict.fromkeys(DISPLAYS, frozenset()),
    audiodevs=dict.fromkeys(AUDIODEVS, frozenset()),
)

DOCUMENT = """\
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices>{devices}</devices>
</domain>
"""


def context_of(text: str, machine_type: str = "q35", **capabilities: object) -> Context:
    """Return a VM with the devices of *text* and all that is known about it."""
    machine = read_bytes(DOCUMENT.format(devices=text).encode(), Path("/vms/vm.xml")).machine
    context = Context(
        machine=machine,
        capabilities=msgspec.structs.replace(THIS_QEMU, **capabilities),
        accelerator=Accelerator.TCG,
        plans={},
        owner=OWNER,
        folders=FOLDERS,
        fd=str,
        machine_type=machine_type,
    )
    return completed(context)


def parts_of(text: str, machine_type: str = "q35", **capabilities: object) -> list[Part]:
    """Return what a document with the devices of *text* gives."""
    context = context_of(text, machine_type, **capabilities)
    return sound([*hubs.parts(context), *displays.parts(context)])


def values(parts: list[Part], option: str) -> list[str | None]:
    """Return the values of *option*, such as ``-vnc``."""
    return [part.value for part in parts if isinstance(part, Option) and part.name == option]


def objects(parts: list[Part], option: str) -> list[dict[str, object]]:
    """Return the values of *option*, which are JSON."""
    return [json.loads(value or "") for value in values(parts, option)]


def devices_in(parts: list[Part]) -> list[Device]:
    """Return the devices, in order."""
    return [part for part in parts if isinstance(part, Device)]


def drivers(parts: list[Part]) -> list[str]:
    """Return the driver of each device, in order."""
    return [device.driver for device in devices_in(parts)]


def properties(device: Device) -> dict[str, object]:
    """Return the properties of *device*, without what is None."""
    return {key: value for key, value in device.properties.items() if value is not None}


def environment(parts: list[Part]) -> dict[str, str]:
    """Return the variables that are set for QEMU."""
    return {part.name: part.value for part in parts if isinstance(part, Environment)}


def own_sockets(parts: list[Part]) -> list[str]:
    """Return the paths of the sockets that QEMU makes."""
    return [part.path for part in parts if isinstance(part, OwnSocket)]


def remarks(parts: list[Part]) -> list[str]:
    """Return what the user is told."""
    return [part.text for part in parts if isinstance(part, Remark)]
