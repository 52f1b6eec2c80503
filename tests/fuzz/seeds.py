# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real input for each target, from which the fuzzer starts, and words that it may put together."""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpferry.domain.document import to_toml, to_xml
from bpferry.errors import BadInput, BpferryError
from bpferry.machine.control import packets as control
from bpferry_helper.bpf.embedded import EM_BPF, ET_REL
from bpferry_wire.limits import MAX_REQUEST_BYTES
from bpferry_wire.packets import encode_reply, encode_request
from tests.client.domain.machines import machines
from tests.fuzz.targets import REPLIED
from tests.support import packets
from tests.wire import strategies

T = TypeVar("T")

REPOSITORY: Final = Path(__file__).parents[2]

WORDS: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_.-]{2,23}")
MOST_WORDS: Final = 2000
EXAMPLES: Final = 30


def seeds(target: str) -> list[bytes]:
    """Return what *target* begins with."""
    return list(_SEEDS[target]())


def words(target: str) -> list[bytes]:
    """Return words of its seeds, which a fuzzer would take long to guess letter by letter."""
    found = {word for seed in seeds(target) for word in WORDS.findall(seed)}
    return sorted(found)[:MOST_WORDS]


def _examples(strategy: st.SearchStrategy[T]) -> list[T]:
    """Return the same examples of *strategy* each time."""
    found: list[T] = []

    @settings(
        derandomize=True,
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found


def _requests() -> Iterator[bytes]:
    yield from map(encode_request, _examples(strategies.requests))
    yield from (packet for packet in packets.BAD.values() if len(packet) <= MAX_REQUEST_BYTES)


def _replies() -> Iterator[bytes]:
    for kind, request in enumerate(REPLIED):
        for reply in _examples(strategies.replies[type(request)] | strategies.errors):
            yield bytes([kind]) + encode_reply(reply)


def _control() -> Iterator[bytes]:
    for op in ("summary", "status", "stop", "steering", "attach-nic", "screenshot"):
        yield control.encode_request(
            op, {"force": True, "seconds": 7, "name": "net0", "list": ["a", 1]}
        )
    yield control.encode_answer({"state": "running", "cards": [{"id": "net0", "queues": 4}]})
    yield control.encode_error(BadInput("the message", "the hint"))


def _texts_in(paths: Iterable[Path], fence: str) -> Iterator[bytes]:
    """Yield the blocks of *fence* in pages."""
    for path in sorted(paths):
        found = re.findall(rf"^```{fence}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        yield from (text.encode() for text in found)


def _policies() -> Iterator[bytes]:
    pages = (REPOSITORY / "docs").glob("*.md")
    yield (REPOSITORY / "tools/prepare/policy.toml").read_bytes()
    yield from _texts_in(pages, "toml")


def _bridge_confs() -> Iterator[bytes]:
    yield b"# a comment\nallow br0\n  allow\tbr1\ndeny all\n\ninclude /etc/qemu/other.conf\n"
    yield b"allow all\ndeny br0\n"
    yield b"deny br0 # why\n" + b"allow " + b"x" * 4090 + b"\n"


def _documents(ending: str) -> Iterator[bytes]:
    for path in sorted((REPOSITORY / "tests/documents").glob(f"*.{ending}")):
        yield path.read_bytes()
    yield from _texts_in((REPOSITORY / "docs").rglob("*.md"), ending)
    yield from _texts_in([REPOSITORY / "README.md"], ending)
    write = to_xml if ending == "xml" else to_toml
    for machine in _examples(machines()):
        # Not everything has a form in XML.
        with suppress(BpferryError):
            yield write(machine).encode()


def object_of(sections: int = 1, extra: int = 0) -> bytes:
    """Return the least that looks like an eBPF object, with *extra* bytes in it."""
    header = struct.pack("=4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, ET_REL, EM_BPF, 1,
                         0, 0, 64 + extra, 0, 64, 0, 0, 64, sections, 0)  # fmt: skip
    return header + bytes(extra) + bytes(64 * sections)


def _binaries() -> Iterator[bytes]:
    yield object_of()
    yield b"QEMU" + object_of(2, 40) + b"\x7fELF" + object_of() + b"\x7fEL"
    yield object_of(3)[:-1]


def _lines() -> Iterator[bytes]:
    for line in (
        "-netdev bridge,id=n0,br=br0 -device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01",
        "-netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n0",
        "-netdev {'type':'tap','id':'n0','fds':'3:4'} -device {'driver':'e1000','netdev':'n0'}",
        "-netdev tap,id=n,fds=3:4 -device {'driver':'virtio-net-pci','netdev':'n','mq':true}",
        "-nic bridge,br=br0,model=virtio-net-pci -smp 4,cores=2 -accel kvm",
        "-net nic,model=virtio -net tap,fd=3 -global virtio-net-pci.mq=on -readconfig x -set a",
        "-netdev tap,id=n0,fd=7,,8,vhost=on,queues=2 -device e1000,netdev=n0 -machine accel=tcg",
    ):
        yield line.replace("'", '"').replace(" ", "\0").encode()


_SEEDS: Final = {
    "wire-request": _requests,
    "wire-reply": _replies,
    "control-socket": _control,
    "policy": _policies,
    "bridge-conf": _bridge_confs,
    "xml": lambda: _documents("xml"),
    "toml": lambda: _documents("toml"),
    "elf": _binaries,
    "launcher": _lines,
}
