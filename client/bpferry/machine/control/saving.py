# SPDX-License-Identifier: LGPL-2.1-or-later
"""Save a running VM to a file, and end it.

The guest is stopped, QEMU writes its memory and its devices' state to an fd (a migration to a
file), and ends. Until then the file has another name, FILE.part; only when QEMU has closed the
disks is the header complete and the file called FILE. If anything fails before that, or the user
cancels, the guest continues and the file is removed.
"""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from bpferry.errors import BadInput, BpferryError, NotReady
from bpferry.machine.control.life import RunningVm, State
from bpferry.machine.control.server import Answer, Operation
from bpferry.machine.paths import exists, is_folder
from bpferry.machine.saved import (
    Header,
    Image,
    images_of,
    of_records,
    relevant_words,
    tell_to_use,
    write_header,
)
from bpferry_wire.codec import Fields

POLL_SECONDS: Final = 0.1
FILE_MODE: Final = 0o600
"""A guest's memory has its passwords and keys."""

NO_LIMIT: Final = 1 << 50
"""Bytes per second. QEMU's default is 128 MiB/s, for the sake of networks."""

SAVABLE: Final = (State.RUNNING, State.PAUSED, State.SUSPENDED)


class Saving:
    """The operations ``save``, ``saving`` and ``cancel-save`` of one VM."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._file: _File | None = None
        self._task: asyncio.Task[None] | None = None
        self._error = ""
        self._bytes = 0
        self._total = 0

    def operations(self) -> dict[str, Operation]:
        """Return them, by name."""
        return {"save": self.save, "saving": self.saving, "cancel-save": self.cancel}

    async def save(self, fields: Fields) -> Answer:
        """Begin."""
        path, replace = fields.text("path"), fields.boolean("replace")
        fields.done()
        if self._file is not None:
            raise NotReady(f"'{self._vm.name}' is being saved already")
        self._check()
        file = _File(Path(path), replace=replace)
        self._file, self._error, self._bytes, self._total = file, "", 0, 0
        paused = self._vm.state is State.PAUSED
        try:
            await self._begin(file, paused=paused)
        except BaseException:
            await self._give_up(paused=paused)
            raise
        self._task = asyncio.create_task(self._follow(paused=paused))
        return Answer()

    async def saving(self, fields: Fields) -> Answer:
        """Say how far it is, or why it failed."""
        fields.done()
        active, error = self._file is not None, self._error or None
        told = {"active": active, "bytes": self._bytes, "total": self._total, "error": error}
        return Answer(told)

    async def cancel(self, fields: Fields) -> Answer:
        """Let the guest continue; it is no error if it is too late for that."""
        fields.done()
        if self._file is not None:
            await self._vm.ask_qemu("migrate_cancel")
        return Answer()

    def finish(self) -> None:
        """Give the file its name, once QEMU has ended; remove it if it is not complete.

        Raises:
            BpferryError: it cannot be written.
        """
        file, self._file = self._file, None
        if self._task is not None:
            self._task.cancel()
        if file is not None:
            file.finish(images_of(self._vm.machine))

    def _check(self) -> None:
        vm = self._vm
        if vm.state not in SAVABLE:
            raise NotReady(f"'{vm.name}' cannot be saved while it is {vm.state}", "try again later")
        if vm.machine != vm.prepared.document.machine:
            raise NotReady(
                f"cannot save '{vm.name}': it has devices that were plugged in, or lacks some, and "
                "its file does not say so",
                "undo that with 'bpferry detach-nic' and the like, or write it into the file for "
                "the next start",
            )

    async def _begin(self, file: "_File", *, paused: bool) -> None:
        vm, draft = self._vm, self._vm.prepared.draft
        await vm.ask_qemu("stop")
        vm.state = State.SAVING
        file.start(
            Header(
                name=vm.name,
                qemu=draft.capabilities.qemu,
                version=draft.capabilities.version_text,
                words=relevant_words(draft.after(vm.prepared.plans).built),
                paused=paused,
                saved_s=int(time.time()),
            )
        )
        await vm.ask_qemu("migrate-set-parameters", {"max-bandwidth": NO_LIMIT})
        await tell_to_use(vm.need_monitor(), "migrate", file.fd)

    async def _follow(self, *, paused: bool) -> None:
        """Wait until QEMU has written everything, and end it."""
        status, answer = "", {}
        try:
            while status not in ("completed", "failed", "cancelled"):
                await asyncio.sleep(POLL_SECONDS)
                # Without a time limit: QEMU does not answer while it waits for a slow disk.
                said = await self._vm.need_monitor().execute("query-migrate")
                answer = said if isinstance(said, dict) else {}
                status = str(answer.get("status", ""))
                memory = of_records(answer, "ram")
                self._bytes = _number(memory.get("transferred"))
                self._total = _number(memory.get("total"))
            assert self._file is not None  # noqa: S101 - it is being written
            self._file.written = status == "completed"
        except BpferryError as error:
            answer = {"error-desc": error.message}
        if status == "completed":
            self._vm.stopper.quit("the VM is saved: stopping QEMU")
            return
        usual = "it was cancelled" if status == "cancelled" else "QEMU does not say why"
        self._error = str(answer.get("error-desc", usual))
        await self._give_up(paused=paused)

    async def _give_up(self, *, paused: bool) -> None:
        """Remove the file, and let the guest continue."""
        file, self._file = self._file, None
        if file is not None:
            file.remove()
        self._vm.state = State.PAUSED
        if not paused:
            with contextlib.suppress(BpferryError):
                await self._vm.ask_qemu("cont")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


class _File:
    """The file, under its first name until it is complete."""

    def __init__(self, path: Path, *, replace: bool) -> None:
        """Make it.

        Raises:
            BpferryError: it cannot be made, or is there already.
        """
        if not path.is_absolute():
            raise BadInput(f"'{path}' is not an absolute path")
        if is_folder(path):
            raise BadInput(f"cannot save to '{path}': it is a folder", "name a file in it")
        if not replace and exists(path):
            raise NotReady(
                f"cannot save to '{path}': it is there already", "use --force to replace it"
            )
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._header: Header | None = None
        self.written = False
        """Whether QEMU has written everything."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self.fd = os.open(self._part, flags, FILE_MODE)
        except FileExistsError as error:
            raise NotReady(
                f"cannot save to '{path}': '{self._part}' is there already",
                "another 'bpferry save' may be writing it; if not, remove it",
            ) from error
        except OSError as error:
            raise BpferryError(f"cannot save to '{path}': {error.strerror}") from error

    def start(self, header: Header) -> None:
        """Write *header*; the stream comes behind it."""
        self._header = header
        try:
            write_header(self.fd, header)
        except OSError as error:
            raise BpferryError(f"cannot write '{self._part}': {error.strerror}") from error

    def finish(self, images: dict[str, Image]) -> None:
        """Complete the header with the *images*, and give the file its name."""
        if not self.written or self._header is None:
            self.remove()
            return
        try:
            write_header(self.fd, msgspec.structs.replace(self._header, images=images))
            os.fsync(self.fd)
            self._part.rename(self._path)
        except OSError as error:
            raise BpferryError(
                f"the VM is saved in '{self._part}', but that could not be completed: "
                f"{error.strerror}"
            ) from error
        finally:
            os.close(self.fd)

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._part.unlink()
        os.close(self.fd)
