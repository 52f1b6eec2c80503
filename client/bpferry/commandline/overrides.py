# SPDX-License-Identifier: LGPL-2.1-or-later
"""Properties of devices that the user sets past bpferry, as libvirt's <qemu:override> does.

They are put in last, so that they hold whatever bpferry would say.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bpferry.commandline.parts import Device
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.system import Override, Property
from bpferry.domain.names import Named, listed

NUMBERS: Final = {
    "signed": (re.compile(r"-?[0-9]{1,19}"), -(2**63), 2**63 - 1),
    "unsigned": (re.compile(r"[0-9]{1,20}"), 0, 2**64 - 1),
}
TRUTHS: Final = {"true": True, "false": False}


def with_overrides(devices: Sequence[Device], machine: Machine) -> dict[str, Device]:
    """Return *devices* by their ids, with what the user sets.

    Raises:
        Unsupported: there is no such device, or a value is none of its type.
    """
    found = {device.id: device for device in devices}
    for override in listed(machine.qemu_overrides, "qemu-overrides"):
        name = override.value.device
        if name not in found:
            raise override.refusal(
                "device",
                f"there is no device '{name}'",
                "name one by its alias, which 'bpferry run --dry-run' shows as its id",
            )
        found[name] = _changed(found[name], override)
    return found


def _changed(device: Device, override: Named[Override]) -> Device:
    properties: dict[str, object] = dict(device.properties)
    for one in override.parts("properties", override.value.properties):
        if one.value.name in ("id", "driver"):
            raise one.refusal("name", f"'{one.value.name}' says which device it is")
        if one.value.type == "remove":
            properties.pop(one.value.name, None)
        else:
            properties[one.value.name] = _value(one)
    return replace(device, properties=properties)


def _value(part: Named[Property]) -> object:
    kind, text = part.value.type, part.value.value
    if text is None:
        raise part.refusal("", "it has no value")
    if kind == "string":
        return text
    found = TRUTHS.get(text) if kind == "bool" else _number(text, kind)
    if found is None:
        raise part.refusal("value", f"'{text}' is no value of type '{kind}'")
    return found


def _number(text: str, kind: str) -> int | None:
    pattern, least, most = NUMBERS[kind]
    if not pattern.fullmatch(text) or not least <= int(text) <= most:
        return None
    return int(text)
