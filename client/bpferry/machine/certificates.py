# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key and the certificates with which VNC and SPICE use TLS: the user's own files.

They are among the user's settings, in one folder for each protocol, under the names that QEMU looks
for (tls.rst in QEMU's documentation).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.commandline.build import Built
from bpferry.commandline.context import TlsFolder
from bpferry.commandline.parts import Certificates
from bpferry.domain.shown import all_of
from bpferry.errors import NotReady
from bpferry.machine.folders import home_folder
from bpferry.machine.paths import is_folder

FILES: Final = {
    "ca-cert.pem": "the CA certificate that clients trust",
    "server-cert.pem": "this host's certificate, signed by that CA",
    "server-key.pem": "this host's private key, with mode 0600",
}
"""The files that have to exist, and what they are."""


def find_tls_folder(protocol: str) -> TlsFolder:
    """Return where the certificates for *protocol*, vnc or spice, belong, and if they are there.

    If the folder exists, the user wants TLS, even if something is missing in it. One that cannot be
    looked at, such as below root's home under setpriv or sudo, counts as missing.
    """
    folder = home_folder("XDG_CONFIG_HOME", ".config") / "bpferry" / "pki" / protocol
    try:
        return TlsFolder(str(folder), is_folder(folder))
    except OSError:
        return TlsFolder(str(folder))


def find_missing_certificates(built: Built) -> Iterator[NotReady]:
    """Yield what is missing for the TLS of *built*; each error's element is a key of the model."""
    for wanted in built.of(Certificates):
        missing = [name for name in FILES if not _can_be_read(Path(wanted.folder) / name)]
        if missing:
            what = "; ".join(f"{name}, {FILES[name]}" for name in missing)
            yield NotReady(
                f"TLS needs certificates, and '{wanted.folder}' lacks {all_of(missing)}",
                f"put there: {what}",
                wanted.key,
            )


def _can_be_read(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False
