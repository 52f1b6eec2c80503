# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry attach-nic, detach-nic, set-link, attach-disk, detach-disk: devices of a running VM."""

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from bpferry.cli import output
from bpferry.cli.patience import connect_patiently, connect_to_wait
from bpferry.domain.document import Document, read_devices
from bpferry.domain.model.cards import Card
from bpferry.domain.toml import to_plain
from bpferry.errors import BadInput
from bpferry.machine.control.client import Control
from bpferry.machine.control.running import connect
from bpferry.machine.image_formats import CONTAINERS, HEAD_BYTES, format_of
from bpferry_wire import limits

FIELDS: Final = ("queues", "rss", "mac", "mtu", "driver")
"""Options that are fields of a card."""

NEW: Final = "new card"
"""What messages call a card that no file describes."""

KEPT: Final = "until the VM ends; to keep it, add it to '{}'"

GRACE_SECONDS: Final = 60.0
"""For QEMU to answer, and what was behind a device to be given back."""


def attach_nic(options: argparse.Namespace) -> int:
    """Plug a card into a VM, and say what it has become.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: the card cannot be plugged in; nothing of it is left.
    """
    source, is_xml = NEW, False
    if options.file is None:
        card = _card_of(options)
    else:
        document = _read(options)
        card, source, is_xml = document.machine.cards[0], options.file, document.kind == "xml"
    text = json.dumps(to_plain(card), ensure_ascii=False, separators=(",", ":"))
    with connect_patiently(options.name) as control:
        told = control.ask(
            "attach-nic",
            **_checked({"card": text, "source": source}),
            xml=is_xml,
            **{"require-ebpf": options.require_ebpf},
        )
        if options.json:
            output.print_json({"name": options.name, **told})
        else:
            file = str(control.ask("summary").get("file"))
            output.print_text("\n".join(_attached(options.name, told, file)))
    return 0


def _read(options: argparse.Namespace) -> Document:
    given = [name for name in FIELDS if getattr(options, name)]
    if given:
        message = f"'--{given[0]}' is for a card that no file describes"
        raise BadInput(message, f"write {given[0]} into '{options.file}'")
    document = read_devices(Path(options.file), "interface", "cards")
    count = len(document.machine.cards)
    if count != 1:
        raise BadInput(
            f"'{options.file}' describes {output.count(count, 'card')}",
            "write a file for each card, and run the command once for each",
        )
    return document


def _card_of(options: argparse.Namespace) -> Card:
    values = {name: getattr(options, name) for name in FIELDS if getattr(options, name)}
    if options.mac is not None:
        values["mac"] = options.mac.hex(":")
    if options.tap is not None:
        values |= {"type": "ethernet", "tap": options.tap, "managed": False}
    elif options.user:
        values["type"] = "user"
    else:
        kind = "network" if options.bridge is None else "bridge"
        values |= {"type": kind, kind: getattr(options, kind)}
    return msgspec.convert(values, Card)


def _checked(texts: Mapping[str, str]) -> Mapping[str, str]:
    """Return *texts*, which fit into a request."""
    if sum(len(text.encode()) for text in texts.values()) > limits.MAX_REQUEST_BYTES // 2:
        raise BadInput(
            "the card's description is too long to be handed to a running VM",
            "leave out what has its default, or write the card into the VM's own description",
        )
    return texts


def _attached(vm_name: str, told: Mapping[str, object], file: str) -> Iterator[str]:
    place = f"tap '{told['tap']}'" if "tap" in told else f"type '{told['type']}'"
    if "bridge" in told:
        place += f" on bridge '{told['bridge']}'"
    queues = told["queues"]
    shown = output.count(queues if isinstance(queues, int) else 1, "queue")
    vhost = ", vhost" if told.get("vhost") else ""
    yield f"'{vm_name}' has the card {told['id']}: {told['mac']}, {place}, {shown}{vhost}"
    yield f"  steering: {told['steering']} ({told['because']})"
    yield from _warnings(told)
    yield f"  {KEPT.format(file)}"


def _warnings(told: Mapping[str, object]) -> Iterator[str]:
    for warning in _records(told.get("warnings")):
        hint = f" (hint: {warning['hint']})" if warning.get("hint") else ""
        yield f"  warning: {warning['message']}{hint}"


def _records(found: object) -> list[Mapping[str, object]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def detach_nic(vm_name: str, card: str, *, timeout_s: int, as_json: bool) -> int:
    """Take a card out of a VM, and wait until the guest has let go of it.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it has no such card, or the guest does not let go.
    """
    with _waiting_for_guest(vm_name, card, timeout_s) as control:
        told = control.ask("detach-nic", card=card, seconds=timeout_s)
    if as_json:
        output.print_json({"name": vm_name, **told})
    else:
        output.print_text(f"the card {told['id']} is out of '{vm_name}'")
    return 0


@contextmanager
def _waiting_for_guest(vm_name: str, device: str, timeout_s: int) -> Iterator[Control]:
    what = f"its guest to let go of '{device}', for up to {timeout_s} s"
    with connect_to_wait(vm_name, timeout_s + GRACE_SECONDS, what) as control:
        try:
            yield control
        except KeyboardInterrupt:
            asked = f"the guest was asked, and may still let go of '{device}'"
            output.say(f"{asked}; see: bpferry status {vm_name}")
            raise


def set_link(vm_name: str, card: str, *, link: str, as_json: bool) -> int:
    """Let the guest see the link of a card go up or down.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it has no such card.
    """
    with connect(vm_name) as control:
        told = control.ask("set-link", card=card, up=link == "up")
    if as_json:
        output.print_json({"name": vm_name, **told})
    else:
        output.print_text(f"the link of {told['id']} is {told['link']}")
    return 0


def attach_disk(options: argparse.Namespace) -> int:
    """Plug a disk into a VM, and say what it is called.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: the disk cannot be plugged in; nothing of it is left.
    """
    path = Path(options.file).absolute()
    with connect_patiently(options.name) as control:
        told = control.ask(
            "attach-disk",
            path=str(path),
            format=options.format or _default_format(path),
            bus=options.bus,
            **{"block-device": path.is_block_device(), "read-only": options.read_only},
        )
        if options.json:
            output.print_json({"name": options.name, **told})
        else:
            file = str(control.ask("summary").get("file"))
            words = f"'{options.name}' has the disk {told['target']} on {told['bus']}: {path}"
            output.print_text("\n".join((words, *_warnings(told), f"  {KEPT.format(file)}")))
    return 0


def _default_format(path: Path) -> str:
    """Return ``raw``, which is the default, unless the image is a container.

    Raises:
        BadInput: it is one; the user has to say what is meant.
    """
    try:
        with path.open("rb") as file:
            found = format_of(file.read(HEAD_BYTES))
    except OSError:
        return "raw"  # The VM says what is wrong with it.
    if found in CONTAINERS:
        raise BadInput(
            f"'{path}' is {found}, and no format is given: used as raw, the guest would see the "
            "container instead of its contents, and destroy it by writing",
            f"add --format {found}, or --format raw if the guest itself writes {found} to its disk",
        )
    return "raw"


def detach_disk(vm_name: str, target: str, *, timeout_s: int, as_json: bool) -> int:
    """Take a disk out of a VM, and wait until the guest has let go of it.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it has no such disk, or the guest does not let go.
    """
    with _waiting_for_guest(vm_name, target, timeout_s) as control:
        told = control.ask("detach-disk", target=target, seconds=timeout_s)
    if as_json:
        output.print_json({"name": vm_name, **told})
    else:
        output.print_text(f"the disk {target} is out of '{vm_name}'")
    return 0
