# SPDX-License-Identifier: LGPL-2.1-or-later
"""What several tests of the client share: a reporter that keeps, a VM, a QEMU on paper."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import msgspec

from bpferry.commandline.parts import Endpoint
from bpferry.domain.identity import Owner
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.qemu.capabilities import Capabilities, EbpfObject
from bpferry.steering.maps import Steering
from tests.support import census

QEMU = "/usr/bin/qemu-system-x86_64"

PATIENCE_S = 60.0
"""A VM starts in two seconds; beside much else it took more than twenty."""

DIGEST = bytes(range(32))

OWNER = Owner(UUID("3f1d2c4b-5a69-4788-96a5-b4c3d2e1f001"), 1000)
"""The owner of the VMs here: a made-up host, and its first user."""

CAPABILITIES = Capabilities(
    qemu=QEMU,
    version=(10, 0, 2),
    objects={"rss": EbpfObject(b"\x7fELF", DIGEST)},
    devices={"virtio-net-pci": dict.fromkeys(("rss", "hash", "ebpf-rss-fds", "mq"), "bool")},
    options={"sandbox": frozenset()},
)
CARD = Card(
    type="ethernet",
    model="virtio",
    tap="tap0",
    managed=False,
    mac="52:54:00:00:00:01",
    queues=4,
    rss=True,
)
MACHINE = Machine(
    name="test",
    memory=32 * 2**20,
    qemu=QEMU,
    machine_type="q35",
    accelerator="tcg",
)


def without(capabilities: Capabilities, *properties: str) -> Capabilities:
    """Return *capabilities* of a QEMU whose cards lack *properties*."""
    left = {
        name: kind
        for name, kind in capabilities.devices["virtio-net-pci"].items()
        if name not in properties
    }
    devices = {**capabilities.devices, "virtio-net-pci": left}
    return msgspec.structs.replace(capabilities, devices=devices)


class Record:
    """A reporter that keeps everything, each with what kind it is."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self.steering: list[tuple[str, Steering]] = []
        self.endpoints: list[Endpoint] = []

    def progress(self, text: str) -> None:
        """Keep a step."""
        self.all.append(("progress", text))

    def note(self, text: str) -> None:
        """Keep a note."""
        self.all.append(("note", text))

    def warn(self, text: str, hint: str = "") -> None:
        """Keep a warning with its hint."""
        self.all.append(("warning", f"{text} | {hint}"))

    def qemu_said(self, line: str) -> None:
        """Keep a line of QEMU's."""
        self.all.append(("qemu", line))

    def steering_changed(self, card_id: str, steering: Steering) -> None:
        """Keep a steering."""
        self.steering.append((card_id, steering))

    def reachable(self, endpoint: Endpoint) -> None:
        """Keep where to connect."""
        self.endpoints.append(endpoint)

    def texts(self, kind: str) -> list[str]:
        """Return what was kept of *kind*."""
        return [text for of, text in self.all if of == kind]


def let_in(folder: Path) -> None:
    """Let every user into *folder*, and into what is above it."""
    for part in (folder, *folder.parents):
        part.chmod(part.stat().st_mode | 0o055)


def children() -> set[int]:
    """Return the processes whose parent we are."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return {int(word) for word in text.split()}


def script(folder: Path, body: str, name: str = "fake-qemu") -> str:
    """Write an executable script and return its path."""
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Wait until *true* says so; return whether it did in time."""
    return census.wait_until(true, seconds, pause_s=0.02)


def _state(pid: str) -> tuple[str, str] | None:
    """Return state and process group of *pid*; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, _parent, group = text.rpartition(")")[2].split()[:3]
    return state, group


def is_gone(pid: int) -> bool:
    """Say whether process *pid* has ended; a zombie has."""
    found = _state(str(pid))
    return found is None or found[0] == "Z"


def group_is_gone(group: int) -> bool:
    """Say whether all processes of *group* have ended."""
    states = (_state(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return not any(found and found[0] != "Z" and found[1] == str(group) for found in states)
