# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind a disk: a file, a block device or something on the network, and its format.

A disk, the images below it and a data file have the same fields for this. The type of each field,
with its place in XML, is defined here once. ``Disk`` has to list the fields again: it is a device,
and a msgspec class cannot inherit fields from two others.
"""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.secrets import Cookie, Encryption, Login

FORMATS = (("aio", "raw"), ("raw", "raw"), ("vhd", "vhdx"), ("ploop", "parallels"))
"""libvirt's word and QEMU's own; ``aio`` is an old word for raw."""

Format = Literal[
    "raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels", "bochs", "cloop",
    "dmg", "fat",
]  # fmt: skip

Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
ReadAhead = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""Bytes."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]

Number = Annotated[
    str, msgspec.Meta(pattern=r"^\+?[0-9]{1,10}$", description="the number of a user or group")
]
"""A user's or group's number, with libvirt's plus sign or without."""


class Host(Table, frozen=True, kw_only=True):
    """Where a server listens."""

    name: Placed[str | None, At("@name")] = None
    port: Placed[Port | None, At("@port")] = None
    """By default the protocol's own."""
    transport: Placed[Literal["tcp", "unix"], At("@transport")] = "tcp"
    socket: Placed[str | None, At("@socket")] = None


class Slice(Table, frozen=True, kw_only=True):
    """A part of a file that is used as if it were the whole."""

    type: Placed[Literal["storage"], At("@type", always=True)] = "storage"
    offset: Placed[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], At("@offset")]
    """Bytes."""
    size: Placed[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)], At("@size")]
    """Bytes."""


Protocols = Literal["nbd", "rbd", "iscsi", "http", "https", "ftp", "ftps", "ssh", "nfs", "gluster"]

ImageType = Literal["file", "block", "network", "dir"]
ImageFile = Placed[str | None, At("source/@file", Form.FILE, blank=True)]
ImageBlockDevice = Placed[str | None, At("source/@dev", Form.FILE, blank=True)]
ImageFolder = Placed[str | None, At("source/@dir", Form.FOLDER)]
"""A folder that the guest sees as a FAT file system."""
ImageProtocol = Placed[Protocols | None, At("source/@protocol")]
ImageName = Placed[str | None, At("source/@name", blank=True)]
"""What the server calls it: a path, an export, ``pool/image``, or ``target/lun``."""
ImageQuery = Placed[str | None, At("source/@query")]
"""What follows the question mark of a URL."""
ImageHosts = Placed[tuple[Host, ...], At("source/host")]
"""The servers that have it."""
ImageSnapshot = Placed[str | None, At("source/snapshot/@name")]
"""For rbd."""
ImageConfig = Placed[str | None, At("source/config/@file", Form.FILE)]
"""The configuration file of rbd."""
ImageVerify = Placed[bool | None, At("source/ssl/@verify", Form.YES_NO)]
"""Whether the server's certificate is checked."""
ImageReadAhead = Placed[ReadAhead | None, At("source/readahead/@size")]
"""Bytes, for http and ftp."""
ImageTimeout = Placed[Seconds | None, At("source/timeout/@seconds")]
"""For http and ftp."""
ImageReconnect = Placed[Seconds | None, At("source/reconnect/@delay")]
"""For how long nbd tries again before requests fail."""
ImageInitiator = Placed[str | None, At("source/initiator/iqn/@name")]
"""The name under which iscsi logs in."""
ImageUserName = Placed[str | None, At("source/identity/@username")]
"""For ssh."""
ImageUser = Placed[Number | None, At("source/identity/@user")]
"""For nfs."""
ImageGroup = Placed[Number | None, At("source/identity/@group")]
"""For nfs."""
ImageSlice = Placed[Slice | None, At("source/slices/slice")]
"""The part of the file that the guest sees as the whole disk."""
ImageCookies = Placed[tuple[Cookie, ...], At("source/cookies/cookie")]
"""For http, https, ftp and ftps."""
ImageAgent = Placed[str | None, At("source/identity/@agentsock", Form.PLACE)]
"""The socket of the agent that has the keys for ssh."""


class Source(Table, frozen=True, kw_only=True):
    """Where an image is; ``Disk`` lists the same fields."""

    file: ImageFile = None
    block_device: ImageBlockDevice = None
    folder: ImageFolder = None
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
    login: Placed[Login | None, At("source/auth")] = None
    encryption: Placed[Encryption | None, At("source/encryption")] = None


class DataFile(Source, frozen=True, kw_only=True):
    """The file that holds the data of a qcow2 image, which then holds only the tables."""

    type: Placed[ImageType, At("@type", always=True)] = "file"
    format: Placed[Literal["raw"], At("format/@type", always=True)] = "raw"


class BackingImage(Source, frozen=True, kw_only=True):
    """The image below another; without a type, there is no image below."""

    type: Placed[ImageType | None, At("@type")] = None
    format: Placed[Format | None, At("format/@type", words=FORMATS)] = None
    metadata_cache: Placed[
        int | None, At("format/metadata_cache/max_size", Form.SIZE, unit="bytes")
    ] = None
    data_file: Placed[DataFile | None, At("source/dataStore")] = None
    backing: Placed["BackingImage | None", At("backingStore")] = None
