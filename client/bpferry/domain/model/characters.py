# SPDX-License-Identifier: LGPL-2.1-or-later
"""Character devices: serial and parallel ports, consoles, channels, redirected USB devices."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Table
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

    mode: Annotated[Literal["bind", "connect"] | None, At("@mode")] = None
    path: Annotated[str | None, At("@path", Form.PLACE)] = None
    host: Annotated[str | None, At("@host")] = None
    service: Annotated[str | None, At("@service")] = None
    """A port's number, or its name (services(5))."""
    channel: Annotated[str | None, At("@channel")] = None
    append: Annotated[bool | None, At("@append", Form.ON_OFF)] = None
    tls: Annotated[bool | None, At("@tls", Form.YES_NO)] = None
    reconnect: Annotated[bool | None, At("reconnect/@enabled", Form.YES_NO)] = None
    reconnect_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=86400)] | None, At("reconnect/@timeout")
    ] = None
    clipboard: Annotated[bool | None, At("clipboard/@copypaste", Form.YES_NO)] = None
    mouse: Annotated[Literal["client", "server"] | None, At("mouse/@mode")] = None


class Character(Device, frozen=True, kw_only=True):
    """What every character device may have behind it, besides the type."""

    sources: Annotated[tuple[Source, ...], At("source")] = ()
    """One, or two for UDP: where packets come from, and where they go to."""
    protocol: Annotated[Literal["raw", "telnet"] | None, At("protocol/@type")] = None
    log: Annotated[str | None, At("log/@file", Form.PLACE)] = None
    """A file in which everything that the guest writes is logged."""
    log_append: Annotated[bool | None, At("log/@append", Form.ON_OFF)] = None


class Serial(Character, frozen=True, kw_only=True):
    """A serial port."""

    type: Annotated[BackEnd, At("@type", always=True)] = "pty"
    target: Annotated[
        Literal["isa-serial", "usb-serial", "pci-serial", "system-serial", "isa-debug"] | None,
        At("target/@type"),
    ] = None
    model: Annotated[
        Literal["isa-serial", "usb-serial", "pci-serial", "pl011", "16550a", "isa-debugcon"] | None,
        At("target/model/@name"),
    ] = None
    port: Annotated[Port | None, At("target/@port")] = None


class Parallel(Character, frozen=True, kw_only=True):
    """A parallel port."""

    type: Annotated[BackEnd, At("@type", always=True)] = "pty"
    port: Annotated[Port | None, At("target/@port")] = None


class Console(Character, frozen=True, kw_only=True):
    """A console; the first one is the first serial port, unless its target says otherwise."""

    type: Annotated[BackEnd, At("@type", always=True)] = "pty"
    target: Annotated[Literal["serial", "virtio"] | None, At("target/@type")] = None
    port: Annotated[Port | None, At("target/@port")] = None


class Channel(Character, frozen=True, kw_only=True):
    """A channel between guest and host: a named port, or an address in the guest's network."""

    type: Annotated[BackEnd, At("@type", always=True)] = "pty"
    target: Annotated[Literal["virtio", "guestfwd"], At("target/@type", always=True)] = "virtio"
    name: Annotated[str | None, At("target/@name")] = None
    guest_address: Annotated[str | None, At("target/@address")] = None
    guest_port: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=65535)] | None, At("target/@port")
    ] = None


class RedirectedDevice(Character, frozen=True, kw_only=True):
    """A USB device that is redirected over a character device."""

    type: Annotated[BackEnd, At("@type", always=True)]
    bus: Annotated[Literal["usb"], At("@bus", always=True)] = "usb"
    boot_order: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None, At("boot/@order")
    ] = None


class RedirectionRule(Table, frozen=True, kw_only=True):
    """Which redirected devices are let in or kept out. The first rule that matches counts."""

    usb_class: Annotated[Annotated[int, msgspec.Meta(ge=-1, le=0xFF)], At("@class", Form.HEX)] = -1
    """-1 is any, here and below."""
    vendor: Annotated[Annotated[int, msgspec.Meta(ge=-1, le=0xFFFF)], At("@vendor", Form.HEX)] = -1
    product: Annotated[
        Annotated[int, msgspec.Meta(ge=-1, le=0xFFFF)], At("@product", Form.HEX)
    ] = -1
    version: Annotated[UsbVersion, At("@version")] = "-1"
    """A version such as 1.10."""
    allow: Annotated[bool, At("@allow", Form.YES_NO, always=True)]


class SmartCard(Character, frozen=True, kw_only=True):
    """A smart card in the reader: the host's, one made of three certificates, or a client's."""

    mode: Annotated[Literal["host", "host-certificates", "passthrough"], At("@mode", always=True)]
    type: Annotated[BackEnd | None, At("@type")] = None
    """The type of the character device that reaches a client's card."""
    certificates: Annotated[tuple[str, ...], At("certificate")] = ()
    """Names of three certificates in the database."""
    database: Annotated[str | None, At("database", Form.PLACE)] = None
    """The folder of an NSS database."""
