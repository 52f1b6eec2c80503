# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person types and points with, and the USB hubs it may be plugged into."""

from typing import Literal

from bpferry.domain.binding import At, Form, Placed
from bpferry.domain.model.base import Device, VirtioDevice


class Input(VirtioDevice, frozen=True, kw_only=True):
    """One input device."""

    type: Placed[Literal["mouse", "tablet", "keyboard", "passthrough", "evdev"], At("@type")]
    bus: Placed[Literal["ps2", "usb", "virtio", None], At("@bus")] = None
    model: Placed[Literal["virtio", None], At("@model")] = None
    evdev: Placed[str | None, At("source/@evdev", Form.FILE)] = None
    """For passthrough: the host's device, such as /dev/input/event3, which the guest drives."""
    device: Placed[str | None, At("source/@dev", Form.FILE)] = None
    """For evdev: the host's device whose keys and movements the guest's own devices get."""
    grab: Placed[Literal["all", None], At("source/@grab")] = None
    grab_toggle: Placed[
        Literal["ctrl-ctrl", "alt-alt", "shift-shift", "meta-meta", "scrolllock", "ctrl-scrolllock"]
        | None,
        At("source/@grabToggle"),
    ] = None
    """The keys that switch the device between host and guest."""
    repeat: Placed[bool | None, At("source/@repeat", Form.ON_OFF)] = None


class Hub(Device, frozen=True, kw_only=True):
    """A hub, which is always a USB one."""

    type: Placed[Literal["usb"], At("@type")]
