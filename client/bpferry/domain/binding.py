# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a field of the model is bound to a place in a libvirt domain document.

Each class of the model is one element, each field a place in or below it:

    cache: Placed[Cache | None, At("driver/@cache")] = None        an attribute
    title: Placed[str | None, At("title")] = None                  the text of an element
    read_only: Placed[bool, At("readonly", Form.PRESENT)] = False  whether there is an element
    throttle: Placed[Throttle | None, At("iotune")] = None         an element with its own fields
    disks: Placed[tuple[Disk, ...], At("devices/disk")] = ()       as many as there are
    boot: Placed[tuple[str, ...], At("os/boot/@dev")] = ()         an attribute of each of many

The native form has the same fields under their own names, with hyphens. So one class says which
fields there are, how they are written in both forms, and which values are possible.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
from msgspec import Struct

__all__ = ["NAMESPACES", "PATHS", "WORDS", "At", "Form", "Placed", "Table"]


class Form(Enum):
    """How a value is written in XML."""

    PLAIN = auto()
    """As text: words, and numbers in decimal or hexadecimal."""
    HEX = auto()
    """A number that libvirt's schema wants in hexadecimal; it is read like any number."""
    FILE = auto()
    """The path of a file; a relative one begins at the folder of the document."""
    FOLDER = auto()
    """The same for a folder."""
    SECRET = auto()
    """A text that nobody else may see: no message repeats it."""
    PLACE = auto()
    """A path like that of a file, of something that need not exist yet, such as a socket."""
    SIZE = auto()
    """An element's text with its attribute ``unit`` (by default KiB). Bytes in the model."""
    YES_NO = auto()
    ON_OFF = auto()
    ENABLED = auto()
    """enabled or disabled."""
    PRESENT = auto()
    """True if the element is there."""
    STATE = auto()
    """True if the element is there, unless its attribute ``state`` is ``off``."""


WORDS: Final[Mapping[Form, Mapping[str, bool]]] = {
    Form.YES_NO: {"yes": True, "no": False},
    Form.ON_OFF: {"on": True, "off": False},
    Form.ENABLED: {"enabled": True, "disabled": False},
    Form.STATE: {"on": True, "off": False},
}
"""The words for a truth value, by form."""


PATHS: Final = (Form.FILE, Form.FOLDER, Form.PLACE)
"""The forms that are paths."""


class At(Struct, frozen=True):
    """Where a field is, relative to the element of its class."""

    path: str
    form: Form = Form.PLAIN
    words: tuple[tuple[str, str], ...] = ()
    """Pairs of libvirt's word and ours, for values with another name here."""
    unit: str = "KiB"
    """What a size without a unit is counted in."""
    absent: object = msgspec.UNSET
    """The default in a libvirt document, if it is not that of the native form."""
    instead: object = msgspec.UNSET
    """What takes its place when it is left out of either document, if that is not the default."""
    always: bool = False
    """Written to XML even if it has its default, since libvirt's schema requires it."""
    demanded: bool = False
    """An attribute without which the element is bad input, for libvirt as for us."""
    blank: bool = False
    """An empty value means the same as no value."""
    verbatim: bool = False
    """Spaces around the text are part of it."""
    lines: bool = False
    """The text may have several lines. Nothing of it reaches QEMU."""
    also: str = ""
    """Another element that means the same when a document is read; it is never written."""


if TYPE_CHECKING:
    from typing import Annotated as Placed
else:

    class Placed:
        """What a field is and where it is, until ``Table`` takes them apart.

        It is an ``Annotated`` for who checks types. As one that really is there, for each field of
        the model, it would take a tenth of the time in which a VM is started.
        """

        def __class_getitem__(cls, what_and_where: tuple[object, At]) -> tuple[object, At]:
            """Return both as they are."""
            return what_and_where


class Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, rename="kebab"):
    """What all classes of the model have in common: no unknown fields, and none that change."""

    places: ClassVar[Mapping[str, At]] = {}
    """Where each field is, by its name as an attribute. The annotation says what it is."""

    def __init_subclass__(cls) -> None:
        """Take the places of the fields out of their annotations, which are for msgspec."""
        annotations = cls.__annotations__
        placed = {name: both for name, both in annotations.items() if isinstance(both, tuple)}
        annotations |= {name: what for name, (what, _) in placed.items()}
        cls.places = {**cls.places, **{name: where for name, (_, where) in placed.items()}}


NAMESPACES: Final = {
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "bpferry": "https://bpferry.org/schemas/domain/1.0",
}
"""The namespaces of the prefixes that paths use."""
