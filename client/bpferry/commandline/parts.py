# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command line consists of, before every device has its place.

An fd that QEMU inherits has a name, such as ``net0.tap0``. A dry run shows the name in the command
line; otherwise the fd's number is there. The same goes for a CID that the kernel assigns. What a
name refers to is a part as well, so that each family of devices says in one place what it needs
and how it uses it.

Parts are Structs, since those are made ten times as fast as dataclasses when bpferry starts.
"""

import json
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, Literal

from msgspec import Struct

from bpferry.domain.model.base import Address
from bpferry.errors import Unsupported


class Slot(Enum):
    """What kind of place a device needs."""

    NONE = auto()
    """No place, or one that its properties name already."""
    EXPRESS = auto()
    """A PCI function; a PCI Express one if the machine has that."""
    CONVENTIONAL = auto()
    """A function of conventional PCI, whatever the machine."""
    INTEGRATED = auto()
    """A PCI function of the root bus."""
    USB = auto()


def virtio_slot(model: str | None) -> Slot:
    """Return the kind of place that a virtio device of *model* needs.

    The protocol from before version 1.0 needs I/O ports, and QEMU offers it on conventional PCI
    only.
    """
    return Slot.CONVENTIONAL if model == "virtio-transitional" else Slot.EXPRESS


class Option(Struct, frozen=True):
    """One option with its value, or without one."""

    name: str
    value: str | None = None


class Device(Struct, frozen=True):
    """One ``-device``."""

    driver: str
    id: str
    key: str
    """The key of the model that it comes from, such as ``disks[0]``; empty for what we add."""
    properties: Mapping[str, object] = {}
    """All but driver, id and place. A value of None is left out."""
    slot: Slot = Slot.NONE
    address: Address | None = None
    """The place that the document gives it."""
    usual: tuple[str, ...] = ()
    """Places of the root bus such as ``1f.2``; it takes the first that nobody else has."""
    group: str = ""
    """Devices of one group are functions of one slot."""
    function: int = 0
    """Its function within its group."""

    @property
    def family(self) -> str:
        """The list of the model that it comes from, such as ``disks``."""
        return self.key.partition("[")[0]

    @property
    def number(self) -> int:
        """Its place in that list, from 0."""
        return int(self.key.partition("[")[2].rstrip("]") or "0")


class Listen(Struct, frozen=True):
    """A Unix socket that bpferry listens on, and whose fd QEMU inherits."""

    name: str
    path: str


class OutputFile(Struct, frozen=True):
    """A file that bpferry opens for writing, and whose fd QEMU inherits. It need not exist."""

    name: str
    path: str
    key: str
    """The key of the model that it is for."""
    append: bool = False
    """Keep what the file already contains."""


class OpenDevice(Struct, frozen=True):
    """A device node that bpferry opens for reading and writing, and whose fd QEMU inherits."""

    name: str
    path: str
    key: str
    """The key of the model that it is for."""


class OpenVsock(Struct, frozen=True):
    """The node of vhost-vsock, which bpferry opens like others, and asks for a free CID."""

    name: str
    """Of the fd that QEMU inherits."""
    cid: str
    """The name of the CID, which the number replaces once it is known."""
    path: str
    key: str


class Secret(Struct, frozen=True):
    """A password or key, which QEMU reads from a sealed file in memory that it inherits."""

    name: str
    """Of the fd that QEMU inherits; the id of the object in QEMU as well."""
    key: str
    text: str | None = None
    """The secret itself, if the description contains it."""
    wanted: str = ""
    """What the description calls it where a file holds it: a UUID or a usage."""
    form: Literal["text", "base64"] = "text"
    """How it is written; QEMU decodes base64."""

    def __repr__(self) -> str:
        """Say which one it is, without the secret."""
        return f"Secret(name={self.name!r}, key={self.key!r}, wanted={self.wanted!r})"


class Certificates(Struct, frozen=True):
    """A folder from which QEMU reads its key and certificates for TLS."""

    folder: str
    key: str
    """The key of the model that it is for."""


class OwnSocket(Struct, frozen=True):
    """A Unix socket that QEMU itself creates and listens on, since it takes no fd for it."""

    path: str


class Endpoint(Struct, frozen=True):
    """Where a user or a program of this host can connect to the VM, as long as it runs."""

    name: str
    """What people call it: ``vnc``, ``serial0``, ``guest agent``."""
    kind: Literal["tcp", "udp", "unix", "pty", "pipe", "vsock"]
    key: str
    host: str = ""
    """An address of this host, or a name of it; empty for all of them."""
    port: str = ""
    """A number, a range such as ``8000-8010``, or the name of a service; of vsock, the CID.
    Empty if QEMU chooses it."""
    path: str = ""
    """Of a socket, of a pseudo-terminal, or of a pipe without ``.in`` and ``.out``."""
    protocol: Literal[
        "", "vnc", "vnc-tls", "websocket", "spice", "spice-tls", "telnet", "vhost-user"
    ] = ""
    """The protocol that is spoken there, if it is not simply what the guest sends."""
    chardev: str = ""
    """The id of the chardev, if it is one."""
    waits: bool = False
    """QEMU does not start before somebody has connected."""


class SocketPair(Struct, frozen=True):
    """A connected socket of which QEMU inherits one end and bpferry keeps the other."""

    name: str


class LockedMemory(Struct, frozen=True):
    """Memory that QEMU has locked for a device of the host, so that it stays where it is."""

    size: int
    """Bytes."""
    key: str
    """The key of the model of such a device."""


class Link(Struct, frozen=True):
    """A connected socket of which QEMU inherits one end, and a companion the other."""

    name: str
    """Of QEMU's end."""
    peer: str
    """Of the companion's end, which its ``inherits`` has as well."""
    path: str = ""
    """For a companion that takes only a listening socket: where it listens until QEMU's end is
    connected to it, which is before both of them start. Nothing is left there."""


