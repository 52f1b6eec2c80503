# SPDX-License-Identifier: LGPL-2.1-or-later
"""Save a running VM to a file, and end it.

The guest is stopped, QEMU writes its memory and its devices' state to an fd (a migration to a
file), and ends. Until then the file has another name (``save_file``); only when QEMU has closed the
disks is the header complete and the file called what the user wants. If anything fails before that,
or the user cancels, the guest continues and the file is removed.

Whatever is asked meanwhile, the guest stands still until QEMU has ended or the save has failed: it
would change disks behind the file.
"""

import asyncio
import contextlib
import shlex
import time
from pathlib import Path
from typing import Final

from bpferry.errors import BpferryError, NotReady
from bpferry.machine.control.life import CHANGE_SECONDS, RunningVm
from bpferry.machine.control.links import changed_links
from bpferry.machine.control.save_file import SaveFile
from bpferry.machine.control.server import Answer, Operation
from bpferry.machine.control.states import State
from bpferry.machine.differences import find_difference
from bpferry.machine.saved import Header, images_of, of_records, relevant_words, tell_to_use
from bpferry.machine.stopping import Step
from bpferry_wire.codec import Fields

POLL_SECONDS: Final = 0.1

TELL_SECONDS: Final = 2.0
"""How long the VM's end waits for who asked to hear what failed. They ask five times a second."""

NO_LIMIT: Final = 1 << 50
"""Bytes per second. QEMU's default is 128 MiB/s, for the sake of networks."""

SAVABLE: Final = (State.RUNNING, State.PAUSED, State.SUSPENDED)


class Saving:
    """The operations ``save``, ``saving`` and ``cancel-save`` of one VM."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._file: SaveFile | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._error = ""
        self._end: BpferryError | None = None
        """What failed when the VM had been saved, and had ended."""
        self._told = asyncio.Event()
        """Whether somebody has heard of the error."""
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
        file = SaveFile(Path(path), replace=replace)
        self._file, self._error, self._bytes, self._total = file, "", 0, 0
        self._cancelled = False
        before = self._vm.state
        self._vm.state = State.SAVING
        self._vm.stopper.hold()
        try:
            await self._begin(file, paused=before is State.PAUSED)
        except asyncio.CancelledError:
            # The VM ends, and its file with it (``finish``).
            raise
        except BaseException as error:
            failed = await self._give_up(before)
            if failed and isinstance(error, BpferryError):
                raise BpferryError(f"{error.message}; {failed}", error.hint) from error
            raise
        self._task = asyncio.create_task(self._follow(before))
        return Answer()

    async def saving(self, fields: Fields) -> Answer:
        """Say how far it is, or why it failed."""
        fields.done()
        active, error = self._file is not None, self._error or None
        told = {"active": active, "bytes": self._bytes, "total": self._total, "error": error}
        if self._end is not None:
            self._told.set()
            told |= {"end": self._end.message, "hint": self._end.hint}
        return Answer(told)

    async def cancel(self, fields: Fields) -> Answer:
        """Let the guest continue; it is no error if it is too late for that."""
        fields.done()
        if self._file is not None:
            # If the migration has not begun yet, QEMU would forget it.
            self._cancelled = True
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

    async def tell(self, error: BpferryError) -> None:
        """Let who asked for the save hear of an *error* at its very end, before the VM is gone."""
        self._end = error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), TELL_SECONDS)

    def _check(self) -> None:
        vm = self._vm
        if vm.state not in SAVABLE:
            raise NotReady(f"'{vm.name}' cannot be saved while it is {vm.state}", "try again later")
        if vm.plugging.locked():
            raise NotReady(f"cannot save '{vm.name}': a device is being plugged in", "try again")
        if vm.leftovers:
            names = ", ".join(f"'{name}'" for name in sorted(vm.leftovers))
            raise NotReady(
                f"cannot save '{vm.name}': {names} could not be plugged in, and its guest has not "
                "let go of it yet",
                "wait until it is out of the VM, or use 'bpferry detach-nic' or 'detach-disk'",
            )
        changed = find_difference(vm.machine, vm.prepared.document.machine)
        if any(changed):
            file = str(vm.prepared.document.origins.path.absolute())
            raise NotReady(
                f"cannot save '{vm.name}': {changed}, and a restore would start the VM that "
                f"'{file}' describes",
                changed.way_out(vm.name, file),
            )

    async def _begin(self, file: SaveFile, *, paused: bool) -> None:
        vm, draft = self._vm, self._vm.prepared.draft
        # It waits until everything is on the disks.
        await vm.ask_qemu("stop", seconds=CHANGE_SECONDS)
        file.start(
            Header(
                name=vm.name,
                qemu=draft.capabilities.qemu,
                version=draft.capabilities.version_text,
                words=relevant_words(draft.after(vm.prepared.plans).built),
                paused=paused,
                saved_s=int(time.time()),
                links=changed_links(vm),
                asleep=vm.asleep,
            )
        )
        await vm.ask_qemu("migrate-set-parameters", {"max-bandwidth": NO_LIMIT})
        await tell_to_use(vm.need_monitor(), "migrate", file.fd)

    async def _follow(self, before: State) -> None:
        """Wait until QEMU has written everything, and end it."""
        status, answer = "", {}
        monitor = self._vm.need_monitor()
        try:
            while status not in ("completed", "failed", "cancelled"):
                await asyncio.sleep(POLL_SECONDS)
                if self._cancelled:
                    await monitor.execute("migrate_cancel")
                # Without a time limit: QEMU does not answer while it waits for a slow disk.
                said = await monitor.execute("query-migrate")
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
        failed = await self._give_up(before)
        self._error = "; ".join(filter(None, (str(answer.get("error-desc", usual)), failed)))

    async def _give_up(self, before: State) -> str:
        """Let the guest go on as it was *before*, and remove the file; return what failed."""
        vm, failed = self._vm, ""
        vm.state = State.PAUSED
        try:
            # A QEMU that is about to end must not let the guest run for these moments.
            if before is not State.PAUSED and vm.stopper.step < Step.QUIT:
                await vm.ask_qemu("migrate_cancel", seconds=CHANGE_SECONDS)
                await vm.ask_qemu("cont", seconds=CHANGE_SECONDS)
        except BpferryError as error:
            failed = (
                f"and the guest does not go on: {error.message}; try: bpferry resume "
                f"{shlex.quote(vm.name)}"
            )
        finally:
            file, self._file = self._file, None
            if file is not None:
                file.remove()
            if vm.stopper.begun:
                vm.stops()
            vm.stopper.let_go()
        return failed


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
