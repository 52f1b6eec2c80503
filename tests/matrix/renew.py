# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask the QEMUs of Debian 12 and 13 what they can do, and keep the answers as golden records.

Run as root, from the top of the repository, where mmdebstrap is installed:

    PYTHONPATH=shared:client:. python -m tests.matrix.renew [NAME ...]
"""

import datetime as dt
import sys
import tempfile
from pathlib import Path

from bpferry.qemu.probe import probe
from tests.support.golden import FOLDER, write
from tests.support.old_qemu import SOURCES, old_qemu


def main(names: list[str]) -> None:
    """Renew the records of *names*, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        for name in names or SOURCES:
            write(name, probe(str(old_qemu(Path(folder), name))), today)


if __name__ == "__main__":
    main(sys.argv[1:])
