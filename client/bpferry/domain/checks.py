# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a document of the right types to the model, checking what types cannot say.

Names are the point where a description could reach further than it should: into QEMU's options,
into the kernel's pattern for interface names, out of a path. Each is held to a pattern here.
"""

import re
from pathlib import Path
from typing import Final

from bpferry.domain import model
from bpferry.domain.document import CardTable, DiskTable, Document
from bpferry.errors import BadInput

MAX_PATH_BYTES: Final = 4095
"""PATH_MAX without its final zero byte (linux/limits.h)."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CARD_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")
MACHINE_TYPE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


def shorten(value: object) -> str:
    """Return *value* as it may stand in a message."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes no number of more than 4,300 digits.
        return "a number beyond all bounds"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - fits a line


class Checker:
    """Makes the model; *path* is for messages, and its folder is where relative paths begin."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.absolute().parent

    def machine(self, document: Document) -> model.Machine:
        """Return the VM that *document* describes.

        Raises:
            BadInput: with the key, what was found, and what is possible.
        """
        name = self._matching(document.name, "name", NAME, "letters, digits, '.', '_' and '-'")
        if document.initrd is not None and document.kernel is None:
            raise self._bad("initrd", "needs 'kernel' beside it")
        if document.command_line and document.kernel is None:
            raise self._bad("command-line", "needs 'kernel' beside it")
        cards = tuple(self._card(card, index, name) for index, card in enumerate(document.cards))
        self._check_distinct(cards)
        return model.Machine(
            name=name,
            memory_mib=document.memory_mib,
            vcpus=document.vcpus,
            qemu=self._path_of(document.qemu, "qemu") or model.default_qemu(),
            machine_type=self._machine_type(document.machine),
            accelerator=model.Accelerator(document.accelerator),
            kernel=self._path_of(document.kernel, "kernel"),
            initrd=self._path_of(document.initrd, "initrd"),
            command_line=self._command_line(document.command_line),
            serial=document.serial,
            disks=tuple(self._disk(disk, index) for index, disk in enumerate(document.disks)),
            cards=cards,
        )

    def _bad(self, element: str, sentence: str, hint: str = "") -> BadInput:
        return BadInput(f"'{self._path}': '{element}' {sentence}", hint, element)

    def _matching(self, value: str, element: str, pattern: re.Pattern[str], allowed: str) -> str:
        if not pattern.fullmatch(value):
            raise self._bad(element, f"is {shorten(value)}: possible are {allowed}")
        return value

    def _machine_type(self, value: str | None) -> str:
        if value is None:
            return model.default_machine_type()
        return self._matching(value, "machine", MACHINE_TYPE, "machine types of QEMU, as in 'q35'")

    def _path_of(self, value: str | None, element: str) -> str | None:
        if value is None:
            return None
        if not value or "\0" in value or len(value.encode()) > MAX_PATH_BYTES:
            raise self._bad(element, f"is {shorten(value)}: expected the path of a file")
        return str(self._folder / value)

    def _command_line(self, value: str) -> str:
        if not value.isprintable():
            raise self._bad("command-line", f"is {shorten(value)}: it has to be one printable line")
        if len(value.encode()) > model.MAX_COMMAND_LINE_BYTES:
            raise self._bad(
                "command-line",
                f"has {len(value.encode())} bytes: Linux takes {model.MAX_COMMAND_LINE_BYTES}",
            )
        return value

    def _disk(self, disk: DiskTable, index: int) -> model.Disk:
        path = self._path_of(disk.path, f"disks[{index}].path")
        assert path is not None  # noqa: S101 - only None gives None, and 'path' is a needed key
        return model.Disk(path, model.DiskFormat(disk.format), disk.read_only)

    def _card(self, card: CardTable, index: int, vm_name: str) -> model.Card:
        here = f"cards[{index}]"
        many = card.queues > 1
        if card.rss and not many:
            raise self._bad(
                f"{here}.rss",
                "is true on a card with one queue: there is nothing to spread",
                f"set '{here}.queues' to 2 or more, or leave 'rss' out",
            )
        rss = many if card.rss is None else card.rss
        if card.require_ebpf and not rss:
            raise self._bad(
                f"{here}.require-ebpf",
                "is true on a card without RSS: there is nothing to steer",
                f"set '{here}.queues' to 2 or more and 'rss' to true",
            )
        return model.Card(
            id=self._card_name(card.name, index),
            tap=self._tap_name(card.tap, f"{here}.tap"),
            mac=self._mac(card.mac, f"{here}.mac") or model.derive_mac(vm_name, index),
            queues=card.queues,
            rss=rss,
            require_ebpf=card.require_ebpf,
        )

    def _card_name(self, value: str | None, index: int) -> str:
        if value is None:
            return f"net{index}"
        allowed = "a lower case letter, then up to 15 of these, digits and '_'"
        return self._matching(value, f"cards[{index}].name", CARD_NAME, allowed)

    def _tap_name(self, value: str, element: str) -> str:
        """Return *value* if the kernel allows it as the name of an interface.

        The rules are those of dev_valid_name() in net/core/dev.c; '%' is refused on top, since
        the kernel would take it for a pattern of names to make.
        """
        forbidden = any(sign in "/:%" or sign.isspace() or not sign.isprintable() for sign in value)
        if not 1 <= len(value.encode()) <= 15 or value in (".", "..") or forbidden:  # noqa: PLR2004
            raise self._bad(
                element,
                f"is {shorten(value)}: possible are 1 to 15 bytes without '/', ':', '%' and space",
            )
        return value

    def _mac(self, value: str | None, element: str) -> str | None:
        if value is None:
            return None
        self._matching(value, element, MAC, "addresses such as '52:54:00:12:34:56'")
        octets = bytes.fromhex(value.replace(":", ""))
        if octets[0] & 1 or not any(octets):
            raise self._bad(element, f"is '{value}': expected the address of a single station")
        return value.lower()

    def _check_distinct(self, cards: tuple[model.Card, ...]) -> None:
        for key, attribute in (("name", "id"), ("tap", "tap"), ("mac", "mac")):
            seen: dict[str, int] = {}
            for index, card in enumerate(cards):
                value = getattr(card, attribute)
                first = seen.setdefault(value, index)
                if first != index:
                    raise self._bad(
                        f"cards[{index}].{key}", f"is '{value}', as 'cards[{first}].{key}' is"
                    )
