# SPDX-License-Identifier: LGPL-2.1-or-later
"""The value of one option, in the form in which it was found.

    virtio-net-pci,netdev=n0,id=net0       key=value (QemuOpts of QEMU, util/qemu-option.c)
    {"driver":"virtio-net-pci","id":"net0"}    JSON, where the value begins with a brace

What is changed is written in the same form, and everything else stays as it was, to the byte. In
key=value, a comma in a value is written twice; the first word may be a value whose key is implied;
a later word without "=" is a flag, and means "off" if it begins with "no".
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

ON: Final = ("on", "yes", "true", "y")
OFF: Final = ("off", "no", "false", "n")
"""The words for a truth value (qapi_bool_parse in qapi/qapi-util.c)."""

SPACE: Final = re.compile(r"[ \t\n\r]*")

DECIMAL: Final = re.compile(r"[0-9]{1,9}")

DECODER: Final = json.JSONDecoder()


class NotUnderstoodError(Exception):
    """Part of a command line has a form that is not known here; it is left as it is."""


class Item(NamedTuple):
    """One property."""

    key: str
    value: object
    """Text in key=value, any JSON value in JSON."""
    before: str
    """What stands between it and the one before."""
    raw: str


class Properties(Struct, frozen=True):
    """The properties of one option, in their order."""

    items: tuple[Item, ...]
    tail: str = ""
    """What stands behind the last one."""
    is_json: bool = False

    @property
    def text(self) -> str:
        """The value of the option."""
        return "".join(item.before + item.raw for item in self.items) + self.tail

    def get(self, key: str) -> object | None:
        """Return the value of *key*; None if it is not there. Of several, the last one counts."""
        return next((item.value for item in reversed(self.items) if item.key == key), None)

    def text_of(self, key: str) -> str | None:
        """Return the value of *key*, which has to be a text.

        Raises:
            NotUnderstoodError: it is something else.
        """
        value = self.get(key)
        if value is None or isinstance(value, str):
            return value
        raise NotUnderstoodError(f"'{key}' is not a text")

    def flag(self, key: str) -> bool | None:
        """Return the truth value of *key*.

        Raises:
            NotUnderstoodError: it is not one.
        """
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return value
        if value in ON or value in OFF:
            return value in ON
        raise NotUnderstoodError(f"'{key}' is neither on nor off")

    def number(self, key: str) -> int | None:
        """Return the whole number that *key* is.

        Raises:
            NotUnderstoodError: it is not one.
        """
        value = self.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, str) and DECIMAL.fullmatch(value):
            return int(value)
        raise NotUnderstoodError(f"'{key}' is not a number")

    def has(self, *keys: str) -> bool:
        """Say whether any of *keys* is there."""
        return any(item.key in keys for item in self.items)

    def without(self, *keys: str) -> "Properties":
        """Return the same without *keys*."""
        return self._with_items([item for item in self.items if item.key not in keys])

    def with_values(self, values: Mapping[str, object]) -> "Properties":
        """Return the same with *values*: where their keys were, and the new ones at the end."""
        last = {item.key: place for place, item in enumerate(self.items)}
        kept = [
            self._written(item, values[item.key]) if item.key in values else item
            for place, item in enumerate(self.items)
            if item.key not in values or place == last[item.key]
        ]
        new = [
            self._written(Item(key, None, ",", f"{key}="), values[key])
            for key in values
            if key not in last
        ]
        return self._with_items([*kept, *new])

    def _with_items(self, items: list[Item]) -> "Properties":
        if items and self.items:
            items = [items[0]._replace(before=self.items[0].before), *items[1:]]
        return replace(self, items=tuple(items))

    def _written(self, item: Item, value: object) -> Item:
        """Return *item* with *value*, in its own form: a bare first word stays one."""
        if self.is_json:
            shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            return item._replace(value=value, raw=f"{json.dumps(item.key)}:{shown}")
        text = ("off", "on")[value] if isinstance(value, bool) else str(value)
        is_bare = item.raw == str(item.value).replace(",", ",,")
        key = "" if is_bare else f"{item.key}="
        return item._replace(value=text, raw=key + text.replace(",", ",,"))


def read_properties(text: str, implied: str) -> Properties:
    """Return what *text*, the value of an option, says; *implied* is the key of a first bare word.

    Raises:
        NotUnderstoodError: it has neither form.
    """
    if text.startswith("{"):
        return _read_json(text)
    items = []
    before = ""
    for number, raw in enumerate(_segments(text)):
        key, value = _key_and_value(raw, "" if number else implied)
        items.append(Item(key, value, before, raw))
        before = ","
    return Properties(tuple(items), "," if text.endswith(",") and not _is_doubled(text) else "")


def _is_doubled(text: str) -> bool:
    """Say whether the commas at the end of *text* are parts of a value."""
    return (len(text) - len(text.rstrip(","))) % 2 == 0


def _segments(text: str) -> Iterator[str]:
    """Yield what is between the commas of *text* that are not written twice."""
    begin = place = 0
    while place < len(text):
        if text[place] != ",":
            place += 1
        elif text[place + 1 : place + 2] == ",":
            place += 2
        else:
            yield text[begin:place]
            begin = place = place + 1
    if begin < len(text):
        yield text[begin:]


def _key_and_value(raw: str, implied: str) -> tuple[str, str]:
    key, has_value, value = raw.partition("=")
    if has_value and "," not in key:
        return key, value.replace(",,", ",")
    if implied:
        return implied, raw.replace(",,", ",")
    if "," in key or not key:
        raise NotUnderstoodError(f"'{raw}' is neither a property nor a flag")
    return (key[2:], "off") if key.startswith("no") else (key, "on")


def _read_json(text: str) -> Properties:
    items: list[Item] = []
    begin = end = 1
    try:
        end = _skip(text, end)
        while text[end] == '"':
            start = end
            key, end = _decode(text, start)
            end = _expect(text, _skip(text, end), ":")
            value, end = _decode(text, _skip(text, end))
            before = text[begin:start] if items else text[:start]
            items.append(Item(str(key), value, before, text[start:end]))
            begin = end
            after = _skip(text, end)
            if text[after] != ",":
                break
            end = _skip(text, after + 1)
        last = _expect(text, _skip(text, begin), "}")
    except (ValueError, IndexError, RecursionError) as error:
        raise NotUnderstoodError("it is not JSON") from error
    if _skip(text, last) != len(text) or len({item.key for item in items}) != len(items):
        raise NotUnderstoodError("it is not one JSON object, or names a property twice")
    return Properties(tuple(items), text[begin:] if items else text, is_json=True)


def _decode(text: str, place: int) -> tuple[object, int]:
    value, end = DECODER.raw_decode(text, place)
    return value, end


def _expect(text: str, place: int, character: str) -> int:
    if text[place] != character:
        raise ValueError(character)
    return place + 1


def _skip(text: str, place: int) -> int:
    """Return where the space at *place* ends."""
    found = SPACE.match(text, place)
    return place if found is None else found.end()
