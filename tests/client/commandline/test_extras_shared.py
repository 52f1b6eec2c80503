# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guest and host, or several guests, share: folders, memory, sockets; and the IOMMU."""

import pytest

from bpferry.commandline.parts import Companion, Link, OpenDevice, OpenVsock, Remark
from tests.client.commandline.extra_parts import (
    ACPI,
    FOLDERS,
    SHARED,
    devices_in,
    options,
    parts_of,
    values,
)
from tests.client.refusals import refusal_of


def folder(inner: str = "", attributes: str = "", source: str = "dir='/srv'") -> str:
    """Return a folder of the host with these elements and attributes."""
    return (
        f"<filesystem type='mount' {attributes}>{inner}<source {source}/><target dir='tag'/>"
        "</filesystem>"
    )


VIRTIOFS = "<driver type='virtiofs'/>"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (folder(), "local,id=fsdev-fs0,path=/srv,security_model=passthrough"),
        (
            folder("<driver type='path' wrpolicy='immediate'/><readonly/>", "accessmode='squash'"),
            "local,id=fsdev-fs0,path=/srv,security_model=none,writeout=immediate,readonly=on",
        ),
        (
            folder("", "accessmode='mapped' fmode='640' dmode='0750' multidevs='remap'"),
            (
                "local,id=fsdev-fs0,path=/srv,security_model=mapped,multidevs=remap,fmode=0640,"
                "dmode=0750"
            ),
        ),
        (
            folder("", "", "dir='/a,readonly=on'"),
            "local,id=fsdev-fs0,path=/a,,readonly=on,security_model=passthrough",
        ),
    ],
)
def test_9p(document: str, expected: str) -> None:
    """QEMU itself shows the folder to the guest."""
    parts = parts_of(document)

    assert [expected] == values(parts, "-fsdev")
    assert [("virtio-9p-pci", "fs0", {"fsdev": "fsdev-fs0", "mount_tag": "tag"})] == devices_in(
        parts
    )


@pytest.mark.parametrize(("access", "told"), [("passthrough", 1), ("mapped", 0), ("squash", 0)])
def test_what_9p_cannot_keep_is_said(access: str, told: int) -> None:
    """Without root, QEMU cannot give files to others."""
    parts = parts_of(folder("", f"accessmode='{access}'"))

    assert told == len([part for part in parts if isinstance(part, Remark)])


def test_virtiofs() -> None:
    """A virtiofsd runs beside QEMU, and both inherit the socket that is between them."""
    parts = parts_of(
        folder("<driver type='virtiofs' queue='1024' iommu='on'/><boot order='2'/>"), top=SHARED
    )

    (daemon,) = (part for part in parts if isinstance(part, Companion))
    assert ("virtiofsd", "--fd=fs0.qemu", "--shared-dir=/srv") == daemon.argv
    assert ("", ("fs0.qemu",)) == (daemon.socket, daemon.inherits)
    assert Link("fs0.virtiofsd", "fs0.qemu", f"{FOLDERS.runtime}/fs0.sock") in parts
    assert ("-chardev", "socket,id=chr-vu-fs0,fd=fs0.virtiofsd") in options(parts)
    assert [
        (
            "vhost-user-fs-pci",
            "fs0",
            {
                "chardev": "chr-vu-fs0",
                "tag": "tag",
                "queue-size": 1024,
                "bootindex": 2,
                "iommu_platform": True,
            },
        )
    ] == devices_in(parts)


def test_options_of_virtiofsd() -> None:
    """Whatever the document says of virtiofsd, it is told."""
    inner = (
        f"{VIRTIOFS}<binary path='/opt/vfsd' xattr='on'><cache mode='none'/>"
        "<sandbox mode='chroot'/><thread_pool size='16'/><openfiles max='100'/></binary>"
        "<readonly/><idmap><uid start='0' target='1000' count='1'/>"
        "<gid start='0' target='100' count='2'/><gid start='5' target='7' count='1'/></idmap>"
    )

    (daemon,) = (
        part for part in parts_of(folder(inner), top=SHARED) if isinstance(part, Companion)
    )

    assert (
        "/opt/vfsd", "--fd=fs0.qemu", "--shared-dir=/srv",
        "--cache=never", "--sandbox=chroot", "--thread-pool-size=16", "--rlimit-nofile=100",
        "--uid-map=:0:1000:1:", "--gid-map=:0:100:2:", "--gid-map=:5:7:1:", "--xattr",
        "--readonly",
    ) == daemon.argv  # fmt: skip


