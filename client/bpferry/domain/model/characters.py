# SPDX-License-Identifier: LGPL-2.1-or-later
"""Character devices: serial and parallel ports, consoles, channels, redirected USB devices."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import Device

BackEnd = Literal[
    "null", "vc", "pty", "dev", "file", "pipe", "stdio", "udp", "tcp", "unix", "spicevmc",
    "spiceport", "dbus", "qemu-vdagent",
]  # fmt: skip

Port = Annotated[int, msgspec.Meta(ge=0, le=255)]

UsbVersion = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([0-9]{1,2}\.[0-9]{1,2}|-1)$", description="a version such as 2.0, or -1 for any"
    ),
]


class Source(Table, frozen=True, kw_only=True):
    """One end of what is behind a character device. Which fields count depends on its type."""

    mode: Placed[Literal["bind", "connect", None], At("@mode")] = None
    path: Placed[str | None, At("@path", Form.PLACE)] = None
    host: Placed[str | None, At("@host")] = None
    service: Placed[str | None, At("@service")] = None
    """A port's number, or its name (services(5))."""
    channel: Placed[str | None, At("@channel")] = None
    append: Placed[bool | None, At("@append", Form.ON_OFF)] = None
    tls: Placed[bool | None, At("@tls", Form.YES_NO)] = None
    reconnect: Placed[bool | None, At("reconnect/@enabled", Form.YES_NO)] = None
    reconnect_seconds: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=86400)] | None, At("reconnect/@timeout")
    ] = None
    clipboard: Placed[bool | None, At("clipboard/@copypaste", Form.YES_NO)] = None
    mouse: Placed[Literal["client", "server", None], At("mouse/@mode")] = None


class Character(Device, frozen=True, kw_only=True):
    """What every character device may have behind it, besides the type."""

    sources: Placed[tuple[Source, ...], At("source")] = ()
    """One, or two for UDP: where packets come from, and where they go to."""
    protocol: Placed[Literal["raw", "telnet", None], At("protocol/@type")] = None
    log: Placed[str | None, At("log/@file", Form.PLACE)] = None
    """A file in which everything that the guest writes is logged."""
    log_append: Placed[bool | None, At("log/@append", Form.ON_OFF)] = None


class Serial(Character, frozen=True, kw_only=True):
    """A serial port."""

    type: Placed[BackEnd, At("@type", always=True)] = "pty"
    target: Placed[
        Literal["isa-serial", "usb-serial", "pci-serial", "system-serial", "isa-debug", None],
        At("target/@type"),
    ] = None
    model: Placed[
        Literal["isa-serial", "usb-serial", "pci-serial", "pl011", "16550a", "isa-debugcon", None],
        At("target/model/@name"),
    ] = None
    port: Placed[Port | None, At("target/@port")] = None


class Parallel(Character, frozen=True, kw_only=True):
    """A parallel port."""

    type: Placed[BackEnd, At("@type", always=True)] = "pty"
    port: Placed[Port | None, At("target/@port")] = None


class Console(Character, frozen=True, kw_only=True):
    """A console; the first one is the first serial port, unless its target says otherwise."""

    type: Placed[BackEnd, At("@type", always=True)] = "pty"
    target: Placed[Literal["serial", "virtio", None], At("target/@type")] = None
    port: Placed[Port | None, At("target/@port")] = None


class Channel(Character, frozen=True, kw_only=True):
    """A channel between guest and host: a named port, or an address in the guest's network."""

    type: Placed[BackEnd, At("@type", always=True)] = "pty"
    target: Placed[Literal["virtio", "guestfwd"], At("target/@type", always=True)] = "virtio"
    name: Placed[str | None, At("target/@name")] = None
    guest_address: Placed[str | None, At("target/@address")] = None
    guest_port: Placed[Annotated[int, msgspec.Meta(ge=1, le=65535)] | None, At("target/@port")] = (
        None
    )


class RedirectedDevice(Character, frozen=True, kw_only=True):
    """A USB device that is redirected over a character device."""

    type: Placed[BackEnd, At("@type", always=True)]
    bus: Placed[Literal["usb"], At("@bus", always=True)] = "usb"
    boot_order: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None, At("boot/@order")
    ] = None


class RedirectionRule(Table, frozen=True, kw_only=True):
    """Which redirected devices are let in or kept out. The first rule that matches counts."""

    usb_class: Placed[Annotated[int, msgspec.Meta(ge=-1, le=0xFF)], At("@class", Form.HEX)] = -1
    """-1 is any, here and below."""
    vendor: Placed[Annotated[int, msgspec.Meta(ge=-1, le=0xFFFF)], At("@vendor", Form.HEX)] = -1
    product: Placed[Annotated[int, msgspec.Meta(ge=-1, le=0xFFFF)], At("@product", Form.HEX)] = -1
    version: Placed[UsbVersion, At("@version")] = "-1"
    """A version such as 1.10."""
    allow: Placed[bool, At("@allow", Form.YES_NO, always=True)]


class SmartCard(Character, frozen=True, kw_only=True):
    """A smart card in the reader: the host's, one made of three certificates, or a client's."""

    mode: Placed[Literal["host", "host-certificates", "passthrough"], At("@mode", always=True)]
    type: Placed[BackEnd | None, At("@type")] = None
    """The type of the character device that reaches a client's card."""
    certificates: Placed[tuple[str, ...], At("certificate")] = ()
    """Names of three certificates in the database."""
    database: Placed[str | None, At("database", Form.PLACE)] = None
    """The folder of an NSS database."""
