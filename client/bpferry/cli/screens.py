# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry screenshot, vnc, spice: what a guest shows."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.cli.reach import become
from bpferry.errors import BadInput, BpferryError
from bpferry.machine.control.running import connect
from bpferry.machine.pictures import png_of

Values = Mapping[str, object]

FORMATS: Final[Mapping[str, Callable[[bytes], bytes]]] = {".png": png_of, ".ppm": bytes}
"""What makes each kind of file of QEMU's picture."""

EVERYWHERE: Final = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where QEMU listens
"""Where to connect to who listens at all addresses."""

VIEWERS: Final = {
    "vnc": ("remote-viewer", "vncviewer", "xdg-open"),
    "spice": ("remote-viewer", "spicy", "xdg-open"),
}
"""Programs for a display at a port; the first that is installed is started."""

LOCAL_VIEWERS: Final = {"vnc": ("vncviewer",), "spice": ("remote-viewer", "spicy")}
"""The same for a display at a Unix socket."""

PACKAGES: Final = {"vnc": "tigervnc-viewer", "spice": "virt-viewer"}
"""Debian's package with a program that can do both."""

SESSIONS: Final = ("DISPLAY", "WAYLAND_DISPLAY")
"""One of these variables is set in a graphical session."""


def screenshot(vm_name: str, file: str, *, as_json: bool) -> int:
    """Write a picture of a VM's screen to *file*.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it has no screen, or the file cannot be written.
    """
    path = Path(file)
    if path.suffix not in FORMATS:
        raise BadInput(
            f"cannot tell what '{file}' is to be: its name ends neither with .png nor with .ppm",
            f"write {path.stem or 'screen'}.png",
        )
    with connect(vm_name) as control, control.ask_for_fds("screenshot").fds as fds:
        if not fds:
            raise BpferryError(f"'{vm_name}' has answered without a picture")
        with os.fdopen(fds[0].take(), "rb") as picture:
            picture.seek(0)
            data = FORMATS[path.suffix](picture.read())
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BpferryError(
            f"cannot write '{file}': {error.strerror}",
            "give the path of a file that you may write, in a folder that exists",
        ) from error
    if as_json:
        output.print_json({"name": vm_name, "file": str(path.absolute())})
    else:
        output.print_text(f"wrote '{file}'")
    return 0


def view(kind: str, vm_name: str, *, only_print: bool) -> int:
    """Become the user's viewer for a display of the *kind* vnc or spice, or print its address.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it has no such display, or there is no viewer.
    """
    with connect(vm_name) as control:
        display = _display(kind, control.ask("status"))
    if not only_print:
        become(_viewer(kind, display))
    output.print_text(_address(kind, display))
    return 0


def _display(kind: str, status: Values) -> Values:
    found = list(_displays(kind, status))
    if found:
        return found[0]
    other = "spice" if kind == "vnc" else "vnc"
    hint = f'add [[graphics]] with type = "{kind}" to its description, and start it again'
    if list(_displays(other, status)):
        hint = f"it has one for {other}: bpferry {other} {status['name']}"
    raise BpferryError(f"'{status['name']}' has no display for {kind}", hint)


def _displays(kind: str, status: Values) -> Iterator[Values]:
    """Yield the displays of a kind, those without TLS first: not every viewer has that."""
    endpoints = status.get("endpoints")
    found = endpoints if isinstance(endpoints, list) else []
    for protocol in (kind, f"{kind}-tls"):
        yield from (one for one in found if one.get("protocol") == protocol)


def _address(kind: str, display: Values) -> str:
    """Return a display's address as viewers take it."""
    if "path" in display:
        return f"{kind}+unix://{display['path']}"
    if display.get("protocol") == "spice-tls":
        return f"spice://{_host(display)}?tls-port={display.get('port')}"
    return f"{kind}://{_host(display)}:{display.get('port')}"


def _host(display: Values) -> str:
    host = str(display.get("host", ""))
    host = EVERYWHERE.get(host, host)
    return f"[{host}]" if ":" in host else host


def _viewer(kind: str, display: Values) -> Sequence[str]:
    """Return the command that shows a display."""
    address = _address(kind, display)
    _need_session(address)
    programs = (LOCAL_VIEWERS if "path" in display else VIEWERS)[kind]
    program = next((one for one in programs if shutil.which(one)), None)
    if program is None:
        raise BpferryError(
            f"no viewer for '{address}' is installed",
            f"install one of {', '.join(programs)}; Debian's package is '{PACKAGES[kind]}'",
        )
    if program == "spicy":
        return (program, f"--uri={address}")
    if program == "vncviewer":
        # It takes a socket by its path, and a port after two colons.
        place = f"{_host(display)}::{display.get('port')}"
        return (program, str(display.get("path", place)))
    return (program, address)


def _need_session(address: str) -> None:
    if not any(os.environ.get(variable) for variable in SESSIONS):
        raise BpferryError(
            f"cannot show '{address}': this is no graphical session",
            "give the address to a viewer on your own computer, through ssh -L for a port or a "
            "socket; only print it: --print",
        )
