# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks, CD drives and floppies as the guest sees them; ``images`` is what is behind them."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import VirtioDevice
from bpferry.domain.model.controllers import Count, QueueThread, Threads
from bpferry.domain.model.images import (
    FORMATS,
    BackingImage,
    DataFile,
    Format,
    ImageAgent,
    ImageBlockDevice,
    ImageConfig,
    ImageCookies,
    ImageFile,
    ImageFolder,
    ImageGroup,
    ImageHosts,
    ImageInitiator,
    ImageName,
    ImageProtocol,
    ImageQuery,
    ImageReadAhead,
    ImageReconnect,
    ImageSlice,
    ImageSnapshot,
    ImageTimeout,
    ImageUser,
    ImageUserName,
    ImageVerify,
)
from bpferry.domain.model.secrets import Encryption, Login

Target = Annotated[
    str,
    msgspec.Meta(
        pattern="^(fd|hd|sd|vd)[a-z]{1,4}$", description="a name such as vda, sda, hda or fda"
    ),
]
Serial = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9 _.+-]{1,128}$",
        description="1 to 128 letters, digits, spaces and _ . + -",
    ),
]
WorldWideName = Annotated[
    str, msgspec.Meta(pattern="^(0x)?[0-9a-fA-F]{16}$", description="16 hexadecimal digits")
]
Vendor = Annotated[str, msgspec.Meta(pattern="^[ -~]{1,8}$", description="at most 8 letters")]
Product = Annotated[str, msgspec.Meta(pattern="^[ -~]{1,40}$", description="at most 40 letters")]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Queues = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Rate = Annotated[int, msgspec.Meta(ge=0, le=10**15)]

Policy = Literal["stop", "report", "ignore", "enospace"]


class Geometry(Table, frozen=True, kw_only=True):
    """What the guest's BIOS is told about cylinders, heads and sectors."""

    cylinders: Placed[Positive, At("@cyls")]
    heads: Placed[Positive, At("@heads")]
    sectors: Placed[Positive, At("@secs")]
    translation: Placed[Literal["auto", "none", "lba", None], At("@trans")] = None


class Limits(Table, frozen=True, kw_only=True):
    """Limits: bytes and requests per second, what a burst may reach, and for how many seconds."""

    total_bytes_sec: Placed[Rate | None, At("total_bytes_sec")] = None
    read_bytes_sec: Placed[Rate | None, At("read_bytes_sec")] = None
    write_bytes_sec: Placed[Rate | None, At("write_bytes_sec")] = None
    total_iops_sec: Placed[Rate | None, At("total_iops_sec")] = None
    read_iops_sec: Placed[Rate | None, At("read_iops_sec")] = None
    write_iops_sec: Placed[Rate | None, At("write_iops_sec")] = None
    total_bytes_sec_max: Placed[Rate | None, At("total_bytes_sec_max")] = None
    read_bytes_sec_max: Placed[Rate | None, At("read_bytes_sec_max")] = None
    write_bytes_sec_max: Placed[Rate | None, At("write_bytes_sec_max")] = None
    total_iops_sec_max: Placed[Rate | None, At("total_iops_sec_max")] = None
    read_iops_sec_max: Placed[Rate | None, At("read_iops_sec_max")] = None
    write_iops_sec_max: Placed[Rate | None, At("write_iops_sec_max")] = None
    size_iops_sec: Placed[Rate | None, At("size_iops_sec")] = None
    """Bytes that count as one request."""
    total_bytes_sec_max_length: Placed[Rate | None, At("total_bytes_sec_max_length")] = None
    read_bytes_sec_max_length: Placed[Rate | None, At("read_bytes_sec_max_length")] = None
    write_bytes_sec_max_length: Placed[Rate | None, At("write_bytes_sec_max_length")] = None
    total_iops_sec_max_length: Placed[Rate | None, At("total_iops_sec_max_length")] = None
    read_iops_sec_max_length: Placed[Rate | None, At("read_iops_sec_max_length")] = None
    write_iops_sec_max_length: Placed[Rate | None, At("write_iops_sec_max_length")] = None


class Throttle(Limits, frozen=True, kw_only=True):
    """The limits of a disk, or of the group that it belongs to."""

    group: Placed[str | None, At("group_name")] = None
    """Disks of one group share its limits."""


class ThrottleGroup(Limits, frozen=True, kw_only=True):
    """Limits that are shared by the disks that name the group."""

    name: Placed[str, At("group_name")]


