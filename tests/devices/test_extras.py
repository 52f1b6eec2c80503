# SPDX-License-Identifier: LGPL-2.1-or-later
"""The smaller devices in a real QEMU."""

import sys
from pathlib import Path

import pytest

from bpferry.commandline.parts import Command
from bpferry.errors import BpferryError
from tests.client.support import script
from tests.devices.running import domain, running

pytestmark = pytest.mark.qemu

ACPI = "<features><acpi/></features>"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the VM leaves in the test's own folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()


@pytest.mark.parametrize(
    ("device", "machine", "device_id", "expected"),
    [
        (
            "<memballoon model='virtio' autodeflate='on' freePageReporting='on'/>",
            "q35",
            "balloon0",
            {
                "type": "virtio-balloon-pci",
                "deflate-on-oom": True,
                "free-page-reporting": True,
            },
        ),
        (
            "<memballoon model='virtio-transitional'/>",
            "q35",
            "balloon0",
            {"type": "virtio-balloon-pci-transitional"},
        ),
        (
            (
                "<rng model='virtio'><backend model='random'>/dev/urandom</backend>"
                "<rate bytes='1024' period='500'/></rng>"
            ),
            "q35",
            "rng0",
            {"type": "virtio-rng-pci", "max-bytes": 1024, "period": 500},
        ),
        (
            "<rng model='virtio'><backend model='builtin'/></rng>",
            "pc",
            "rng0",
            {"type": "virtio-rng-pci", "rng": "/objects/objrng0"},
        ),
        (
            (
                "<rng model='virtio'><backend model='egd' type='unix'>"
                "<source mode='bind' path='egd.sock'/></backend></rng>"
            ),
            "q35",
            "rng0",
            {"type": "virtio-rng-pci", "rng": "/objects/objrng0"},
        ),
        (
            "<watchdog model='i6300esb' action='pause'/>",
            "q35",
            "watchdog0",
            {"type": "i6300esb"},
        ),
        ("<watchdog model='ib700' action='reset'/>", "pc", "watchdog0", {"type": "ib700"}),
        (
            "<panic model='isa'><address type='isa' iobase='0x506'/></panic>",
            "q35",
            "panic0",
            {"type": "pvpanic", "ioport": 0x506},
        ),
        ("<panic model='pvpanic'/>", "q35", "panic0", {"type": "pvpanic-pci"}),
        (
            "<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>",
            "q35",
            "crypto0",
            {"type": "virtio-crypto-pci", "cryptodev": "/objects/objcrypto0"},
        ),
        (
            (
                "<shmem name='bpferry-test'><model type='ivshmem-plain'/><size unit='M'>1</size>"
                "</shmem>"
            ),
            "q35",
            "shmem0",
            {"type": "ivshmem-plain", "memdev": "/objects/shmmem-shmem0"},
        ),
        (
            "<pstore backend='acpi-erst'><size unit='KiB'>64</size></pstore>",
            "q35",
            "pstore0",
            {"type": "acpi-erst", "memdev": "/objects/mempstore0"},
        ),
        (
            (
                "<filesystem type='mount' accessmode='mapped'><source dir='shared'/>"
                "<target dir='tag'/></filesystem>"
            ),
            "q35",
            "fs0",
            {"type": "virtio-9p-pci", "mount_tag": "tag", "fsdev": "fsdev-fs0"},
        ),
        (
            (
                "<filesystem type='mount'><driver type='mtp'/><source dir='shared'/>"
                "<target dir='tag'/></filesystem>"
            ),
            "q35",
            "fs0",
            {"type": "usb-mtp", "desc": "tag", "readonly": False},
        ),
        (
            "<iommu model='intel'><driver caching_mode='on' iotlb='on' aw_bits='39'/></iommu>",
            "q35",
            "iommu0",
            {
                "type": "intel-iommu",
                "caching-mode": True,
                "device-iotlb": True,
                "aw-bits": 39,
            },
        ),
        ("<iommu model='virtio'/>", "q35", "iommu0", {"type": "virtio-iommu-pci"}),
    ],
)
def test_device_is_there(
    device: str, machine: str, device_id: str, expected: dict[str, object], tmp_path: Path
) -> None:
    """QEMU has made the device, with what the document says of it."""
    (tmp_path / "shared").mkdir()

    with running(domain(device, machine=machine, top=ACPI), tmp_path) as vm:
        assert expected == {name: vm.property_of(device_id, name) for name in expected}
    Path("/dev/shm/bpferry-test").unlink(missing_ok=True)


def test_balloon_statistics(tmp_path: Path) -> None:
    """The command that goes with a period is one that QEMU takes."""
    balloon = "<memballoon model='virtio'><stats period='3'/></memballoon>"

    with running(domain(balloon), tmp_path) as vm:
        (command,) = vm.draft.built.of(Command)
        vm.execute(command.name, **command.arguments)

        assert 3 == vm.property_of("balloon0", "guest-stats-polling-interval")


def test_hyperv_panic(tmp_path: Path) -> None:
    """The registers in which Windows reports a crash are a part of the processor."""
    with running(domain("<panic model='hyperv'/>"), tmp_path) as vm:
        processors = vm.execute("query-cpus-fast")
        assert isinstance(processors, list)

        assert vm.execute("qom-get", path=processors[0]["qom-path"], property="hv-crash")


BACK_END = f"""\
exec {sys.executable} - "$@" <<'PYTHON'
import socket, struct, sys
fd = next(word.partition("=")[2] for word in sys.argv if word.startswith("--fd="))
server = socket.socket(fileno=int(fd))
connection, _ = server.accept()
while header := connection.recv(12):
    request, flags, size = struct.unpack("=III", header)
    if size:
        connection.recv(size)
    # The features (VIRTIO_F_VERSION_1, protocol features), those of the protocol (MQ), the queues.
    answer = {{1: 1 << 32 | 1 << 30, 15: 1, 17: 64}}.get(request)
    if answer is not None:
        connection.send(struct.pack("=IIIQ", request, 1 | 4, 8, answer))
PYTHON
"""
"""As much of a virtiofsd as QEMU talks to before the guest runs (docs/interop/vhost-user.rst)."""


def test_virtiofs(tmp_path: Path) -> None:
    """QEMU shares the guest's memory with the process, at a socket that nobody else can reach."""
    (tmp_path / "shared").mkdir()
    program = script(tmp_path, BACK_END, "fake-virtiofsd")
    filesystem = (
        f"<filesystem type='mount'><driver type='virtiofs' queue='256'/><binary path='{program}'/>"
        "<source dir='shared'/><target dir='tag'/></filesystem>"
    )
    shared = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"

    with running(domain(filesystem, top=shared), tmp_path) as vm:
        assert ["vhost-user-fs-pci", "tag", 256] == [
            vm.property_of("fs0", name) for name in ("type", "tag", "queue-size")
        ]
        folder = tmp_path / "run" / "bpferry" / "devices"
        assert {"control.sock", "qmp.sock"} == {path.name for path in folder.iterdir()}
    assert not folder.exists()


def test_vsock_without_the_node(tmp_path: Path) -> None:
    """Where the kernel has no vhost-vsock, this is said before QEMU starts."""
    vsock = "<vsock model='virtio'><cid auto='no' address='7777'/></vsock>"
    if Path("/dev/vhost-vsock").exists():
        with running(domain(vsock), tmp_path) as vm:
            assert 7777 == vm.property_of("vsock0", "guest-cid")
        return

    with (
        pytest.raises(BpferryError, match="/dev/vhost-vsock") as caught,
        running(domain(vsock), tmp_path),
    ):
        pass
    assert "modprobe" in caught.value.hint
