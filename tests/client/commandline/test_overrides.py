# SPDX-License-Identifier: LGPL-2.1-or-later
"""Properties of devices that the user sets past bpferry."""

import pytest

from bpferry.commandline.overrides import with_overrides
from bpferry.commandline.parts import Device
from bpferry.errors import Unsupported
from tests.client.commandline.sound import sound
from tests.client.commandline.system_parts import context_of, values

DEVICE = Device("e1000", "net0", "cards[0]", {"mac": "52:54:00:00:00:01", "bootindex": 1})


def override(*properties: str, alias: str = "net0") -> str:
    """Return the part of a document that sets *properties* of one device."""
    inner = "".join(f"<qemu:property {one}/>" for one in properties)
    frontend = f"<qemu:frontend>{inner}</qemu:frontend>"
    return f"<qemu:override><qemu:device alias='{alias}'>{frontend}</qemu:device></qemu:override>"


def properties(text: str) -> dict[str, object]:
    """Return the properties of the device with what *text* says."""
    found, refusals = with_overrides([DEVICE], context_of(text))
    sound(refusals)
    return dict(found["net0"].properties)


def test_values_of_each_type() -> None:
    """Texts, numbers and truth values are set, the last one counts, and one can be removed."""
    text = override(
        "name='a' type='string' value='x,y'",
        "name='b' type='signed' value='-321'",
        "name='c' type='unsigned' value='18446744073709551615'",
        "name='d' type='bool' value='true'",
        "name='bootindex' type='unsigned' value='7'",
        "name='mac' type='remove'",
        "name='nothing' type='remove'",
    )

    assert {"a": "x,y", "b": -321, "c": 2**64 - 1, "d": True, "bootindex": 7} == properties(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (override("name='a' type='bool' value='on'"), "properties[0]"),
        (override("name='a' type='unsigned' value='-1'"), "properties[0]"),
        (override("name='a' type='signed' value='9223372036854775808'"), "properties[0]"),
        (override("name='a' type='string'"), "properties[0]"),
        (override("name='id' type='string' value='x'"), "properties[0].name"),
        (override("name='a' type='bool' value='true'", alias="net7"), "device"),
    ],
)
def test_what_cannot_be_set(text: str, key: str) -> None:
    """A value is one of its type, and the device is there and stays what it is."""
    with pytest.raises(Unsupported) as caught:
        properties(text)

    assert f"qemu-overrides[0].{key}" == caught.value.element


def test_all_else_is_set() -> None:
    """What cannot be set is told, all of it, and the other properties are set."""
    good, bad = "name='a' type='string' value='x'", "name='b' type='bool' value='on'"
    text = override(bad, good, bad)
    text = text.replace("</qemu:override>", override(good, alias="net7")[len("<qemu:override>") :])

    found, refusals = with_overrides([DEVICE], context_of(text))

    assert {"a": "x", **DEVICE.properties} == dict(found["net0"].properties)
    assert [
        "qemu-overrides[0].properties[0]",
        "qemu-overrides[0].properties[2]",
        "qemu-overrides[1].device",
    ] == [refusal.error.element for refusal in refusals]


@pytest.mark.parametrize(
    ("behavior", "expected"),
    [
        ("none", []),
        ("omit", ['{"deprecated-output":"hide"}']),
        ("reject", ['{"deprecated-output":"hide","deprecated-input":"reject"}']),
        ("crash", ['{"deprecated-output":"hide","deprecated-input":"crash"}']),
    ],
)
def test_deprecation(behavior: str, expected: list[str]) -> None:
    """What QEMU does with what it will drop one day is an option."""
    assert expected == values(context_of(f"<qemu:deprecation behavior='{behavior}'/>"), "-compat")
