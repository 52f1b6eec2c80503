# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords and keys: what a disk needs them for, and which file has each.

A description does not hold them, as in libvirt: it has a name for each, a UUID or a usage.
"""

from typing import Literal

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import Uuid


class ServerSecret(Table, frozen=True, kw_only=True):
    """The password or key for a server, which a file holds, by its name: a UUID or a usage."""

    type: Placed[Literal["iscsi", "ceph"], At("@type", always=True)] = "iscsi"
    """libvirt's word for a password is ``iscsi``, whatever the server."""
    uuid: Placed[Uuid | None, At("@uuid")] = None
    usage: Placed[str | None, At("@usage")] = None


class Passphrase(Table, frozen=True, kw_only=True):
    """What opens an encrypted image: a passphrase that a file holds."""

    type: Placed[Literal["passphrase"], At("@type", always=True)] = "passphrase"
    uuid: Placed[Uuid | None, At("@uuid")] = None
    usage: Placed[str | None, At("@usage")] = None


class SecretFile(Table, frozen=True, kw_only=True):
    """Which file holds a password or key."""

    name: Placed[str, At("@name")]
    """The UUID or the usage by which the rest of the description calls it."""
    file: Placed[str, At("@file", Form.PLACE)]


class Encryption(Table, frozen=True, kw_only=True):
    """How an image is encrypted, and what opens it."""

    format: Placed[Literal["luks", "luks2", "luks-any"], At("@format", always=True)] = "luks"
    engine: Placed[Literal["qemu", "librbd", None], At("@engine")] = None
    """Who decrypts: QEMU itself, or the library for RBD."""
    secrets: Placed[tuple[Passphrase, ...], At("secret")] = ()
    """One; for librbd, one for each image and those below it."""


class Login(Table, frozen=True, kw_only=True):
    """The name and the password or key by which a server lets somebody in."""

    user_name: Placed[str, At("@username")]
    secret: Placed[ServerSecret | None, At("secret")] = None


class Cookie(Table, frozen=True, kw_only=True):
    """A cookie that a web server gets with each request."""

    name: Placed[str, At("@name")]
    value: Placed[str, At(".", Form.SECRET)] = ""
