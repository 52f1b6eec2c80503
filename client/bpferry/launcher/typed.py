# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device of key=value in JSON, where each property has its type.

QEMU takes a list, such as that of the eBPF fds, only in JSON (since 8.2). In JSON ``"mq":"on"`` is
an error, so what key=value leaves open has to be known: the capabilities say it.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from bpferry.launcher.properties import OFF, ON, Item, NotUnderstoodError, Properties

OF_ALL_DEVICES: Final = {"driver": "str", "id": "str", "bus": "str", "addr": "str"}
"""What is no property of a driver, and ``addr``, which older QEMUs say is a number."""

TEXTS: Final = ("str", "OnOffAuto")
NUMBER_TYPE: Final = re.compile(r"u?int\d*")
NUMBER: Final = re.compile(r"(?P<sign>-?)(?:0x(?P<hex>[0-9a-fA-F]{1,16})|(?P<other>[0-9]{1,20}))")


def to_json(properties: Properties, types: Mapping[str, str]) -> Properties:
    """Return *properties* of a device in JSON; *types* are those of its driver's properties.

    Raises:
        NotUnderstoodError: the type of one is not known, or its value does not have that type.
    """
    if properties.is_json:
        return properties
    found: dict[str, object] = {}
    for item in properties.items:
        kind = OF_ALL_DEVICES.get(item.key) or types.get(item.key, "")
        found[item.key] = _value(item.key, str(item.value), kind)
    items: list[Item] = []
    for key, value in found.items():
        shown = json.dumps(value, ensure_ascii=False)
        items.append(Item(key, value, "," if items else "{", f"{json.dumps(key)}:{shown}"))
    return Properties(tuple(items), "}", is_json=True)


def _value(key: str, text: str, kind: str) -> object:
    if kind in TEXTS:
        return text
    if kind == "bool" and (text in ON or text in OFF):
        return text in ON
    number = NUMBER.fullmatch(text) if NUMBER_TYPE.fullmatch(kind) else None
    if number is None:
        raise NotUnderstoodError(f"'{key}={text}' cannot be written in JSON: {_why(kind)}")
    if number["hex"]:
        return int(f"{number['sign']}{number['hex']}", 16)
    base = 8 if len(number["other"]) > 1 and number["other"].startswith("0") else 10
    try:
        return int(f"{number['sign']}{number['other']}", base)
    except ValueError as error:
        raise NotUnderstoodError(f"'{key}={text}' is not a number") from error


def _why(kind: str) -> str:
    return f"it is not of the type '{kind}'" if kind else "its type is not known"
