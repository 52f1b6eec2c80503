# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords of VNC and SPICE, and how long they are valid.

A display has its password before it listens. Once the password has expired nobody gets in, as in
libvirt: QEMU then asks for a password and has none.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Command, Part, Remark, Secret
from bpferry.commandline.secrets import secret_parts
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

MEANINGFUL: Final = frozenset({"password", "password_valid_to", "connected"})
"""The fields about passwords."""

MAX_VNC_BYTES: Final = 8
"""A password is the key of a cipher with keys of 56 bits, DES (RFC 6143, 7.2.2)."""


class Password(Struct, frozen=True):
    """How the password of a display is set."""

    secret: str | None
    """The object in QEMU that has it; None if it has expired."""
    parts: tuple[Part, ...]


def check_password(device: Named[Graphics]) -> Iterator[Unsupported]:
    """Yield what is refused about the password of *device*."""
    graphics = device.value
    if graphics.password is None:
        for field in sorted(MEANINGFUL):
            if getattr(graphics, field) is not None:
                yield device.mistake(
                    field,
                    "there is no password for it",
                    f"add a password, or leave out {field.replace('_', '-')}",
                )
    elif graphics.type == "vnc":
        yield from _check_vnc(device, graphics.password)


def password_of(device: Named[Graphics], context: Context) -> Password | None:
    """Return how the password of *device* is set; None if everybody may connect.

    Raises:
        Unsupported: it expires at a time that does not exist.
    """
    graphics = device.value
    if graphics.password is None:
        return None
    end = _end(device)
    if not graphics.password or (end is not None and end <= context.now):
        return Password(None, (_locked(device),))
    secret = Secret(f"{graphics.type}-password", f"{device.key}.password", text=graphics.password)
    return Password(
        secret.name, (*secret_parts(secret, context), *_expiry(end, graphics.type, device.key))
    )


def _check_vnc(device: Named[Graphics], password: str) -> Iterator[Unsupported]:
    length = len(password.encode())
    if length > MAX_VNC_BYTES:
        yield device.refusal(
            "password",
            f"a password of VNC has at most {MAX_VNC_BYTES} bytes, and this one has {length}",
            "shorten it, or use SPICE, or a listen of type socket, which only you can connect to",
        )
    if device.value.connected not in (None, "keep"):
        yield device.refusal(
            "connected", "VNC keeps those who are connected", "write 'keep', or leave it out"
        )


def _end(device: Named[Graphics]) -> datetime | None:
    """Return when the password expires; libvirt's documents give it in UTC."""
    text = device.value.password_valid_to
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise device.mistake(
            "password-valid-to",
            f"there is no such time ({error})",
            "write a time that exists, such as 2030-01-31T12:00:00",
        ) from error


def _expiry(end: datetime | None, protocol: str, key: str) -> Iterator[Part]:
    if end is not None:
        arguments = {"protocol": protocol, "time": str(int(end.timestamp()))}
        yield Command("expire_password", arguments, f"{key}.password-valid-to")


def _locked(device: Named[Graphics]) -> Remark:
    end = device.value.password_valid_to
    return Remark(
        f"nobody can connect: the password was valid until {end} (UTC)"
        if device.value.password
        else "nobody can connect: the password is empty",
        "give it another, or remove it",
        device.key,
    )