class Step(Struct, frozen=True):
    """A command that runs to its end before a companion starts."""

    argv: tuple[str, ...]
    empty: str | None = None
    """The folder that has to be empty; if it is not, a former run has done the step."""
    without: str = ""
    """What the user is told if it fails; if empty, the companion is not started then."""
    package: str = ""
    """As for a companion, if the command is in another package."""


class Companion(Struct, frozen=True):
    """A process that has to run beside QEMU, such as swtpm."""

    name: str
    argv: tuple[str, ...]
    """The program is looked up in PATH if there is no slash in it."""
    socket: str
    """The path of the socket that it makes and listens on; QEMU is started when it is there. Empty
    where it inherits one end of a ``Link`` instead, as all do that can."""
    key: str
    """The key of the model that it is for."""
    package: str = ""
    """What has to be installed for it, as Debian calls it, if that is not the program's name."""
    folders: tuple[str, ...] = ()
    """Folders that it needs besides the socket's; those that are missing are made, mode 0700."""
    steps: tuple[Step, ...] = ()
    inherits: tuple[str, ...] = ()
    """The names of the fds that it inherits; *argv* has them as QEMU's command line does."""


class Environment(Struct, frozen=True):
    """A variable of QEMU's environment."""

    name: str
    value: str


class StandardStreams(Struct, frozen=True):
    """QEMU's standard input and output are the guest's, and not /dev/null and our log."""


class Copy(Struct, frozen=True):
    """A file that is made from a template if it does not exist yet, mode 0600."""

    source: str
    target: str
    """Its folder has to exist, except the VM's own state folder, which is made."""
    key: str
    """The key of the model that it is for."""


class Folder(Struct, frozen=True):
    """A folder that is made if it does not exist yet, mode 0700."""

    path: str
    key: str


class Threads(Struct, frozen=True):
    """Threads of QEMU: all, one processor of the guest, one for I/O, or the emulator's.

    The emulator's are all that are neither a processor's nor for I/O, with those of vhost.
    """

    kind: Literal["all", "emulator", "vcpu", "iothread"]
    number: int = 0

    def __str__(self) -> str:
        return {
            "all": "QEMU",
            "emulator": "the emulator",
            "vcpu": f"processor {self.number} of the guest",
            "iothread": f"I/O thread {self.number}",
        }[self.kind]


ALL: Final = Threads("all")
EMULATOR: Final = Threads("emulator")


class Affinity(Struct, frozen=True):
    """The processors of the host that threads may run on; those that are not there do not count."""

    processors: frozenset[int]
    key: str
    threads: Threads = ALL


class Scheduling(Struct, frozen=True):
    """How the kernel schedules threads (sched(7))."""

    policy: Literal["batch", "idle", "fifo", "rr"]
    priority: int
    """Of a real-time policy; 0 for the others."""
    key: str
    threads: Threads


class Limit(Struct, frozen=True):
    """A limit of QEMU as a whole, which the user's systemd sets (systemd.resource-control(5))."""

    name: str
    """Of the property of the unit."""
    value: str
    key: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class PlugIn(Struct, frozen=True):
    """Processors of the guest that are added before it runs."""

    vcpus: tuple[int, ...]
    """Their numbers, in the order in which the guest should find them."""
    key: str


class Command(Struct, frozen=True):
    """A command of QMP that is run once QEMU answers."""

    name: str
    arguments: Mapping[str, object]
    key: str


class Remark(Struct, frozen=True):
    """What the user is told, since it may be less than was asked for."""

    text: str
    hint: str
    key: str


class Refusal(Struct, frozen=True):
    """What cannot be done, so that it is left out if the user says so."""

    error: Unsupported
    """Its element is a key of the model."""
    follows: bool = False
    """It is refused only because something that it needs was left out."""


Part = (
    Option
    | Device
    | Copy
    | Folder
    | Affinity
    | Scheduling
    | Limit
    | PlugIn
    | Command
    | Remark
    | Listen
    | OutputFile
    | OpenDevice
    | OpenVsock
    | Secret
    | Certificates
    | OwnSocket
    | Endpoint
    | SocketPair
    | LockedMemory
    | Link
    | Companion
    | Environment
    | StandardStreams
    | Refusal
)

Found = Part | Unsupported
"""What a builder yields: a part, or an error about something that it goes on without."""


def json_of(value: Mapping[str, object]) -> str:
    """Return *value* as JSON of ASCII signs only, without what is None."""
    kept = {key: single for key, single in value.items() if single is not None}
    return json.dumps(kept, separators=(",", ":"))


def join(first: str, /, **pairs: object) -> str:
    """Return QEMU's own notation ``first,key=value,...`` with the commas of values doubled.

    A value of None is left out, a truth value becomes on or off; an underscore in a key is a
    hyphen.
    """
    words = [first.replace(",", ",,")] if first else []
    for key, value in pairs.items():
        if value is not None:
            words.append(f"{key.replace('_', '-')}={_plain(value)}")
    return ",".join(words)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def on_off(value: bool | None) -> str | None:  # noqa: FBT001 - it is about a truth value
    """Return QEMU's word for *value* where JSON takes an OnOffAuto."""
    return None if value is None else ("on" if value else "off")
