# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask a QEMU what it can do.

The binary is started without a machine and with a monitor on a socket pair. Everything is asked
over QMP; what the program calls itself counts nothing. The ids of its eBPF objects are read from
the schema that it hands out, so that objects which nobody knows yet are found too.

    query-qmp-schema   names there are numbers without meaning, so that one follows them:
                       command request-ebpf -> its argument type -> member 'id' -> its enumeration
    request-ebpf       one ELF file in base64 for each id
"""

import asyncio
import base64
import binascii
import hashlib
import socket
from collections.abc import Sequence
from typing import Final, TypeVar

from bpferry.errors import QemuError
from bpferry.qemu import process
from bpferry.qemu.capabilities import Capabilities, EbpfObject
from bpferry.qemu.monitor import Monitor, arguments, open_monitor

T = TypeVar("T")

PROBE_SECONDS: Final = 20.0
"""A probe takes about 0.2 s; a machine that swaps may take a while longer."""

EXIT_SECONDS: Final = 1.0
"""A program that closed its monitor is about to exit; its status tells more than that."""

MAX_OBJECT_BYTES: Final = 8 * 1024 * 1024
"""One eBPF object. The only one of today has 20,208 bytes."""

MAX_OBJECTS: Final = 64
"""Objects of one QEMU, which has one today."""

CARD_TYPE: Final = "virtio-net-pci"


def probe(qemu: str, seconds: float = PROBE_SECONDS) -> Capabilities:
    """Return what the binary *qemu* can do.

    Raises:
        QemuError: it cannot be started, ends, hangs, or speaks no QMP; with its own words.
    """
    return asyncio.run(_probe(qemu, seconds))


async def _probe(qemu: str, seconds: float) -> Capabilities:
    with process.socket_pair() as (ours, theirs):
        argv = _arguments(qemu, str(theirs.fileno()))
        with process.start_child(argv, [theirs.fileno()]) as child:
            theirs.close()
            try:
                return await _ask_child(child, ours, seconds)
            except TimeoutError as error:
                evidence = child.tail()
                raise QemuError(
                    f"cannot probe '{qemu}': it did not answer within {seconds:g} s",
                    _words(evidence) or "is it a QEMU?",
                    evidence,
                ) from error
            except QemuError as error:
                raise _with_evidence(error, child) from error


def _arguments(qemu: str, fd: str) -> tuple[str, ...]:
    return (
        qemu,
        "-machine", "none",
        "-S",
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        *arguments(fd),
    )  # fmt: skip


async def _ask_child(child: process.Child, ours: socket.socket, seconds: float) -> Capabilities:
    """Ask while reading what *child* writes, so that a full pipe never stops it."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if child.read_output() == b"":
            loop.remove_reader(child.output)

    loop.add_reader(child.output, read)
    try:
        async with asyncio.timeout(seconds):
            async with open_monitor(child.name, ours) as monitor:
                return await _ask(child.name, monitor)
    finally:
        loop.remove_reader(child.output)


def _with_evidence(error: QemuError, child: process.Child) -> QemuError:
    """Return *error* with what *child* said and how it ended."""
    ended = child.wait(EXIT_SECONDS)
    # Where it has to be killed, its status says nothing about it.
    ending = f" ({process.describe_exit(child.exit_status())})" if ended else ""
    evidence = child.tail()
    what = error.message.replace(f"'{child.name}'", "it", 1)
    return QemuError(f"cannot probe '{child.name}': {what}{ending}", _words(evidence), evidence)


def _words(evidence: str) -> str:
    """Return the last line of *evidence* and how many others there are."""
    lines = evidence.splitlines()
    if not lines:
        return ""
    before = f" (and {len(lines) - 1} lines before)" if len(lines) > 1 else ""
    return f"it said: {lines[-1].strip()}{before}"