def test_virtiofsd_of_somebody_else() -> None:
    """Where the document names a socket, nothing is started."""
    parts = parts_of(folder(VIRTIOFS, "", "socket='/run/v.sock'"), top=SHARED)

    assert ["socket,id=chr-vu-fs0,path=/run/v.sock"] == values(parts, "-chardev")
    assert [] == [part for part in parts if isinstance(part, Companion)]


def test_mtp() -> None:
    """A folder on USB can be written to unless it is said otherwise."""
    mtp = "<driver type='mtp'/>"
    parts = parts_of(folder(mtp) + folder(f"{mtp}<readonly/>"))

    assert [
        ("usb-mtp", "fs0", {"rootdir": "/srv", "desc": "tag", "readonly": False}),
        ("usb-mtp", "fs1", {"rootdir": "/srv", "desc": "tag", "readonly": True}),
    ] == devices_in(parts)


@pytest.mark.parametrize(
    ("document", "top", "key"),
    [
        (folder() + folder(), "", "filesystems[1].tag"),
        (folder("", "", "socket='/s'"), "", "filesystems[0].socket"),
        (folder("", "fmode='600'"), "", "filesystems[0].file-mode"),
        (folder("<binary path='/x'/>"), "", "filesystems[0].binary"),
        (folder("<boot order='1'/>"), "", "filesystems[0].boot-order"),
        (folder(VIRTIOFS), "", "filesystems[0]"),
        (folder(VIRTIOFS, "accessmode='mapped'"), SHARED, "filesystems[0].access"),
        (folder("<driver type='virtiofs' queue='5'/>"), SHARED, "filesystems[0].queue"),
        (
            folder(f"{VIRTIOFS}<binary path='/x'/>", "", "socket='/s'"),
            SHARED,
            "filesystems[0].binary",
        ),
        (
            folder(f"{VIRTIOFS}<readonly/>", "", "socket='/s'"),
            SHARED,
            "filesystems[0].read-only",
        ),
        (
            folder("<driver type='mtp'/>", "model='virtio'"),
            "",
            "filesystems[0].model",
        ),
        (folder().replace("'tag'", f"'{'t' * 33}'"), "", "filesystems[0].tag"),
    ],
)
def test_folders_that_cannot_be(document: str, top: str, key: str) -> None:
    """What one of the three ways cannot do is refused, by its name."""
    assert key == refusal_of(parts_of, document, top=top).element


PLAIN = "<model type='ivshmem-plain'/>"
DOORBELL = "<model type='ivshmem-doorbell'/>"


@pytest.mark.parametrize(
    ("role", "inner", "size", "master"),
    [
        ("", "", 4 * 2**20, {}),
        ("role='master'", "<size unit='M'>128</size>", 2**27, {"master": "on"}),
        ("role='peer'", "<size>1048576</size>", 2**20, {"master": "off"}),
    ],
)
def test_shared_memory(role: str, inner: str, size: int, master: dict[str, object]) -> None:
    """Plain shared memory is a file in /dev/shm; a size without a unit is bytes."""
    parts = parts_of(f"<shmem name='a,b' {role}>{PLAIN}{inner}</shmem>")

    assert [
        (
            '{"qom-type":"memory-backend-file","id":"shmmem-shmem0",'
            f'"mem-path":"/dev/shm/a,b","size":{size},"share":true}}'
        )
    ] == values(parts, "-object")
    assert [("ivshmem-plain", "shmem0", {"memdev": "shmmem-shmem0", **master})] == devices_in(parts)


@pytest.mark.parametrize(
    ("inner", "path", "properties"),
    [
        ("<server/>", "/var/lib/libvirt/shmem-s-sock", {"ioeventfd": True}),
        (
            "<server path='/x'/><msi vectors='16' ioeventfd='off'/>",
            "/x",
            {"ioeventfd": False, "vectors": 16},
        ),
    ],
)
def test_shared_memory_of_a_server(inner: str, path: str, properties: dict[str, object]) -> None:
    """With interrupts, a server hands out the memory."""
    parts = parts_of(f"<shmem name='s'>{DOORBELL}{inner}</shmem>")

    assert [f"socket,id=charshmem0,path={path}"] == values(parts, "-chardev")
    assert [("ivshmem-doorbell", "shmem0", {"chardev": "charshmem0", **properties})] == devices_in(
        parts
    )


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ""])
def test_shared_memory_stays_in_its_folder(name: str) -> None:
    """A name is that of a file in one folder, and no way to another one."""
    refusal = refusal_of(parts_of, f"<shmem name='{name}'>{PLAIN}</shmem>")
    assert "shared-memories[0].name" == refusal.element


