# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks, CD drives and floppies as the guest sees them; ``images`` is what is behind them."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Table
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

    cylinders: Annotated[Positive, At("@cyls")]
    heads: Annotated[Positive, At("@heads")]
    sectors: Annotated[Positive, At("@secs")]
    translation: Annotated[Literal["auto", "none", "lba"] | None, At("@trans")] = None


class Limits(Table, frozen=True, kw_only=True):
    """Limits: bytes and requests per second, what a burst may reach, and for how many seconds."""

    total_bytes_sec: Annotated[Rate | None, At("total_bytes_sec")] = None
    read_bytes_sec: Annotated[Rate | None, At("read_bytes_sec")] = None
    write_bytes_sec: Annotated[Rate | None, At("write_bytes_sec")] = None
    total_iops_sec: Annotated[Rate | None, At("total_iops_sec")] = None
    read_iops_sec: Annotated[Rate | None, At("read_iops_sec")] = None
    write_iops_sec: Annotated[Rate | None, At("write_iops_sec")] = None
    total_bytes_sec_max: Annotated[Rate | None, At("total_bytes_sec_max")] = None
    read_bytes_sec_max: Annotated[Rate | None, At("read_bytes_sec_max")] = None
    write_bytes_sec_max: Annotated[Rate | None, At("write_bytes_sec_max")] = None
    total_iops_sec_max: Annotated[Rate | None, At("total_iops_sec_max")] = None
    read_iops_sec_max: Annotated[Rate | None, At("read_iops_sec_max")] = None
    write_iops_sec_max: Annotated[Rate | None, At("write_iops_sec_max")] = None
    size_iops_sec: Annotated[Rate | None, At("size_iops_sec")] = None
    """Bytes that count as one request."""
    total_bytes_sec_max_length: Annotated[Rate | None, At("total_bytes_sec_max_length")] = None
    read_bytes_sec_max_length: Annotated[Rate | None, At("read_bytes_sec_max_length")] = None
    write_bytes_sec_max_length: Annotated[Rate | None, At("write_bytes_sec_max_length")] = None
    total_iops_sec_max_length: Annotated[Rate | None, At("total_iops_sec_max_length")] = None
    read_iops_sec_max_length: Annotated[Rate | None, At("read_iops_sec_max_length")] = None
    write_iops_sec_max_length: Annotated[Rate | None, At("write_iops_sec_max_length")] = None


class Throttle(Limits, frozen=True, kw_only=True):
    """The limits of a disk, or of the group that it belongs to."""

    group: Annotated[str | None, At("group_name")] = None
    """Disks of one group share its limits."""


class ThrottleGroup(Limits, frozen=True, kw_only=True):
    """Limits that are shared by the disks that name the group."""

    name: Annotated[str, At("group_name")]


