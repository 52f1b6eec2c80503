# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM in the list of the user's systemd-machined, so that ``machinectl --user`` shows it.

Only a systemd of some release after Debian 13 has a machined for each user. Its socket speaks
Varlink (varlink.org): one JSON object and a zero byte in each direction. The method is Register of
the interface io.systemd.Machine, which the system's machined has had since release 257.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bpferry.commandline.parts import Endpoint
from bpferry.errors import BpferryError
from bpferry.machine.reporter import Reporter

SOCKET: Final = "systemd/machine/io.systemd.Machine"
"""Below XDG_RUNTIME_DIR."""

INTERFACE: Final = "io.systemd.Machine"

SERVICE: Final = "bpferry"

ANSWER_SECONDS: Final = 10.0
"""For machined, which systemd may have to start first."""

MAX_ANSWER_BYTES: Final = 65_536

LEAST_CID: Final = 3
"""Of a guest; those below are the host's (vsock(7))."""


def find_socket() -> Path | None:
    """Return where the user's machined listens, or None if there is none."""
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    path = Path(folder) / SOCKET
    return path if folder and path.is_socket() else None


def described(
    vm_name: str, uuid: str, qemu_pid: int, endpoints: Sequence[Endpoint]
) -> dict[str, object]:
    """Return what machined is told about a VM."""
    told: dict[str, object] = {
        "name": vm_name,
        "id": uuid.replace("-", ""),
        "service": SERVICE,
        "class": "vm",
        "leader": qemu_pid,
        # A VM outside the user's systemd, such as in a session, has no unit that it could name.
        "allocateUnit": not _is_in_user_unit(qemu_pid),
    }
    for endpoint in endpoints:
        if endpoint.kind == "vsock" and endpoint.port.isdecimal():
            cid = int(endpoint.port)
            if cid >= LEAST_CID:
                told |= {"vSockCid": cid, "sshAddress": f"vsock/{cid}"}
    return told


def _is_in_user_unit(pid: int) -> bool:
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False
    return f"/user@{os.getuid()}.service/" in groups


async def register(told: Mapping[str, object], reporter: Reporter) -> bool:
    """Put a VM into the list, if there is a machined; a failure is a warning."""
    socket = find_socket()
    if socket is None:
        return False
    try:
        await _call(socket, "Register", told)
    except BpferryError as error:
        reporter.warn(
            f"'machinectl --user' does not show the VM: {error.message}",
            "it runs all the same; see what your machined says: journalctl --user -t "
            "systemd-machined",
        )
        return False
    return True


async def unregister(vm_name: str) -> None:
    """Take a VM out of the list. machined does that as well, as soon as it sees that QEMU ended."""
    socket = find_socket()
    if socket is not None:
        with contextlib.suppress(BpferryError):
            await _call(socket, "Unregister", {"name": vm_name})


async def _call(socket: Path, method: str, parameters: Mapping[str, object]) -> None:
    """Call *method*.

    Raises:
        BpferryError: it fails, or there is no answer.
    """
    request = {"method": f"{INTERFACE}.{method}", "parameters": parameters}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await _exchange(socket, json.dumps(request).encode() + b"\0")
    except TimeoutError as error:
        raise BpferryError(f"'{socket}' did not answer within {ANSWER_SECONDS:g} s") from error
    except (OSError, EOFError, ValueError) as error:
        raise BpferryError(f"'{socket}': {error}") from error
    if not isinstance(answer, dict):
        raise BpferryError(f"'{socket}' answered with something that is not Varlink")
    if "error" in answer:
        name, details = str(answer["error"]), answer.get("parameters") or {}
        more = f" {json.dumps(details)}" if details else ""
        raise BpferryError(f"machined refused it: {name[:200]}{more[:200]}")


async def _exchange(socket: Path, request: bytes) -> object:
    reader, writer = await asyncio.open_unix_connection(socket, limit=MAX_ANSWER_BYTES)
    try:
        writer.write(request)
        answer = await reader.readuntil(b"\0")
    except asyncio.LimitOverrunError as error:
        raise ValueError("the answer is too long") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return json.loads(answer[:-1])
