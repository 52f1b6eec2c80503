# SPDX-License-Identifier: LGPL-2.1-or-later
"""Channels between guest and host, and consoles of virtio-serial.

A channel of type unix without a path, such as the guest agent's, gets a socket in the VM's own
folder. Paths that older versions of libvirt chose themselves and wrote into documents mean the same
(qemuDomainChrDefDropDefaultPath of libvirt).
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from bpferry.commandline.attempt import attempt
from bpferry.commandline.buses.virtio_ports import Place, properties_of, virtio_places
from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Option, Part, json_of
from bpferry.domain.forms import called
from bpferry.domain.model.characters import Channel, Console
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, named
from bpferry.errors import Unsupported

SPICE_PORT: Final = "com.redhat.spice.0"
"""The name of the port that SPICE's agent in the guest looks for."""

AGENT_PORT: Final = "org.qemu.guest_agent.0"
"""The name of the port that QEMU's agent in the guest looks for."""

AGENT: Final = "guest agent"

OF_LIBVIRT: Final = (
    r".*/libvirt/qemu/(?:run/|lib/)?channel/(?:target/)?"
    r"(?:[^/]+\.|domain-[^/]+/|[0-9]+-[^/]+/)(?P<name>[^/]*)"
)
"""The places where libvirt makes the sockets of channels, since its version 1.2.18."""

Places = Mapping[str, Place]
"""The port of each virtio console and channel, by its key."""

FILE_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"


def console_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the consoles of virtio-serial."""
    places = virtio_places(context.machine)
    for device in named(context.machine.consoles, "consoles", "console"):
        if device.value.target == "virtio":
            yield from attempt(partial(_console, back_ends, places), device, context)


def _console(
    back_ends: BackEnds, places: Places, device: Named[Console], context: Context
) -> Iterator[Found]:
    user = User(device, device.value.type)
    yield from back_ends.parts(user)
    yield _port(context, "virtconsole", user, places[device.key])


def channel_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the channels."""
    places = virtio_places(context.machine)
    for device in named(context.machine.channels, "channels", "channel"):
        yield from attempt(partial(_channel, back_ends, places), device, context)


def _channel(
    back_ends: BackEnds, places: Places, device: Named[Channel], context: Context
) -> Iterator[Found]:
    channel = device.value
    yield from _check(device)
    if channel.target == "guestfwd":
        yield from _forwarded(back_ends, device)
        return
    user = _virtio_user(context, device)
    yield from back_ends.parts(user)
    name = channel.name
    if channel.type == "spicevmc" and name is None:
        name = SPICE_PORT
    yield _port(context, "virtserialport", user, places[device.key], name)


def _port(
    context: Context, driver: str, user: User, place: Place, name: str | None = None
) -> Device:
    properties = {**properties_of(place, context.machine), "chardev": user.chardev, "name": name}
    return Device(driver, user.device.id, user.device.key, properties)


def _check(device: Named[Channel]) -> Iterator[Unsupported]:
    channel = device.value
    unfit: tuple[str, ...]
    if channel.target == "virtio":
        unfit = ("guest_address", "guest_port")
        if channel.type == "spicevmc" and channel.name not in (None, SPICE_PORT):
            yield device.refusal(
                "name",
                f"a channel of SPICE's agent is called '{SPICE_PORT}'",
                f"write '{SPICE_PORT}', or leave the name out",
            )
    else:
        unfit = ("name", "address")
    for field in unfit:
        if getattr(channel, field) is not None:
            name = called(Channel, field)
            sentence = f"{name} has no meaning for a channel with the target '{channel.target}'"
            yield device.mistake(field, sentence, f"leave out {name}")


def _virtio_user(context: Context, device: Named[Channel]) -> User:
    channel = device.value
    source = channel.sources[0] if channel.sources else None
    if channel.type == "unix" and source and source.path and _is_of_libvirt(channel, source.path):
        sources = (msgspec.structs.replace(source, path=None, mode=None),)
        channel = msgspec.structs.replace(channel, sources=sources)
    path = f"{context.folders.runtime}/{_file_name(context.machine, device)}"
    title = AGENT if channel.name == AGENT_PORT else channel.name or ""
    return User(replace(device, value=channel), channel.type, path=path, title=title)


def _is_of_libvirt(channel: Channel, path: str) -> bool:
    found = re.fullmatch(OF_LIBVIRT, path)
    return found is not None and found["name"] == (channel.name or "")


def _file_name(machine: Machine, device: Named[Channel]) -> str:
    """Return the socket's name: the channel's, if it can be a file name and no other has it."""
    name = device.value.name or ""
    same = sum(other.name == name for other in machine.channels)
    return name if re.fullmatch(FILE_NAME, name) and same == 1 else device.id


def _forwarded(back_ends: BackEnds, device: Named[Channel]) -> Iterator[Found]:
    """Yield a channel at an address of the guest's network, which is QEMU's own (libslirp)."""
    channel = device.value
    if channel.guest_address is None or channel.guest_port is None:
        raise device.mistake(
            "", "a forwarded channel needs an address and a port in the guest", "add both"
        )
    try:
        address = ipaddress.IPv4Address(channel.guest_address)
    except ValueError:
        raise device.mistake(
            "guest-address",
            "it is not an IPv4 address",
            "write an IPv4 address, such as 10.0.2.100",
        ) from None
    user = User(device, channel.type)
    yield from back_ends.parts(user)
    forward = f"tcp:{address}:{channel.guest_port}-chardev:{user.chardev}"
    netdev = {"type": "user", "guestfwd": [{"str": forward}], "id": device.id}
    yield Option("-netdev", json_of(netdev))