class Disk(VirtioDevice, frozen=True, kw_only=True):
    """One drive.

    Bus and address may be left out: they follow from the target. The native form may leave out the
    target as well (``shorthand_disks``).
    """

    type: Annotated[
        Literal["file", "block", "network", "dir", "vhostuser"], At("@type", always=True)
    ] = "file"
    device: Annotated[Literal["disk", "cdrom", "floppy", "lun"], At("@device", always=True)] = (
        "disk"
    )
    model: Annotated[
        Literal["virtio", "virtio-transitional", "virtio-non-transitional"] | None, At("@model")
    ] = None
    driver: Annotated[Literal["qemu"] | None, At("driver/@name")] = None
    file: ImageFile = None
    block_device: ImageBlockDevice = None
    folder: ImageFolder = None
    """With the type ``dir`` and the format ``fat``: a folder as it is when the VM starts."""
    format: Annotated[Format | None, At("driver/@type", words=FORMATS)] = None
    target: Annotated[Target, At("target/@dev")]
    bus: Annotated[
        Literal["virtio", "scsi", "sata", "ide", "usb", "fdc"] | None, At("target/@bus")
    ] = None
    removable: Annotated[bool | None, At("target/@removable", Form.ON_OFF)] = None
    rotation_rate: Annotated[Count | None, At("target/@rotation_rate")] = None
    """Revolutions per minute; 1 for a disk without moving parts."""
    read_only: Annotated[bool, At("readonly", Form.PRESENT)] = False
    """A CD always is read-only."""
    shareable: Annotated[bool, At("shareable", Form.PRESENT)] = False
    boot_order: Annotated[Positive | None, At("boot/@order")] = None
    startup_policy: Annotated[
        Literal["mandatory", "requisite", "optional"] | None, At("source/@startupPolicy")
    ] = None
    """Whether the medium has to be there when the VM starts: only ``optional`` says no."""

    cache: Annotated[
        Literal["default", "none", "writeback", "writethrough", "directsync", "unsafe"] | None,
        At("driver/@cache"),
    ] = None
    io: Annotated[Literal["threads", "native", "io_uring"] | None, At("driver/@io")] = None
    discard: Annotated[Literal["unmap", "ignore"] | None, At("driver/@discard")] = None
    detect_zeroes: Annotated[Literal["off", "on", "unmap"] | None, At("driver/@detect_zeroes")] = (
        None
    )
    discard_no_unref: Annotated[bool | None, At("driver/@discard_no_unref", Form.ON_OFF)] = None
    copy_on_read: Annotated[bool | None, At("driver/@copy_on_read", Form.ON_OFF)] = None
    error_policy: Annotated[Policy | None, At("driver/@error_policy")] = None
    read_error_policy: Annotated[
        Literal["stop", "report", "ignore"] | None, At("driver/@rerror_policy")
    ] = None
    metadata_cache: Annotated[
        int | None, At("driver/metadata_cache/max_size", Form.SIZE, unit="bytes")
    ] = None

    ioeventfd: Annotated[bool | None, At("driver/@ioeventfd", Form.ON_OFF)] = None
    event_index: Annotated[bool | None, At("driver/@event_idx", Form.ON_OFF)] = None
    queues: Annotated[Queues | None, At("driver/@queues")] = None
    queue_size: Annotated[Queues | None, At("driver/@queue_size")] = None
    iothread: Annotated[Threads | None, At("driver/@iothread")] = None
    iothreads: Annotated[tuple[QueueThread, ...], At("driver/iothreads/iothread")] = ()

    serial: Annotated[Serial | None, At("serial", verbatim=True)] = None
    wwn: Annotated[WorldWideName | None, At("wwn")] = None
    vendor: Annotated[Vendor | None, At("vendor")] = None
    product: Annotated[Product | None, At("product")] = None
    logical_block_size: Annotated[Positive | None, At("blockio/@logical_block_size")] = None
    physical_block_size: Annotated[Positive | None, At("blockio/@physical_block_size")] = None
    discard_granularity: Annotated[Positive | None, At("blockio/@discard_granularity")] = None
    geometry: Annotated[Geometry | None, At("geometry")] = None
    throttle: Annotated[Throttle | None, At("iotune")] = None
    throttle_groups: Annotated[tuple[str, ...], At("throttlefilters/throttlefilter/@group")] = ()
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
    login: Annotated[Login | None, At("source/auth", also="auth")] = None
    encryption: Annotated[Encryption | None, At("source/encryption", also="encryption")] = None
    data_file: Annotated[DataFile | None, At("source/dataStore")] = None
    backing: Annotated[BackingImage | None, At("backingStore")] = None

    socket_type: Annotated[Literal["unix"] | None, At("source/@type")] = None
    socket: Annotated[str | None, At("source/@path", Form.PLACE)] = None
    """Where a vhost-user process listens."""
    reconnect: Annotated[bool | None, At("source/reconnect/@enabled", Form.YES_NO)] = None
    reconnect_timeout: Annotated[Count | None, At("source/reconnect/@timeout")] = None
    """Seconds between tries to reach the vhost-user process again."""


Layer = Disk | BackingImage
"""What has a format, and can have an image below it."""

Image = Layer | DataFile
"""What has the fields of ``images.Source``."""
