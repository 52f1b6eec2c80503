# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a running VM can be asked about its move to another host (``move``)."""

import socket
from typing import TYPE_CHECKING, Final

from bpferry.errors import NotReady
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.server import Answer, Operation
from bpferry.machine.control.states import State
from bpferry_wire.codec import Fields
from bpferry_wire.fds import OwnedFds

if TYPE_CHECKING:
    from bpferry.machine.control.move import Move

MOVABLE: Final = (State.RUNNING, State.PAUSED)


class Moving:
    """The operations ``migrate``, ``migrating`` and ``cancel-migration`` of one VM."""

    def __init__(self, vm: RunningVm) -> None:
        self._vm = vm
        self._move: Move | None = None

    def operations(self) -> dict[str, Operation]:
        """Return them, by name."""
        return {
            "migrate": self.migrate,
            "migrating": self.migrating,
            "cancel-migration": self.cancel,
        }

    async def migrate(self, fields: Fields) -> Answer:
        """Begin, and hand out the end of the connection that is for ssh."""
        host = fields.text("host")
        fields.done()
        vm = self._vm
        vm.check_settled()
        if self._move is not None and self._move.is_active:
            raise NotReady(f"'{vm.name}' is being moved already")
        if vm.state not in MOVABLE:
            raise NotReady(f"'{vm.name}' cannot be moved while it is {vm.state}", "try again later")
        if vm.plugging.locked() or vm.leftovers:
            raise NotReady(
                f"'{vm.name}' cannot be moved: a device is being plugged in or taken out",
                "try again later",
            )
        from bpferry.machine.control.move import Move  # noqa: PLC0415 - few VMs are ever moved
        from bpferry.machine.migration.obstacles import (  # noqa: PLC0415 - as above
            check_movable,
            check_unblocked,
        )

        document = vm.prepared.document
        check_movable(vm.machine, document.machine, str(document.origins.path.absolute()))
        await check_unblocked(vm.need_monitor(), vm.name)
        theirs, ours = socket.socketpair()
        self._move = Move(vm, host, ours)
        self._move.begin()
        return Answer(fds=OwnedFds([theirs.detach()]))

    async def migrating(self, fields: Fields) -> Answer:
        """Say how far it is, or why it failed."""
        fields.done()
        return Answer({"active": False} if self._move is None else self._move.told())

    async def cancel(self, fields: Fields) -> Answer:
        """Let the guest stay; it is no error if it is too late for that."""
        fields.done()
        if self._move is not None:
            self._move.cancel()
        return Answer()