@pytest.mark.parametrize(
    ("inner", "field"),
    [
        (f"{PLAIN}<size>5</size>", ".size"),
        (f"{PLAIN}<size>3145728</size>", ".size"),
        (f"{PLAIN}<server/>", ".server"),
        (f"{PLAIN}<msi/>", ".interrupts"),
        (DOORBELL, ""),
        (f"{DOORBELL}<server/><size>1048576</size>", ".size"),
    ],
)
def test_shared_memory_that_cannot_be(inner: str, field: str) -> None:
    """What the other kind has, and a size that is not a power of two, are refused."""
    refusal = refusal_of(parts_of, f"<shmem name='s'>{inner}</shmem>")
    assert f"shared-memories[0]{field}" == refusal.element


def test_vsock() -> None:
    """The node is opened by bpferry, and QEMU inherits it."""
    parts = parts_of("<vsock model='virtio'><cid auto='no' address='77'/></vsock>", "pc")

    assert [OpenDevice("vsock0.vhost", "/dev/vhost-vsock", "vsock")] == parts[:1]
    assert [
        ("vhost-vsock-pci", "vsock0", {"guest-cid": 77, "vhostfd": "vsock0.vhost"})
    ] == devices_in(parts)


@pytest.mark.parametrize("inner", ["<cid auto='yes'/>", "", "<cid auto='yes' address='5'/>"])
def test_cid_that_the_host_gives(inner: str) -> None:
    """A dry run has a name in its place, as for an fd."""
    parts = parts_of(f"<vsock>{inner}</vsock>", "pc")

    assert [OpenVsock("vsock0.vhost", "vsock0.cid", "/dev/vhost-vsock", "vsock")] == parts[:1]
    assert [
        ("vhost-vsock-pci", "vsock0", {"guest-cid": "vsock0.cid", "vhostfd": "vsock0.vhost"})
    ] == devices_in(parts)


SPLIT = "<features><acpi/><ioapic driver='qemu'/></features>"


def test_intel_iommu() -> None:
    """All its switches are passed on."""
    driver = (
        "<driver intremap='on' caching_mode='on' eim='off' iotlb='on' aw_bits='39' "
        "dma_translation='off'/>"
    )

    assert [
        (
            "intel-iommu",
            "iommu0",
            {
                "intremap": "on",
                "caching-mode": True,
                "eim": "off",
                "device-iotlb": True,
                "aw-bits": 39,
                "dma-translation": False,
            },
        )
    ] == devices_in(parts_of(f"<iommu model='intel'>{driver}</iommu>", top=SPLIT))


def test_virtio_iommu() -> None:
    """A virtio IOMMU is a device on the root bus."""
    assert [("virtio-iommu", "iommu0", {})] == devices_in(
        parts_of("<iommu model='virtio'/>", top=ACPI)
    )


@pytest.mark.parametrize(
    ("iommu", "machine", "top", "key"),
    [
        ("<iommu model='intel'/>", "pc", "", "iommu.model"),
        ("<iommu model='intel'><driver intremap='on'/></iommu>", "q35", "",
         "iommu.interrupt-remapping"),
        ("<iommu model='intel'><driver eim='on'/></iommu>", "q35", SPLIT,
         "iommu.extended-interrupts"),
        ("<iommu model='virtio'/>", "q35", "", "iommu"),
        ("<iommu model='virtio'/>", "pc", ACPI, "iommu.model"),
        ("<iommu model='virtio'><driver eim='on'/></iommu>", "q35", ACPI,
         "iommu.extended-interrupts"),
        ("", "q35", "<vcpu>256</vcpu>", "vcpus"),
    ],
)  # fmt: skip
def test_iommus_that_cannot_be(iommu: str, machine: str, top: str, key: str) -> None:
    """What the unit needs is named where it is missing."""
    assert key == refusal_of(parts_of, iommu, machine, top).element


def test_older_qemu() -> None:
    """A switch that this QEMU lacks is not passed over."""
    with pytest.raises(Exception, match="no such switch"):
        parts_of("<iommu model='intel'><driver dma_translation='off'/></iommu>", newest=False)
