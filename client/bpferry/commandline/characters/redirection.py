# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB devices that are redirected over a character device, and the rules for which are let in."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from bpferry.commandline.applicable import check_address
from bpferry.commandline.attempt import attempt
from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Part, Slot
from bpferry.domain.model.characters import RedirectedDevice, RedirectionRule
from bpferry.domain.names import Named, named

ANY: Final = -1


def redirection_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the redirected devices."""
    for device in named(context.machine.redirected_devices, "redirected-devices", "redir"):
        yield from attempt(partial(_redirected, back_ends), device, context)


def _redirected(
    back_ends: BackEnds, device: Named[RedirectedDevice], context: Context
) -> Iterator[Found]:
    redirected = device.value
    yield from check_address(device, "usb")
    user = User(device, redirected.type, spice="usbredir")
    yield from back_ends.parts(user)
    properties = {
        "chardev": user.chardev,
        "filter": "|".join(_rule(rule) for rule in context.machine.redirection_rules) or None,
        "bootindex": redirected.boot_order,
    }
    yield Device(
        "usb-redir", device.id, device.key, properties, slot=Slot.USB, address=redirected.address
    )


def _rule(rule: RedirectionRule) -> str:
    """Return *rule* in usbredir's format: class, vendor, product, version, and whether allowed."""
    version = ANY if rule.version == str(ANY) else binary_version(rule.version)
    numbers = [_number(rule.usb_class, 2), _number(rule.vendor, 4), _number(rule.product, 4)]
    return ":".join([*numbers, _number(version, 4), str(int(rule.allow))])


def _number(value: int, digits: int) -> str:
    return str(ANY) if value == ANY else f"0x{value:0{digits}X}"


def binary_version(text: str) -> int:
    """Return a device's version, such as 1.10 or 1.1, in BCD as USB has it: 0x0110."""
    major, _, minor = text.partition(".")
    return int(f"{int(major):02d}{minor.ljust(2, '0')}", 16)
