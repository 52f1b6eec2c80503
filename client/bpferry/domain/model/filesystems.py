# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders of the host that the guest sees."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import VirtioDevice

Id = Annotated[int, msgspec.Meta(ge=0, lt=2**32 - 1)]

CreateMode = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(0[0-7]{3}|[0-7]{1,3})$", description="a mode in octal digits, such as 0700"
    ),
]
"""Permissions, in octal."""


class IdMap(Table, frozen=True, kw_only=True):
    """Users or groups that have other numbers on the host."""

    start: Placed[Id, At("@start")]
    """The first number as the guest sees it."""
    target: Placed[Id, At("@target")]
    """The first number on the host."""
    count: Placed[Annotated[int, msgspec.Meta(ge=1, lt=2**32)], At("@count")]


class Filesystem(VirtioDevice, frozen=True, kw_only=True):
    """A folder of the host that the guest sees, by 9p, virtiofs or MTP."""

    type: Placed[Literal["mount"], At("@type")] = "mount"
    model: Placed[
        Literal["virtio", "virtio-transitional", "virtio-non-transitional", None], At("@model")
    ] = None
    driver: Placed[
        Literal["9p", "virtiofs", "mtp"], At("driver/@type", words=(("path", "9p"),))
    ] = "9p"
    folder: Placed[str | None, At("source/@dir", Form.FOLDER)] = None
    socket: Placed[str | None, At("source/@socket", Form.PLACE)] = None
    """The socket of a virtiofsd that somebody else runs."""
    tag: Placed[str, At("target/@dir")]
    """What the guest calls it."""
    access: Placed[Literal["passthrough", "mapped", "squash"], At("@accessmode")] = "passthrough"
    """How 9p keeps owner and permissions: as they are, in extended attributes, or not at all."""
    file_mode: Placed[CreateMode | None, At("@fmode")] = None
    folder_mode: Placed[CreateMode | None, At("@dmode")] = None
    """The permissions of new files and folders on the host, if they are mapped."""
    multidevs: Placed[Literal["default", "remap", "forbid", "warn"], At("@multidevs")] = "default"
    """What 9p does if other file systems are mounted in the folder."""
    write_policy: Placed[Literal["immediate", None], At("driver/@wrpolicy")] = None
    read_only: Placed[bool, At("readonly", Form.PRESENT)] = False
    boot_order: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None, At("boot/@order")
    ] = None
    queue: Placed[Annotated[int, msgspec.Meta(ge=1, le=1024)] | None, At("driver/@queue")] = None
    """Entries of virtiofs's queue: a power of two (VIRTQUEUE_MAX_SIZE of QEMU is 1024)."""

    binary: Placed[str | None, At("binary/@path", Form.FILE)] = None
    """The virtiofsd to run. The fields below are its options."""
    xattr: Placed[bool | None, At("binary/@xattr", Form.ON_OFF)] = None
    cache: Placed[Literal["none", "always", None], At("binary/cache/@mode")] = None
    sandbox: Placed[Literal["namespace", "chroot", None], At("binary/sandbox/@mode")] = None
    threads: Placed[
        Annotated[int, msgspec.Meta(ge=0, le=4096)] | None, At("binary/thread_pool/@size")
    ] = None
    open_files: Placed[
        Annotated[int, msgspec.Meta(ge=1, lt=2**31)] | None, At("binary/openfiles/@max")
    ] = None
    uid_map: Placed[tuple[IdMap, ...], At("idmap/uid")] = ()
    gid_map: Placed[tuple[IdMap, ...], At("idmap/gid")] = ()

    @property
    def bus(self) -> str:
        """What the device is on: usb or virtio."""
        return "usb" if self.driver == "mtp" else "virtio"
