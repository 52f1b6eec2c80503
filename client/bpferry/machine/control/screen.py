# SPDX-License-Identifier: LGPL-2.1-or-later
"""A picture of a running VM's screen.

QEMU writes it into a file in memory that it is given as an fd, and the file goes back with the
reply: QEMU opens no path of ours, and whoever asked writes a file of their own. It is in PPM, which
every QEMU knows; PNG came with 7.1, and only if libpng was there when QEMU was built.
"""

import asyncio
import contextlib
import os
from typing import Final

from bpferry.errors import BpferryError, NotReady
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.server import Answer, Operation
from bpferry.qemu.monitor import CommandRefused
from bpferry_wire.codec import Fields
from bpferry_wire.fds import OwnedFd, OwnedFds

FORGET_SECONDS: Final = 1.0

NO_SCREEN: Final = "There is no console"
"""What QEMU says of a VM without a graphics card (ui/ui-qmp-cmds.c)."""


class Screen:
    """The screen of one VM."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm

    def operations(self) -> dict[str, Operation]:
        """Return what it can be asked."""
        return {"screenshot": self.shoot}

    async def shoot(self, fields: Fields) -> Answer:
        """Answer with a file that has the picture."""
        fields.done()
        fds = OwnedFds((os.memfd_create("screenshot", os.MFD_CLOEXEC),))
        try:
            await self._write(fds[0])
        except BaseException:
            fds.close()
            raise
        return Answer(fds=fds)

    async def _write(self, file: OwnedFd) -> None:
        # QEMU takes only an fd with the very access that it wants.
        with OwnedFd(os.open(f"/proc/self/fd/{file.borrow()}", os.O_WRONLY | os.O_CLOEXEC)) as out:
            number = await self._vm.add_fd(out.borrow())
        try:
            await self._vm.ask_qemu("screendump", {"filename": f"/dev/fdset/{number}"})
        except CommandRefused as error:
            raise _explained(error, self._vm.name) from error
        finally:
            # QEMU does one after the other: if it hangs, this is not waited for as well.
            forgetting = self._vm.begin(self._forget(number))
            await asyncio.wait([forgetting], timeout=FORGET_SECONDS)

    async def _forget(self, number: int) -> None:
        with contextlib.suppress(BpferryError):
            await self._vm.ask_qemu("remove-fd", {"fdset-id": number})


def _explained(error: CommandRefused, name: str) -> BpferryError:
    if NO_SCREEN not in error.message:
        return error
    return NotReady(
        f"'{name}' has no screen: it has no graphics card",
        f"its console is text: bpferry console {name}; a display in its description brings a card",
    )
