# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords and keys on their way to QEMU: by an object that reads a file, never by an argument.

The file is one in memory that QEMU inherits (crypto/secret.c reads it once, when it starts). So no
command line, no dry run and no log holds what is in it.
"""

from collections.abc import Iterator

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Option, Part, Secret, json_of


def secret_parts(secret: Secret, context: Context) -> Iterator[Part]:
    """Yield *secret*, and the object of QEMU that has its name and reads it."""
    yield secret
    read = {
        "qom-type": "secret",
        "id": secret.name,
        "format": "base64" if secret.form == "base64" else None,
        "file": f"/proc/self/fd/{context.fd(secret.name)}",
    }
    yield Option("-object", json_of(read))
