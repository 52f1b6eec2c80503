# SPDX-License-Identifier: LGPL-2.1-or-later
"""QMP over one end of a socket pair, whose other end QEMU inherited.

The monitor never has a path: nobody else can connect to it, and nothing stays in a folder.
qemu.qmp is imported when a monitor is opened; it is based on asyncio, so all of this is async.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from bpferry.errors import QemuError

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

CLOSE_SECONDS: Final = 1.0
"""Closing waits until everything is sent, but nobody may be reading."""


def arguments(fd: str) -> tuple[str, ...]:
    """Return QEMU's options for a monitor on the socket *fd*."""
    return (
        "-chardev", f"socket,id=qmp,fd={fd}",
        "-mon", "chardev=qmp,mode=control",
    )  # fmt: skip


class Event(NamedTuple):
    """What QEMU reports by itself."""

    name: str
    """Such as ``SHUTDOWN``."""
    data: Mapping[str, object]


class CommandRefused(QemuError):  # noqa: N818 - as in errors: the words say it
    """QEMU answered, and its answer is an error; it can be asked something else."""


@contextlib.asynccontextmanager
async def open_monitor(name: str, sock: socket.socket) -> AsyncIterator["Monitor"]:
    """Speak QMP on *sock*; takes ownership of it and closes it with the block.

    Raises:
        QemuError: nobody speaks QMP there.
    """
    from qemu.qmp import ConnectError  # noqa: PLC0415 - not for `bpferry --help`

    from bpferry.qemu.quiet import QuietClient  # noqa: PLC0415 - as above

    client = QuietClient(name)
    try:
        await client.connect(sock)
    except ConnectError as error:
        # On further lines, qemu.qmp adds the bytes that it did not understand.
        cause = str(error.exc).partition("\n")[0] or "it closed the connection"
        raise QemuError(f"'{name}' does not speak QMP: {cause}") from error
    finally:
        if client.runstate.name == "IDLE":
            sock.close()
    try:
        yield Monitor(name, client)
    finally:
        # If the connection failed, the command that needed it has seen the error.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.disconnect()


class Monitor:
    """The QMP connection of one QEMU."""

    def __init__(self, name: str, client: "QMPClient") -> None:
        self._name = name
        self._client = client
        self._giving = asyncio.Lock()

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """Return what QEMU answers to *command*.

        Raises:
            CommandRefused: with QEMU's own words.
            QemuError: QEMU ended.
        """
        from qemu.qmp import QMPError  # noqa: PLC0415 - as above
        from qemu.qmp.qmp_client import ExecuteError  # noqa: PLC0415

        try:
            return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise CommandRefused(f"'{self._name}' refused '{command}': {error}") from error
        except (QMPError, OSError, EOFError) as error:
            raise QemuError(f"'{self._name}' ended during '{command}'") from error

    async def power_down(self) -> None:
        """Ask the guest to power down, as its power button does."""
        await self.execute("system_powerdown")

    async def run_state(self) -> str:
        """Return what the guest does, as QEMU calls it (RunState of qapi/run-state.json)."""
        answer = await self.execute("query-status")
        return str(answer.get("status")) if isinstance(answer, dict) else ""

    async def quit(self) -> None:
        """Tell QEMU to end now."""
        # QEMU may be gone before it answered.
        with contextlib.suppress(QemuError):
            await self.execute("quit")

    async def give_fd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of *fd*, which it knows by *name* until something takes it.

        QEMU keeps the last fd that came, for the next ``getfd``; so one is given at a time.

        Raises:
            QemuError: as ``execute`` does.
        """
        async with self._giving:
            self._send_fd(fd)
            await self.execute("getfd", {"fdname": name})

    async def add_fd(self, fd: int) -> int:
        """Give QEMU a copy of *fd* as the only one of a set, and return the set's number.

        QEMU opens it as the file /dev/fdset/NUMBER, in the same mode only.

        Raises:
            QemuError: as ``execute`` does.
        """
        async with self._giving:
            self._send_fd(fd)
            answer = await self.execute("add-fd")
        assert isinstance(answer, dict)  # noqa: S101 - AddfdInfo (qapi/misc.json)
        return int(answer["fdset-id"])

    def _send_fd(self, fd: int) -> None:
        from qemu.qmp import QMPError  # noqa: PLC0415 - as above

        try:
            self._client.send_fd_scm(fd)
        except (QMPError, OSError) as error:
            message = f"cannot hand an fd to '{self._name}': it reads nothing, or has ended"
            raise QemuError(message) from error

    async def events(self) -> AsyncIterator[Event]:
        """Yield each event until the connection ends."""
        with self._client.listener() as listener:
            ended = asyncio.ensure_future(self._ended())
            try:
                while True:
                    event = asyncio.ensure_future(listener.get())
                    await asyncio.wait({event, ended}, return_when=asyncio.FIRST_COMPLETED)
                    # The last events, such as SHUTDOWN, come right before the end.
                    if not event.done() and listener.empty():
                        event.cancel()
                        return
                    message = await event
                    data = message.get("data")
                    yield Event(str(message["event"]), data if isinstance(data, dict) else {})
            finally:
                ended.cancel()

    async def _ended(self) -> None:
        while self._client.runstate.name == "RUNNING":
            await self._client.runstate_changed()
