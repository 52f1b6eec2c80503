# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes to which QEMU connects when it starts have to listen."""

import socket
from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.machine.character_sources import find_missing_sources
from bpferry.machine.servers import find_missing_servers

CARD = "<interface type='vhostuser'><source type='unix' path='{}' mode='client'/></interface>"
DISK = (
    "<disk type='vhostuser' device='disk'><source type='unix' path='{}'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)
NBD = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd'>"
    "<host transport='unix' socket='{}'/></source><target dev='vda' bus='virtio'/></disk>"
)
BELOW = (
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i'/>"
    "<backingStore type='network'><format type='raw'/><source protocol='nbd'>"
    "<host transport='unix' socket='{}'/></source></backingStore>"
    "<target dev='vda' bus='virtio'/></disk>"
)
EGD = (
    "<rng model='virtio'><backend model='egd' type='unix'>"
    "<source mode='connect' path='{}'/></backend></rng>"
)
FOLDER = (
    "<filesystem type='mount'><driver type='virtiofs'/><source socket='{}'/><target dir='t'/>"
    "</filesystem>"
)
LISTENS = CARD.replace("client", "server")
AGAIN = CARD.replace("/></", "><reconnect enabled='yes' timeout='1'/></source></")


def found(device: str, path: Path) -> list[tuple[str, str, str]]:
    """Return place, message and hint of what is in the way of a VM with *device*."""
    text = (
        "<domain type='qemu'><name>v</name><memory>65536</memory><os><type>hvm</type></os>"
        f"<devices>{device.format(path)}</devices></domain>"
    )
    machine = read_bytes(text.encode(), path.parent / "vm.xml").machine
    faults = (*find_missing_servers(machine), *find_missing_sources(machine))
    return [(error.element or "", error.message, error.hint) for error in faults]


@pytest.mark.parametrize(
    ("device", "key"),
    [
        (CARD, "cards[0].socket"),
        (DISK, "disks[0].socket"),
        (NBD, "disks[0].hosts[0].socket"),
        (BELOW, "disks[0].backing.hosts[0].socket"),
        (FOLDER, "filesystems[0].socket"),
        (EGD, "rngs[0].sources[0].path"),
    ],
)
def test_socket_without_a_listener(device: str, key: str, tmp_path: Path) -> None:
    """Whether its file is there or not; with a listener nothing is said."""
    path = tmp_path / "s"
    ((element, message, hint),) = found(device, path)

    assert element == key
    assert message == f"cannot connect to '{path}': nothing listens there"
    assert hint.startswith("first start what the VM should connect to, or ")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert [] == found(device, path)

    assert [message] == [told for _, told, _ in found(device, path)]


@pytest.mark.parametrize("device", [LISTENS, AGAIN])
def test_socket_that_may_be_missing(device: str, tmp_path: Path) -> None:
    """A socket on which the VM listens itself, and one to which QEMU connects again."""
    assert [] == found(device, tmp_path / "s")


def test_file_is_no_socket(tmp_path: Path) -> None:
    """That is said, since nothing could be started that would help."""
    (tmp_path / "s").touch()

    ((_, message, _),) = found(CARD, tmp_path / "s")

    assert message == f"cannot connect to '{tmp_path}/s': it is not a socket"
