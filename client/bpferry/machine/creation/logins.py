# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who can log in to a new guest: a user, public keys for ssh, a password for the console."""

import os
import re
import secrets
from pathlib import Path
from typing import Final

from bpferry.errors import BadInput
from bpferry.machine.creation.wish import Login, Wish
from bpferry.network.groups import user_name

USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
"""Names that useradd(8) takes everywhere."""

USUAL_USER: Final = "user"
"""If the caller's own name is not possible in the guest, as root's is not."""

KEY: Final = re.compile(
    r"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ AAAA[A-Za-z0-9+/=]+(?: [^\0-\x1f\x7f]*)?"
)
"""One line of a file such as id_ed25519.pub (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""

MAX_KEY_FILE: Final = 64 * 1024

LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Nothing that looks like something else on a console; the same keys on most keyboards."""

PARTS, PART_LETTERS = 4, 4
"""79 bits together."""


def choose_login(wish: Wish) -> Login:
    """Return who can log in to the VM of *wish*, with a password that was made just now.

    Raises:
        BadInput: the name is not possible, or a file has no public key.
    """
    keys = tuple(dict.fromkeys(key for path in wish.ssh_keys for key in read_keys(path)))
    return Login(_choose_user(wish.user), _make_password(), keys)


def _choose_user(given: str | None) -> str:
    if given is None:
        own = user_name(os.geteuid())
        return own if USER.fullmatch(own) and own != "root" else USUAL_USER
    if given == "root":
        raise BadInput(
            "wrong usage: '--user root': images for the cloud do not let root log in",
            "choose another name: that user can become root in the guest with sudo",
        )
    if not USER.fullmatch(given):
        raise BadInput(
            f"wrong usage: {given!r} cannot be the name of the guest's user",
            "use up to 32 small letters, digits, '-' and '_', with a letter or '_' first",
        )
    return given


def read_keys(path: str) -> list[str]:
    """Return the public keys in the file *path*.

    Raises:
        BadInput: it cannot be read, or has something else in it.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_KEY_FILE).decode()
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "it is not text"
        raise BadInput(
            f"cannot read the public key '{path}': {cause}",
            "give a file such as ~/.ssh/id_ed25519.pub; to make one: ssh-keygen -t ed25519",
        ) from error
    if "PRIVATE KEY-----" in text:
        raise BadInput(
            f"'{path}' is a private key, which must not leave this host",
            f"give the public one, which is usually beside it: '{path}.pub'",
        )
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found or not all(KEY.fullmatch(line) for line in found):
        raise BadInput(
            f"'{path}' is not a file of public keys for ssh",
            "give a file such as ~/.ssh/id_ed25519.pub, whose lines begin like 'ssh-ed25519 AAAA'",
        )
    return found


def _make_password() -> str:
    return "-".join(
        "".join(secrets.choice(LETTERS) for _ in range(PART_LETTERS)) for _ in range(PARTS)
    )
