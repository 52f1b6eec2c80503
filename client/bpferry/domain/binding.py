# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a field of the model is bound to a place in a libvirt domain document.

Each class of the model is one element, each field a place in or below it:

    cache: Annotated[Cache | None, At("driver/@cache")] = None        an attribute
    title: Annotated[str | None, At("title")] = None                  the text of an element
    read_only: Annotated[bool, At("readonly", Form.PRESENT)] = False  whether there is an element
    throttle: Annotated[Throttle | None, At("iotune")] = None         an element with its own fields
    disks: Annotated[tuple[Disk, ...], At("devices/disk")] = ()       as many as there are
    boot: Annotated[tuple[str, ...], At("os/boot/@dev")] = ()         an attribute of each of many

The native form has the same fields under their own names, written with hyphens. So one class says
what there is, how it is spelt in both forms, and what values are possible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import msgspec


class Form(Enum):
    """How a value is written in XML."""

    PLAIN = auto()
    """As text: words, and numbers in decimal or hexadecimal."""
    HEX = auto()
    """A number that libvirt's schema wants in hexadecimal; read as any number is."""
    FILE = auto()
    """The path of a file; one that is relative begins at the folder of the document."""
    FOLDER = auto()
    """As of a file, that of a folder."""
    SECRET = auto()
    """As text that nobody else may see: no message repeats it."""
    PLACE = auto()
    """A path like that of a file, of what need not be there yet, such as a socket."""
    SIZE = auto()
    """An element's text with its attribute ``unit`` (KiB where none is given). Bytes here."""
    YES_NO = auto()
    ON_OFF = auto()
    ENABLED = auto()
    """enabled or disabled."""
    PRESENT = auto()
    """True where the element is there."""
    STATE = auto()
    """True where the element is there, unless its attribute ``state`` is ``off``."""


WORDS: Final[Mapping[Form, Mapping[str, bool]]] = {
    Form.YES_NO: {"yes": True, "no": False},
    Form.ON_OFF: {"on": True, "off": False},
    Form.ENABLED: {"enabled": True, "disabled": False},
    Form.STATE: {"on": True, "off": False},
}
"""The words for a truth value, by form."""


PATHS: Final = (Form.FILE, Form.FOLDER, Form.PLACE)
"""The forms of what is a path."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a field stands, relative to the element of its class."""

    path: str
    form: Form = Form.PLAIN
    words: tuple[tuple[str, str], ...] = ()
    """Pairs of libvirt's word and ours, for values that have another name here."""
    unit: str = "KiB"
    """What a size without a unit is counted in."""
    absent: object = msgspec.UNSET
    """What a libvirt document means that says nothing here, if that is not the native default."""
    instead: object = msgspec.UNSET
    """What either document means from which this is left out, if that is not what it means where it
    says nothing."""
    always: bool = False
    """Written to XML also where it has its default, since libvirt's schema demands it."""
    demanded: bool = False
    """An attribute without which its element is bad input, to libvirt as to us."""
    blank: bool = False
    """An empty value says the same as none."""
    verbatim: bool = False
    """Spaces around the text are part of it."""
    also: str = ""
    """Another element that says the same in documents that are read; it is never written."""


class Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, rename="kebab"):
    """What all classes of the model have in common: no unknown field, none that changes."""


NAMESPACES: Final = {
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "bpferry": "https://bpferry.org/schemas/domain/1.0",
}
"""The prefixes that paths use, and what they stand for."""
