# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the two supervisors of a VM that moves say to each other.

The one that receives begins with GREETING, since what a login shell prints may come before it.
After that, each message is

    4 bytes           its length, big-endian
    the length        a JSON object with the key "type"

Nothing is read beyond a message, since QEMU's stream may come behind it.
"""

import asyncio
import os
from typing import Annotated, Final, TypeVar

import msgspec

from bpferry.domain.forms import Kind
from bpferry.errors import BpferryError
from bpferry.machine.saved import Link

PROTOCOL: Final = 1
"""Increased with each change that an older bpferry would not understand."""

GREETING: Final = b"bpferry receives VMs\n"

MAX_NOISE: Final = 65_536
"""Bytes before the greeting."""

MAX_BYTES: Final = 8 << 20
"""One message. A description has at most 1 MiB, and JSON may write six bytes for one."""

LENGTH_BYTES: Final = 4

CHUNK_BYTES: Final = 4096
"""A pipe that is writable takes as many at once (PIPE_BUF, pipe(7)), even if it blocks."""


Place = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]
"""The path of a file; the kernel takes none with a zero byte, and Python raises ValueError."""


class CardOffer(msgspec.Struct, frozen=True, kw_only=True):
    """One card as its guest sees it, and what spreads its packets."""

    id: str
    mac: str
    rung: str
    vhost: bool
    queues: int


class SharedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An image file, and what tells it from others."""

    path: Place
    inode: int
    bytes: int | None
    """None if it grows with what the guest writes."""
    locked: bool
    """Whether the QEMU that uses it has locked bytes of it."""


class Offer(msgspec.Struct, frozen=True, kw_only=True, tag="offer"):
    """A VM that wants to move."""

    protocol: int
    name: str
    host: str
    """Where it is."""
    description: str
    kind: Kind
    """How the description is written: "toml" or "xml"."""
    version: tuple[int, int, int]
    """Of its QEMU."""
    machine_type: str
    """In full, such as pc-q35-10.0."""
    words: tuple[str, ...]
    """The options of its QEMU that the guest depends on, with names for fds."""
    cards: tuple[CardOffer, ...]
    files: tuple[SharedFile, ...]
    secret_files: dict[str, Place] = {}
    paused: bool = False
    links: dict[str, Link] = {}
    """Of cards, by card, if not as in the description."""
    asleep: bool = False
    require_ebpf: bool = False
    stop_seconds: float | None = None


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """What a QEMU offers its guest."""

    cards: dict[str, tuple[str, ...]]
    """Names of virtio features, by card; only cards of which QEMU tells them."""
    processor: dict[str, int]
    """Bits of CPUID, by leaf and register; empty if QEMU does not tell them."""
    tells_features: bool = True
    """Whether this QEMU can be asked for features of virtio at all."""


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """QEMU waits for the stream."""

    host: str
    devices: Devices
    warnings: tuple[str, ...] = ()
    """What the VM will lack there."""


class Stream(msgspec.Struct, frozen=True, tag="stream"):
    """The stream begins behind this."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The stream is read."""


class Run(msgspec.Struct, frozen=True, tag="run"):
    """The guest may run there, and does not run here."""


class Runs(msgspec.Struct, frozen=True, kw_only=True, tag="runs"):
    """It runs, or is paused as it was."""

    pid: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    """The supervisor."""
    kept_by: str
    """What keeps it, in words."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, tag="problem"):
    """Why the VM cannot go on there, where nothing of it is left."""

    code: str
    message: str
    hint: str


Message = Offer | Ready | Stream | Loaded | Run | Runs | Problem
M = TypeVar("M", bound=msgspec.Struct)


class Broken(BpferryError):  # noqa: N818 - as in errors: the words say it
    """The connection has ended, or what came over it is no message."""


class Refusal(BpferryError):  # noqa: N818 - as above
    """The other side says that it cannot be."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message, problem.hint)
        self.code = problem.code


class Talk:
    """A connection: what is read and written, as fds that somebody else closes."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd

    async def greet(self) -> None:
        """Say that this is bpferry."""
        await self._write(GREETING)

    async def be_greeted(self) -> None:
        """Wait for the greeting, and pass over what comes before it.

        Raises:
            Broken: there is none.
        """
        seen = b""
        while not seen.endswith(GREETING):
            if len(seen) > MAX_NOISE:
                raise Broken("what answers there is not bpferry")
            seen += await self._read(1)

    async def tell(self, message: Message) -> None:
        """Send *message*.

        Raises:
            Broken: the other side is gone.
        """
        data = msgspec.json.encode(message)
        await self._write(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    async def hear(self, kind: type[M]) -> M:
        """Return the next message, which has to be of this *kind*.

        Raises:
            Refusal: it is a problem.
            Broken: it is another one, or none.
        """
        length = int.from_bytes(await self._read_whole(LENGTH_BYTES), "big")
        if length > MAX_BYTES:
            raise Broken("what came is not a message of bpferry")
        data = await self._read_whole(length)
        try:
            message = msgspec.json.decode(data, type=Message)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Broken(f"what came is not a message of this bpferry: {error}") from error
        if isinstance(message, Problem):
            raise Refusal(message)
        if not isinstance(message, kind):
            raise Broken(f"'{kind.__name__}' was expected, and '{type(message).__name__}' came")
        return message

    def close(self) -> None:
        """Close both fds, for a connection of which nobody else will."""
        for fd in {self._read_fd, self._write_fd}:
            os.close(fd)

    async def _read_whole(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += await self._read(length - len(data))
        return data

    async def _read(self, length: int) -> bytes:
        """Return at least one byte, and at most *length*."""
        while True:
            await _until_ready(self._read_fd, writes=False)
            try:
                data = os.read(self._read_fd, length)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Broken(f"the connection broke: {error.strerror}") from error
            if not data:
                raise Broken("the connection was closed")
            return data

    async def _write(self, data: bytes) -> None:
        while data:
            await _until_ready(self._write_fd, writes=True)
            try:
                data = data[os.write(self._write_fd, data[:CHUNK_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Broken(f"the connection broke: {error.strerror}") from error


async def _until_ready(fd: int, *, writes: bool) -> None:
    """Wait until *fd* can be read or written. Whether it blocks is the other users' choice."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    add, remove = (
        (loop.add_writer, loop.remove_writer) if writes else (loop.add_reader, loop.remove_reader)
    )
    add(fd, note)
    try:
        await ready
    finally:
        remove(fd)