class Disk(VirtioDevice, frozen=True, kw_only=True):
    """One drive.

    Bus and address may be left out: they follow from the target. The native form may leave out the
    target as well (``shorthand_disks``).
    """

    type: Placed[
        Literal["file", "block", "network", "dir", "vhostuser"], At("@type", always=True)
    ] = "file"
    device: Placed[Literal["disk", "cdrom", "floppy", "lun"], At("@device", always=True)] = "disk"
    model: Placed[
        Literal["virtio", "virtio-transitional", "virtio-non-transitional", None], At("@model")
    ] = None
    driver: Placed[Literal["qemu", None], At("driver/@name")] = None
    file: ImageFile = None
    block_device: ImageBlockDevice = None
    folder: ImageFolder = None
    """With the type ``dir`` and the format ``fat``: a folder as it is when the VM starts."""
    format: Placed[Format | None, At("driver/@type", words=FORMATS)] = None
    target: Placed[Target, At("target/@dev")]
    bus: Placed[Literal["virtio", "scsi", "sata", "ide", "usb", "fdc", None], At("target/@bus")] = (
        None
    )
    removable: Placed[bool | None, At("target/@removable", Form.ON_OFF)] = None
    rotation_rate: Placed[Count | None, At("target/@rotation_rate")] = None
    """Revolutions per minute; 1 for a disk without moving parts."""
    read_only: Placed[bool, At("readonly", Form.PRESENT)] = False
    """A CD always is read-only."""
    shareable: Placed[bool, At("shareable", Form.PRESENT)] = False
    boot_order: Placed[Positive | None, At("boot/@order")] = None
    startup_policy: Placed[
        Literal["mandatory", "requisite", "optional", None], At("source/@startupPolicy")
    ] = None
    """Whether the medium has to be there when the VM starts: only ``optional`` says no."""

    cache: Placed[
        Literal["default", "none", "writeback", "writethrough", "directsync", "unsafe", None],
        At("driver/@cache"),
    ] = None
    io: Placed[Literal["threads", "native", "io_uring", None], At("driver/@io")] = None
    discard: Placed[Literal["unmap", "ignore", None], At("driver/@discard")] = None
    detect_zeroes: Placed[Literal["off", "on", "unmap", None], At("driver/@detect_zeroes")] = None
    discard_no_unref: Placed[bool | None, At("driver/@discard_no_unref", Form.ON_OFF)] = None
    copy_on_read: Placed[bool | None, At("driver/@copy_on_read", Form.ON_OFF)] = None
    error_policy: Placed[Policy | None, At("driver/@error_policy")] = None
    read_error_policy: Placed[
        Literal["stop", "report", "ignore", None], At("driver/@rerror_policy")
    ] = None
    metadata_cache: Placed[
        int | None, At("driver/metadata_cache/max_size", Form.SIZE, unit="bytes")
    ] = None

    ioeventfd: Placed[bool | None, At("driver/@ioeventfd", Form.ON_OFF)] = None
    event_index: Placed[bool | None, At("driver/@event_idx", Form.ON_OFF)] = None
    queues: Placed[Queues | None, At("driver/@queues")] = None
    queue_size: Placed[Queues | None, At("driver/@queue_size")] = None
    iothread: Placed[Threads | None, At("driver/@iothread")] = None
    iothreads: Placed[tuple[QueueThread, ...], At("driver/iothreads/iothread")] = ()

    serial: Placed[Serial | None, At("serial", verbatim=True)] = None
    wwn: Placed[WorldWideName | None, At("wwn")] = None
    vendor: Placed[Vendor | None, At("vendor")] = None
    product: Placed[Product | None, At("product")] = None
    logical_block_size: Placed[Positive | None, At("blockio/@logical_block_size")] = None
    physical_block_size: Placed[Positive | None, At("blockio/@physical_block_size")] = None
    discard_granularity: Placed[Positive | None, At("blockio/@discard_granularity")] = None
    geometry: Placed[Geometry | None, At("geometry")] = None
    throttle: Placed[Throttle | None, At("iotune")] = None
    throttle_groups: Placed[tuple[str, ...], At("throttlefilters/throttlefilter/@group")] = ()
    """Names of groups of the VM; the limits of all of them apply."""

    protocol: ImageProtocol = None
    name: ImageName = None
    query: ImageQuery = None
    hosts: ImageHosts = ()
    snapshot: ImageSnapshot = None
    config: ImageConfig = None
    verify: ImageVerify = None
    read_ahead: ImageReadAhead = None
    timeout: ImageTimeout = None
    reconnect_delay: ImageReconnect = None
    initiator: ImageInitiator = None
    user_name: ImageUserName = None
    user: ImageUser = None
    group: ImageGroup = None
    slice: ImageSlice = None
    cookies: ImageCookies = ()
    agent: ImageAgent = None
    login: Placed[Login | None, At("source/auth", also="auth")] = None
    encryption: Placed[Encryption | None, At("source/encryption", also="encryption")] = None
    data_file: Placed[DataFile | None, At("source/dataStore")] = None
    backing: Placed[BackingImage | None, At("backingStore")] = None

    socket_type: Placed[Literal["unix", None], At("source/@type")] = None
    socket: Placed[str | None, At("source/@path", Form.PLACE)] = None
    """Where a vhost-user process listens."""
    reconnect: Placed[bool | None, At("source/reconnect/@enabled", Form.YES_NO)] = None
    reconnect_timeout: Placed[Count | None, At("source/reconnect/@timeout")] = None
    """Seconds between tries to reach the vhost-user process again."""


Layer = Disk | BackingImage
"""What has a format, and can have an image below it."""

Image = Layer | DataFile
"""What has the fields of ``images.Source``."""