async def _ask(qemu: str, monitor: Monitor) -> Capabilities:
    schema = _convert(qemu, await monitor.execute("query-qmp-schema"), list[dict[str, object]])
    ids = find_object_ids(schema)
    options = await _option_parameters(qemu, monitor)
    return Capabilities(
        qemu=qemu,
        version=await _version(qemu, monitor),
        objects={name: await _fetch(qemu, monitor, name) for name in ids[:MAX_OBJECTS]},
        card_properties=await _card_properties(qemu, monitor),
        sandbox="sandbox" in options,
        exit_with_parent="exit-with-parent" in options.get("run-with", ()),
    )


def find_object_ids(schema: Sequence[dict[str, object]]) -> tuple[str, ...]:
    """Return the values that request-ebpf takes as 'id'; none where it does not exist."""
    entities = {entity.get("name"): entity for entity in schema}
    command = entities.get("request-ebpf", {})
    for member in _records(entities.get(command.get("arg-type"), {}), "members"):
        if member.get("name") == "id":
            values = entities.get(member.get("type"), {})
            # 'values' is the older form of an enumeration; QEMU 6.2 and later give both.
            names = [entry.get("name") for entry in _records(values, "members")]
            return tuple(name for name in names if isinstance(name, str))
    return ()


def _records(entity: dict[str, object], key: str) -> list[dict[str, object]]:
    value = entity.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


async def _version(qemu: str, monitor: Monitor) -> tuple[int, int, int]:
    answer = _convert(qemu, await monitor.execute("query-version"), dict[str, object])
    numbers = _convert(qemu, answer.get("qemu"), dict[str, int])
    return (numbers.get("major", 0), numbers.get("minor", 0), numbers.get("micro", 0))


async def _fetch(qemu: str, monitor: Monitor, name: str) -> EbpfObject:
    answer = _convert(qemu, await monitor.execute("request-ebpf", {"id": name}), dict[str, object])
    return decode_object(qemu, name, _convert(qemu, answer.get("object"), str))


def decode_object(qemu: str, name: str, text: str) -> EbpfObject:
    """Return the object *name* that *qemu* sent as base64 *text*.

    Raises:
        QemuError: it is not clean base64, is empty, or is too long.
    """
    try:
        data = base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise QemuError(f"'{qemu}' sent its eBPF object '{name}' damaged: {error}") from error
    if base64.b64encode(data).decode() != text:
        # Python skips what is no base64 and forgives surplus padding, even when told to be strict.
        raise QemuError(f"'{qemu}' sent its eBPF object '{name}' damaged: it is no clean base64")
    if not 0 < len(data) <= MAX_OBJECT_BYTES:
        raise QemuError(f"'{qemu}' sent an eBPF object '{name}' of {len(data)} bytes")
    return EbpfObject(data, hashlib.sha256(data).digest())


async def _card_properties(qemu: str, monitor: Monitor) -> frozenset[str]:
    try:
        answer = await monitor.execute("device-list-properties", {"typename": CARD_TYPE})
    except QemuError:
        # Certainly no such device: a QEMU of a kind of machine without PCI.
        return frozenset()
    properties = _convert(qemu, answer, list[dict[str, object]])
    return frozenset(str(entry.get("name")) for entry in properties)


async def _option_parameters(qemu: str, monitor: Monitor) -> dict[str, tuple[str, ...]]:
    """Return the command line options that QEMU lists, each with its parameters."""
    answer = await monitor.execute("query-command-line-options")
    options = _convert(qemu, answer, list[dict[str, object]])
    return {
        str(option.get("option")): tuple(
            str(parameter.get("name")) for parameter in _records(option, "parameters")
        )
        for option in options
    }


def _convert(qemu: str, answer: object, kind: type[T]) -> T:
    """Return *answer* as *kind*, strictly."""
    import msgspec  # noqa: PLC0415 - not for `bpferry --help`

    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise QemuError(f"'{qemu}' gave an answer that QMP does not know: {error}") from error
