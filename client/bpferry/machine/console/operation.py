# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a running VM can be asked about its console.

    console   serial (optional)   serial, kind: "stream" with one fd; "pty" or "unix" with a path
    detach                        give the terminal back on which the VM was started

The fd of a stream is a connected socket: what the guest wrote before comes first, and closing it is
all it takes to leave. The other kinds are QEMU's own, and are opened by the one who asks.
"""

from typing import TYPE_CHECKING

from bpferry.commandline.parts import Endpoint
from bpferry.errors import NotReady
from bpferry.machine.console.foreground import Leash
from bpferry.machine.console.hub import Hub
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.server import Answer, Operation
from bpferry_wire.codec import Fields
from bpferry_wire.fds import OwnedFds

if TYPE_CHECKING:
    from bpferry.machine.serials import Port


def console_operations(vm: RunningVm, hub: Hub | None, leash: Leash | None) -> dict[str, Operation]:
    """Return the operations on the console of *vm*, by name."""
    console = _Console(vm, hub, leash)
    return {"console": console.console, "detach": console.detach}


class _Console:
    def __init__(self, vm: RunningVm, hub: Hub | None, leash: Leash | None) -> None:
        self._vm = vm
        self._hub = hub
        self._leash = leash

    async def console(self, fields: Fields) -> Answer:
        name = fields.text("serial") if fields.has("serial") else None
        fields.done()
        from bpferry.machine.serials import choose  # noqa: PLC0415 - when it is asked for

        port = choose(self._ports(), name, self._vm.name)
        told = {"serial": port.name}
        if port.endpoint is None:
            return Answer({**told, "kind": "stream"}, self._join())
        if port.endpoint.kind == "unix":
            await self._check_free(port.endpoint)
        return Answer({**told, "kind": port.endpoint.kind, "path": port.endpoint.path})

    async def detach(self, fields: Fields) -> Answer:
        fields.done()
        if self._leash is None:
            raise NotReady(f"'{self._vm.name}' does not run on a terminal")
        self._leash.detach()
        return Answer()

    def _ports(self) -> "list[Port]":
        from bpferry.machine.serials import Port, ports_of  # noqa: PLC0415 - as above

        # Those that QEMU has chosen are known by now.
        known = {one.chardev: one for one in self._vm.prepared.endpoints}
        known |= {one.chardev: one for one in self._vm.record.endpoints}
        ports = ports_of(self._vm.prepared.document.machine, list(known.values()))
        if self._hub is not None and all(port.type != "stdio" for port in ports):
            # A channel or a parallel port has standard input and output.
            ports.append(Port("stdio", "stdio", "it is at bpferry"))
        return ports

    def _join(self) -> OwnedFds:
        if self._hub is None:
            raise NotReady(f"the console of '{self._vm.name}' is not open")
        return OwnedFds((self._hub.join().detach(),))

    async def _check_free(self, endpoint: Endpoint) -> None:
        """Raise an error if somebody is connected to a socket that serves one at a time."""
        answer = await self._vm.ask_qemu("query-chardev")
        for found in answer if isinstance(answer, list) else ():
            if found.get("label") == endpoint.chardev and not str(found.get("filename")).startswith(
                "disconnected:"
            ):
                raise NotReady(
                    f"another process is connected to '{endpoint.path}' already",
                    "a unix socket of QEMU serves one at a time, and a serial port of type "
                    "'stdio' as many as there are",
                )
