# SPDX-License-Identifier: LGPL-2.1-or-later
"""What reads foreign input, and what has to hold for any input.

A target gets some bytes and returns. It raises nothing but what it swallows here: the errors that
the reader's own docstring promises. An ``AssertionError`` says that the answer was wrong.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from bpferry.domain.document import read_bytes, to_toml, to_xml
from bpferry.errors import BpferryError
from bpferry.launcher import conversion
from bpferry.launcher.giving import NoGiver
from bpferry.machine.control import packets as control
from bpferry.qemu.capabilities import Capabilities
from bpferry_helper.bpf.binary import Binary
from bpferry_helper.bpf.digest import sha256
from bpferry_helper.bpf.embedded import ELF_MAGIC, MAX_OBJECT_BYTES, scan
from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.toml_form import parse_policy
from bpferry_helper.tap.bridge_conf import SPACE, read_bridge_conf
from bpferry_wire import packets
from bpferry_wire.errors import BadMessage
from bpferry_wire.fds import OwnedFd
from bpferry_wire.messages import Hello, ListTaps, Load, Quota, Request, Status, Tap
from tests.client.support import CAPABILITIES

REPLIED: Final[tuple[Request, ...]] = (
    Hello(), Quota(), Status(), ListTaps(),
    Load("rss", bytes(32)), Tap("br0", is_network=False, queues=4),
)  # fmt: skip
"""One request for each kind of reply; the first byte of the input chooses."""

SCRATCH: Final = Path(os.environ.get("BPFERRY_SCRATCH", f"/run/bpferry-fuzz-{os.getpid()}"))
"""Where files are read from. A fuzzer leaves no chance to remove it: its caller names another."""

QEMU: Final[Capabilities] = msgspec.structs.replace(
    CAPABILITIES,
    devices={
        "virtio-net-pci": {
            **dict.fromkeys(("rss", "hash", "mq"), "bool"),
            **dict.fromkeys(("mac", "netdev", "tx"), "str"),
            "ebpf-rss-fds": "list",
            "vectors": "uint32",
            "host_mtu": "uint16",
        },
        "e1000": {"mac": "str", "netdev": "str"},
    },
)


def wire_request(data: bytes) -> None:
    """A request is refused as a bad message, or is the same after another round."""
    with suppress(BadMessage):
        request = packets.decode_request(data)
        assert packets.decode_request(packets.encode_request(request)) == request


def wire_reply(data: bytes) -> None:
    """A reply is refused as a bad message, or is the same after another round."""
    request = REPLIED[data[0] % len(REPLIED)] if data else Hello()
    with suppress(BadMessage):
        reply = packets.decode_reply(data[1:], request)
        assert packets.decode_reply(packets.encode_reply(reply), request) == reply


def control_socket(data: bytes) -> None:
    """What comes to a VM's socket, and what comes from one."""
    with suppress(BadMessage):
        op, fields = control.decode_request(data)
        assert isinstance(op, str)
        fields.done()
    with suppress(BadMessage, BpferryError):
        control.decode_reply(data)


def policy(data: bytes) -> None:
    """A policy is read, or its mistake has a line of the file."""
    text = data.decode(errors="replace")
    try:
        parse_policy("policy.toml", text, 0)
    except PolicyError as mistake:
        line = mistake.line
        assert 0 <= line <= text.count("\n") + 1


def bridge_conf(data: bytes) -> None:
    """No line of it that QEMU would take as a deny is passed over."""
    path = SCRATCH / "bridge.conf"
    path.write_bytes(data)
    read = read_bridge_conf(str(path))
    if read.mistake is None:
        for line in data.split(b"\n"):
            verb, _, rest = line.strip(SPACE).partition(b" ")
            # A request names a bridge in UTF-8, so nobody can ask for another one.
            with suppress(UnicodeDecodeError):
                name = rest.strip(SPACE).decode()
                assert verb != b"deny" or not name or not _opens(read.decide(name)), line


def _opens(decision: object) -> bool:
    return bool(getattr(decision, "allowed", False))


def xml(data: bytes) -> None:
    """A domain document is read, or refused in words; read, it can be written and read again."""
    _document(data, Path("/vms/vm.xml"))


def toml(data: bytes) -> None:
    """The same for the native form."""
    _document(data, Path("/vms/vm.toml"))


def _document(data: bytes, path: Path) -> None:
    try:
        document = read_bytes(data, path)
    except BpferryError:
        with suppress(BpferryError):
            read_bytes(data, path, ignore_unsupported=True, in_part=True)
        return
    again = read_bytes(to_toml(document.machine).encode(), Path("/vms/again.toml"))
    assert again.machine == document.machine
    # Not every native description has a form in XML, but writing it fails in words.
    with suppress(BpferryError):
        to_xml(document.machine)


def elf(data: bytes) -> None:
    """What is found in a binary lies in it, is an ELF file, and has its digest."""
    with OwnedFd(os.memfd_create("fuzz", os.MFD_CLOEXEC)) as fd:
        os.write(fd.borrow(), data)
        for found in scan(Binary("fuzz", fd, "", len(data))):
            content = data[found.offset : found.offset + found.length]
            assert len(content) == found.length <= MAX_OBJECT_BYTES
            assert content.startswith(ELF_MAGIC)
            assert sha256(content) == found.digest


def launcher(data: bytes) -> None:
    """Another launcher's command line stays as it is without a tap; a second pass does nothing."""
    text = data.decode(errors="surrogateescape")
    argv = ["qemu-system-x86_64", *text.split("\0")]
    made = conversion.convert(argv, QEMU, NoGiver(), conversion.Wishes())
    assert conversion.has_taps(argv) or made.argv == argv
    assert conversion.convert(made.argv, QEMU, NoGiver(), conversion.Wishes()).argv == made.argv


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    target.__name__.replace("_", "-"): target
    for target in (
        wire_request, wire_reply, control_socket, policy, bridge_conf, xml, toml, elf, launcher,
    )
}  # fmt: skip
