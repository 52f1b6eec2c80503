# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands behind a disk: a file, a block device or something on the network, and its format.

A disk, the images below it and a data file say this in the same words, so the fields are named
here once and used by each of the three classes.
"""

from typing import Annotated, Literal, Protocol

import msgspec

from bpferry.domain.binding import At, Form, Table
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

    name: Annotated[str | None, At("@name")] = None
    port: Annotated[Port | None, At("@port")] = None
    """The protocol's own where none is given."""
    transport: Annotated[Literal["tcp", "unix"], At("@transport")] = "tcp"
    socket: Annotated[str | None, At("@socket")] = None


class Slice(Table, frozen=True, kw_only=True):
    """A part of a file that is taken for the whole."""

    type: Annotated[Literal["storage"], At("@type", always=True)] = "storage"
    offset: Annotated[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], At("@offset")]
    """Bytes."""
    size: Annotated[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)], At("@size")]
    """Bytes."""


Protocols = Literal["nbd", "rbd", "iscsi", "http", "https", "ftp", "ftps", "ssh", "nfs", "gluster"]

ImageType = Literal["file", "block", "network", "dir"]
ImageFile = Annotated[str | None, At("source/@file", Form.FILE, blank=True)]
ImageBlockDevice = Annotated[str | None, At("source/@dev", Form.FILE, blank=True)]
ImageFolder = Annotated[str | None, At("source/@dir", Form.FOLDER)]
ImageProtocol = Annotated[Protocols | None, At("source/@protocol")]
ImageName = Annotated[str | None, At("source/@name", blank=True)]
ImageQuery = Annotated[str | None, At("source/@query")]
ImageHosts = Annotated[tuple[Host, ...], At("source/host")]
ImageSnapshot = Annotated[str | None, At("source/snapshot/@name")]
ImageConfig = Annotated[str | None, At("source/config/@file", Form.FILE)]
ImageVerify = Annotated[bool | None, At("source/ssl/@verify", Form.YES_NO)]
ImageReadAhead = Annotated[ReadAhead | None, At("source/readahead/@size")]
ImageTimeout = Annotated[Seconds | None, At("source/timeout/@seconds")]
ImageReconnect = Annotated[Seconds | None, At("source/reconnect/@delay")]
ImageInitiator = Annotated[str | None, At("source/initiator/iqn/@name")]
ImageUserName = Annotated[str | None, At("source/identity/@username")]
ImageUser = Annotated[Number | None, At("source/identity/@user")]
ImageGroup = Annotated[Number | None, At("source/identity/@group")]
ImageSlice = Annotated[Slice | None, At("source/slices/slice")]
ImageCookies = Annotated[tuple[Cookie, ...], At("source/cookies/cookie")]
ImageAgent = Annotated[str | None, At("source/identity/@agentsock", Form.PLACE)]


class Image(Protocol):
    """What all three classes have."""

    @property
    def type(self) -> str | None:
        """Where it is: file, block or network."""

    @property
    def file(self) -> str | None:
        """Its path."""

    @property
    def block_device(self) -> str | None:
        """Its path."""

    @property
    def folder(self) -> str | None:
        """The path of a folder that the guest sees as a FAT file system."""

    @property
    def protocol(self) -> Protocols | None:
        """Of something on the network."""

    @property
    def name(self) -> str | None:
        """What the server calls it: a path, an export, ``pool/image``, or ``target/lun``."""

    @property
    def query(self) -> str | None:
        """What follows the question mark of a URL."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Its servers."""

    @property
    def snapshot(self) -> str | None:
        """Of rbd."""

    @property
    def config(self) -> str | None:
        """The configuration file of rbd."""

    @property
    def verify(self) -> bool | None:
        """Whether the server's certificate is checked."""

    @property
    def read_ahead(self) -> int | None:
        """Bytes, of http and ftp."""

    @property
    def timeout(self) -> int | None:
        """Seconds, of http and ftp."""

    @property
    def reconnect_delay(self) -> int | None:
        """Seconds for which nbd tries again before requests fail."""

    @property
    def initiator(self) -> str | None:
        """The name under which iscsi logs in."""

    @property
    def user_name(self) -> str | None:
        """Of ssh."""

    @property
    def user(self) -> str | None:
        """Of nfs."""

    @property
    def group(self) -> str | None:
        """Of nfs."""

    @property
    def slice(self) -> Slice | None:
        """The part of it that counts."""

    @property
    def cookies(self) -> tuple[Cookie, ...]:
        """Of https."""

    @property
    def agent(self) -> str | None:
        """Where the agent with the keys for ssh listens."""

    @property
    def login(self) -> Login | None:
        """How its server lets somebody in."""

    @property
    def encryption(self) -> Encryption | None:
        """How it is encrypted."""


class Source(Table, frozen=True, kw_only=True):
    """Where an image below another one is; a disk has the same fields beside its own."""

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
    login: Annotated[Login | None, At("source/auth")] = None
    encryption: Annotated[Encryption | None, At("source/encryption")] = None


class DataFile(Source, frozen=True, kw_only=True):
    """The file with the data of a qcow2 image that has only the tables itself."""

    type: Annotated[ImageType, At("@type", always=True)] = "file"
    format: Annotated[Literal["raw"], At("format/@type", always=True)] = "raw"


class BackingImage(Source, frozen=True, kw_only=True):
    """The image below another; without a type it says that there is none."""

    type: Annotated[ImageType | None, At("@type")] = None
    format: Annotated[Format | None, At("format/@type", words=FORMATS)] = None
    metadata_cache: Annotated[
        int | None, At("format/metadata_cache/max_size", Form.SIZE, unit="bytes")
    ] = None
    data_file: Annotated[DataFile | None, At("source/dataStore")] = None
    backing: Annotated["BackingImage | None", At("backingStore")] = None
