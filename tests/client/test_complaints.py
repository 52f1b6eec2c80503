# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU complains of when it does not start has a place in the document, and a remedy."""

import shutil
from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Device
from bpferry.domain.document import read_bytes
from bpferry.machine.complaints import find_key
from bpferry.machine.remedies import REMEDIES, find_remedy
from tests.client.running import BASE, start
from tests.client.support import QEMU

STORAGE = '{"driver":"file","filename":"/images/b","node-name":"vdb-storage"}'
PFLASH = '{"driver":"file","filename":"/fw/code","node-name":"pflash0"}'
FORMAT = '{"driver":"qcow2","node-name":"vdb-format","file":"vdb-storage"}'
ARGV = (
    QEMU,
    *("-no-user-config", "-machine", "q35,memory-backend=pc.ram,pflash0=pflash0"),
    *("-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":1}'),
    *("-device", '{"driver":"pcie-root-port","id":"pci.1"}'),
    *("-blockdev", STORAGE, "-blockdev", FORMAT),
    *("-device", '{"driver":"virtio-blk-pci","id":"virtio-disk1","drive":"vdb-format"}'),
    *("-netdev", '{"type":"tap","id":"hostnet0","fds":"5:6"}'),
    *("-device", '{"driver":"virtio-net-pci","id":"net0","netdev":"hostnet0","bus":"pci.1"}'),
    *("-chardev", "socket,id=charserial0,path=/run/x,,y"),
    *("-device", '{"driver":"isa-serial","id":"serial0","chardev":"charserial0"}'),
    *("-blockdev", PFLASH, "-spice", "port=5901", "-vnc", "127.0.0.1:0", "-global", "such"),
)
DEVICES = (
    Device("pcie-root-port", "pci.1", ""),
    Device("virtio-blk-pci", "virtio-disk1", "disks[1]"),
    Device("virtio-net-pci", "net0", "cards[0]"),
    Device("isa-serial", "serial0", "serials[0]"),
)
DOCUMENT = b"""
name = "t"
memory = "32 MiB"
qemu-arguments = ["-global", "such"]
kernel = "/images/vmlinuz"
loader = { path = "/fw/code", type = "pflash" }
[[disks]]
file = "/images/a"
format = "raw"
[[disks]]
file = "/images/b"
format = "qcow2"
[[graphics]]
type = "vnc"
[[graphics]]
type = "spice"
"""


@pytest.mark.parametrize(
    ("said", "key"),
    [
        (f"-blockdev {STORAGE}: Could not open '/images/b': Permission denied", "disks[1].file"),
        (f"-blockdev {FORMAT}: Image is not in qcow2 format", "disks[1]"),
        (f"{ARGV[12]} {ARGV[13]}: Device needs media", "disks[1]"),
        (f"{ARGV[14]} {ARGV[15]}: could not open it", "cards[0]"),
        (f"{ARGV[6]} {ARGV[7]}: bus is full", ""),
        (f"{ARGV[4]} {ARGV[5]}: no memory", "memory"),
        ("-chardev socket,id=charserial0,path=/run/x,,y: Connection refused", "serials[0]"),
        ("-spice port=5901: no", "graphics[1]"),
        ("-vnc 127.0.0.1:0: no", "graphics[0]"),
        ("-global such: Invalid parameter", "qemu-arguments[1]"),
        (f"{ARGV[2]} {ARGV[3]}: no", "machine-type"),
        (f"-blockdev {PFLASH}: Could not open '/fw/code': Permission denied", "loader.path"),
        ("could not open kernel file '/images/vmlinuz': No such file or directory", "kernel"),
        ("unable to find CPU model 'x'", "cpu"),
        ("invalid kernel header", "kernel"),
        ("initrd is too large, cannot support", "initrd"),
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", "memory"),
        ("-device virtio-such: no option of ours", ""),
    ],
)
def test_complaint_has_the_place_of_what_it_is_about(said: str, key: str) -> None:
    """By ids that refer to each other, by a path, or by its words."""
    machine = read_bytes(DOCUMENT, Path("/vm.toml")).machine

    found = find_key([f"qemu: {said}", "Is it?"], Built(ARGV, DEVICES, DEVICES), machine)

    assert key == found


def test_own_option_may_be_anything() -> None:
    """What QEMU cannot read is nothing that we stumble over."""
    machine = read_bytes(DOCUMENT, Path("/vm.toml")).machine
    built = Built((*ARGV, "-device", "{", "-object", "{" * 100_000), DEVICES, DEVICES)

    assert "cpu" == find_key(["qemu: unable to find CPU model 'x'"], built, machine)


def test_disks_with_one_file_are_told_apart_by_the_option() -> None:
    """The path alone would be that of the first one."""
    text = DOCUMENT.replace(b"/images/a", b"/images/b")
    machine = read_bytes(text, Path("/vm.toml")).machine
    said = f"qemu: -blockdev {STORAGE}: Could not open '/images/b': Permission denied"

    assert "disks[1].file" == find_key([said], Built(ARGV, DEVICES, DEVICES), machine)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('Failed to get "write" lock', "another process uses that image"),
        ("Could not open '/x': Permission denied", "get access to it"),
        ("Could not access KVM kernel module: Permission denied", "without KVM"),
        ("Failed to find an available port: Address already in use", "choose another port"),
        ("Could not open '/x': No such file or directory", "correct the path"),
        ("Failed to connect to '/x': No such file or directory", "nothing listens there"),
        ('unsupported machine type: "x"', f"'{QEMU} -machine help' lists them"),
        ("unable to find CPU model 'x'", f"'{QEMU} -cpu help' lists them"),
        ("'x' is not a valid device model name", f"'{QEMU} -device help'"),
        ('failed to find romfile "x.rom"', "install the firmware"),
        ("invalid kernel header", "the image of a Linux kernel"),
        ("something that nobody knows", ""),
    ],
)
def test_common_complaint_has_a_remedy(said: str, remedy: str) -> None:
    """What nobody knows has none."""
    found = find_remedy([f"qemu: {said}", "Is another line?"], QEMU)

    assert remedy in found
    assert bool(remedy) == bool(found)


def test_remedies_name_what_is_asked_for_and_no_more() -> None:
    """Their only placeholder is QEMU's path."""
    for remedy in REMEDIES.values():
        assert "{" not in remedy.replace("{qemu}", "")


@pytest.mark.qemu
def test_complaint_of_a_real_qemu_is_told_once_with_place_and_remedy(tmp_path: Path) -> None:
    """Its line is there once, unchanged; the error has the place, and the hint what to do."""
    source = '{mode = "connect", host = "127.0.0.1", service = "1"}'
    serial = f'[[serials]]\ntype = "tcp"\nsources = [{source}]\n'
    with start(tmp_path, BASE + serial) as run:
        assert run.status() == 1

        said, error, hint = run.err().splitlines()[-3:]
        assert f"bpferry: qemu: {Path(shutil.which(QEMU) or '').name}: -chardev socket," in said
        assert said.endswith("Failed to connect to '127.0.0.1:1': Connection refused")
        assert 1 == run.err().count("Failed to connect")
        assert error == (
            f"bpferry: error: '{tmp_path}/vm.toml':4: 'serials[0]': "
            "QEMU ended with exit status 1 before it could run the VM"
        )
        assert hint.startswith("bpferry: hint: nothing listens there: first start")
