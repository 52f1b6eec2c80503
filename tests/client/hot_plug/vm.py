# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM of the tests that devices are plugged into, and what its commands answer."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpferry.cli.main import main
from tests.client.running import BASE, DISK, Run, start, state
from tests.client.support import wait_until

NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
"""Let ports of PCI Express handle hot-plug themselves: a card that no guest has switched on yet is
let go of at once, also by a guest without a system."""


@contextlib.contextmanager
def running(
    folder: Path,
    text: str = "",
    *,
    arguments: tuple[str, ...] = (),
    disk: bool = True,
    prefix: tuple[str, ...] = (),
) -> Iterator[Run]:
    """Run a VM with what *text* adds to it, as soon as its guest, if it has a disk, has greeted.

    QEMU has a second monitor, for ``qmp``. *prefix* is a command that becomes `bpferry run`.
    """
    words = json.dumps([*arguments, "-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off"])
    base = BASE + f"qemu-arguments = {words}\n"
    with start(folder, base + text + DISK if disk else base + text, prefix=prefix) as run:
        assert not disk or run.says("hello from the boot sector"), run.err()
        assert run.qemu()
        assert wait_until(lambda: state() == "running")
        yield run


def qmp(folder: Path, command: str, *, human: str = "", **arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Return what QEMU answers to *command*, or to *human* in its monitor for people."""
    if human:
        command, arguments = "human-monitor-command", {"command-line": human}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(folder / "qmp.sock"))
        with sock.makefile("rw", encoding="utf-8") as file:
            file.readline()
            for name, values in (("qmp_capabilities", {}), (command, arguments)):
                file.write(json.dumps({"execute": name, "arguments": values}) + "\n")
                file.flush()
                while "event" in (told := json.loads(file.readline())):
                    pass
    return told["return"]


def answer(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """Return what `bpferry` with *words* answers in JSON; it has to end with *status*."""
    capsys.readouterr()
    found = main((*words, "--json"))
    told = capsys.readouterr()
    assert found == status, told
    answered: dict[str, Any] = json.loads(told.out)
    return answered


def cards(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the cards that the status of the VM shows."""
    found: list[dict[str, Any]] = answer(capsys, "status", "t")["cards"]
    return found
