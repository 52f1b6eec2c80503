# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders of the host that the guest sees: 9p by QEMU itself, virtiofs by a process, MTP by USB."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.memory.shared_memory import SHARED, has_shared_memory
from bpferry.commandline.parts import (
    Companion,
    Device,
    Found,
    Link,
    Option,
    Part,
    Remark,
    Slot,
    join,
    virtio_slot,
)
from bpferry.domain.forms import either
from bpferry.domain.model.filesystems import Filesystem, IdMap
from bpferry.domain.names import Named, before, named
from bpferry.errors import Unsupported

ALWAYS: Final = frozenset({"type", "driver", "folder", "tag", "read_only", "alias", "address"})

VIRTIO: Final = frozenset({"iommu", "ats", "packed", "page_per_vq"})

NINE_P: Final = (
    ALWAYS | VIRTIO | {"model", "access", "file_mode", "folder_mode", "multidevs", "write_policy"}
)
VIRTIOFS: Final = ALWAYS | VIRTIO | {"socket", "boot_order", "queue"}
"""Fields that count no matter who runs virtiofsd."""

DAEMON: Final = frozenset(
    {"binary", "xattr", "cache", "sandbox", "threads", "open_files", "uid_map", "gid_map"}
)

SECURITY: Final = {"passthrough": "passthrough", "mapped": "mapped", "squash": "none"}
"""What QEMU calls the ways to keep owner and permissions."""

MAX_9P_TAG: Final = 32
MAX_VIRTIOFS_TAG: Final = 36
"""Bytes (hw/9pfs/9p.h, linux/virtio_fs.h)."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the devices, each after what is behind it."""
    for device in named(context.machine.filesystems, "filesystems", "fs"):
        yield from attempt(_filesystem, device, context)


def _filesystem(device: Named[Filesystem], context: Context) -> Iterator[Found]:
    filesystem = device.value
    earlier = before(device, context.machine.filesystems)
    if filesystem.driver != "mtp" and any(one.tag == filesystem.tag for one in earlier):
        yield device.mistake(
            "tag",
            f"another filesystem has the tag '{filesystem.tag}' too",
            "give each filesystem a tag of its own",
        )
    if filesystem.driver == "9p":
        yield from _nine_p(context, device)
    elif filesystem.driver == "virtiofs":
        yield from _virtiofs(context, device)
    else:
        yield from _mtp(device)


def _folder(device: Named[Filesystem]) -> str:
    filesystem = device.value
    if filesystem.folder is None:
        raise device.mistake(
            "", f"'{filesystem.driver}' needs a folder of the host", "name the folder"
        )
    return filesystem.folder


def _check_tag(device: Named[Filesystem], most: int) -> Iterator[Unsupported]:
    filesystem = device.value
    if len(filesystem.tag.encode()) > most:
        yield device.refusal("tag", f"it can have up to {most} bytes", "shorten the tag")


def _nine_p(context: Context, device: Named[Filesystem]) -> Iterator[Found]:
    filesystem = device.value
    yield from refuse_others(device, NINE_P, "a folder that the guest sees by 9p")
    yield from _check_tag(device, MAX_9P_TAG)
    for field, mode in (
        ("file-mode", filesystem.file_mode),
        ("folder-mode", filesystem.folder_mode),
    ):
        if mode is not None and filesystem.access != "mapped":
            yield device.mistake(
                field, "it is for the access 'mapped'", "leave it out, or write the access 'mapped'"
            )
    if filesystem.access == "passthrough":
        yield Remark(
            f"the guest cannot change the owner of files in '{filesystem.folder}', since QEMU "
            "is not root",
            "write "
            + either('access = "mapped"', "accessmode='mapped'")
            + ", or 'squash' to ignore it",
            f"{device.key}.access",
        )
    yield Option("-fsdev", _fsdev(f"fsdev-{device.id}", _folder(device), filesystem))
    yield Device(
        context.virtio("virtio-9p", filesystem.model),
        device.id,
        device.key,
        {
            "fsdev": f"fsdev-{device.id}",
            "mount_tag": filesystem.tag,
            **virtio_properties(filesystem),
        },
        slot=virtio_slot(filesystem.model),
        address=filesystem.address,
    )


