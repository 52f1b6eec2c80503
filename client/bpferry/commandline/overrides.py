# SPDX-License-Identifier: LGPL-2.1-or-later
"""Properties of devices that override bpferry's, like libvirt's <qemu:override>.

They are applied last, so that they win over whatever bpferry would set.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from bpferry.commandline.attempt import settle
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Refusal
from bpferry.domain.names import Named, listed
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.system import Override, Property

NUMBERS: Final = {
    "signed": (r"-?[0-9]{1,19}", -(2**63), 2**63 - 1),
    "unsigned": (r"[0-9]{1,20}", 0, 2**64 - 1),
}
TRUTHS: Final = {"true": True, "false": False}


def with_overrides(
    devices: Sequence[Device], context: Context
) -> tuple[dict[str, Device], list[Refusal]]:
    """Return *devices* by their ids, with what the user sets, and what is refused of that."""
    made = {device.id: device for device in devices}
    refusals: list[Refusal] = []

    def change(override: "Named[Override]", _: Context) -> Iterator[Device | Unsupported]:
        return _changed(made, override)

    for override in listed(context.machine.qemu_overrides, "qemu-overrides"):
        for found in settle(change, override, context):
            if isinstance(found, Refusal):
                refusals.append(found)
            else:
                made[found.id] = found
    return made, refusals


def _changed(
    devices: Mapping[str, Device], override: "Named[Override]"
) -> Iterator[Device | Unsupported]:
    """Yield the device that *override* changes, with the change, or what is refused of it."""
    device = devices.get(override.value.device)
    if device is None:
        yield override.mistake(
            "device",
            f"there is no device '{override.value.device}'",
            "name one by its alias, which 'bpferry run --dry-run' shows as its id",
        )
        return
    properties: dict[str, object] = dict(device.properties)
    for one in override.parts("properties", override.value.properties):
        if one.value.name in ("id", "driver"):
            yield one.mistake(
                "name", f"'{one.value.name}' says which device it is", "leave this property out"
            )
        elif one.value.type == "remove":
            properties.pop(one.value.name, None)
        else:
            value = _value(one)
            if isinstance(value, Unsupported):
                yield value
            properties[one.value.name] = value
    yield msgspec.structs.replace(device, properties=properties)


def _value(part: "Named[Property]") -> object:
    """Return the value that *part* sets, or why there is none."""
    kind, text = part.value.type, part.value.value
    if text is None:
        return part.mistake("", "it has no value", "add the value")
    if kind == "string":
        return text
    found = TRUTHS.get(text) if kind == "bool" else _number(text, kind)
    if found is None:
        return part.mistake(
            "", f"'{text}' is no value of type '{kind}'", f"write a value of type '{kind}'"
        )
    return found


def _number(text: str, kind: str) -> int | None:
    pattern, least, most = NUMBERS[kind]
    if not re.fullmatch(pattern, text) or not least <= int(text) <= most:
        return None
    return int(text)