def _fsdev(fsdev_id: str, folder: str, filesystem: Filesystem) -> str:
    # Free text of the document goes through join(), which doubles its commas.
    words = [
        join("local", id=fsdev_id, path=folder),
        f"security_model={SECURITY[filesystem.access]}",
    ]
    if filesystem.multidevs != "default":
        words.append(f"multidevs={filesystem.multidevs}")
    for name, mode in (("fmode", filesystem.file_mode), ("dmode", filesystem.folder_mode)):
        if mode is not None:
            words.append(f"{name}={int(mode, 8):04o}")
    if filesystem.write_policy is not None:
        words.append(f"writeout={filesystem.write_policy}")
    if filesystem.read_only:
        words.append("readonly=on")
    return ",".join(words)


def _virtiofs(context: Context, device: Named[Filesystem]) -> Iterator[Found]:
    filesystem = device.value
    ours = frozenset() if filesystem.socket else DAEMON
    yield from refuse_others(device, VIRTIOFS | ours, "a folder that the guest sees by virtiofs")
    yield from _check_tag(device, MAX_VIRTIOFS_TAG)
    if filesystem.queue is not None and filesystem.queue.bit_count() != 1:
        yield device.mistake(
            "queue", "it has to be a power of two", "write a power of two, such as 1024"
        )
    if not has_shared_memory(context.machine):
        yield device.refusal(
            "",
            "virtiofsd cannot reach the guest's memory",
            f"share it: {SHARED}",
        )
    if filesystem.socket is None:
        # Named after its number, since an id that the user chose may hold any character.
        path = f"{context.folders.runtime}/fs{device.number}.sock"
        link = Link(f"{device.id}.virtiofsd", f"{device.id}.qemu", path)
        yield link
        yield _daemon(device, link, context)
        where = {"fd": context.fd(link.name)}
    else:
        where = {"path": filesystem.socket}
        yield from _decided_elsewhere(device)
    chardev = f"chr-vu-{device.id}"
    yield Option("-chardev", join("socket", id=chardev, **where))
    yield Device(
        context.virtio("vhost-user-fs"),
        device.id,
        device.key,
        {
            "chardev": chardev,
            "tag": filesystem.tag,
            "queue-size": filesystem.queue,
            "bootindex": filesystem.boot_order,
            **virtio_properties(filesystem),
        },
        slot=Slot.EXPRESS,
        address=filesystem.address,
    )


def _decided_elsewhere(device: Named[Filesystem]) -> Iterator[Found]:
    """Yield a refusal of each field that is for a virtiofsd of ours, and there is another one."""
    for field in ("folder", "read-only"):
        if getattr(device.value, field.replace("-", "_")):
            yield device.refusal(
                field,
                "the virtiofsd behind the socket decides this",
                "leave it out, and set it where that virtiofsd is started",
            )


def _daemon(device: Named[Filesystem], link: Link, context: Context) -> Companion:
    """Return the virtiofsd for a folder (the one in Rust; its options are those of 1.0 and newer).

    Values follow an equals sign, so that none of them can be taken for an option.
    """
    filesystem = device.value
    options: dict[str, object] = {
        "fd": context.fd(link.peer),
        "shared-dir": _folder(device),
        "cache": {"none": "never", "always": "always"}.get(filesystem.cache or ""),
        "sandbox": filesystem.sandbox,
        "thread-pool-size": filesystem.threads,
        "rlimit-nofile": filesystem.open_files,
    }
    argv = [f"--{name}={value}" for name, value in options.items() if value is not None]
    argv += [f"--uid-map={_map(one)}" for one in filesystem.uid_map]
    argv += [f"--gid-map={_map(one)}" for one in filesystem.gid_map]
    argv += ["--xattr"] if filesystem.xattr else []
    argv += ["--readonly"] if filesystem.read_only else []
    program = filesystem.binary or "virtiofsd"
    return Companion(
        "virtiofsd",
        (program, *argv),
        "",
        device.key,
        package="virtiofsd",
        inherits=(link.peer,),
    )


def _map(one: IdMap) -> str:
    return f":{one.start}:{one.target}:{one.count}:"


def _mtp(device: Named[Filesystem]) -> Iterator[Found]:
    filesystem = device.value
    yield from refuse_others(device, ALWAYS, "a folder that the guest sees by MTP")
    yield Device(
        "usb-mtp",
        device.id,
        device.key,
        {
            "rootdir": _folder(device),
            "desc": filesystem.tag,
            "readonly": filesystem.read_only,
        },
        slot=Slot.USB,
        address=filesystem.address,
    )
