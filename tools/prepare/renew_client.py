# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write client.txt again: the newest wheels of what an installation needs, with their hashes.

    PYTHONPATH=tools python3 -m prepare.renew_client

It asks pip, which needs a network and no root, for each Python and processor that tools/install is
for. Look at the differences and run tests/systemd/test_install.py before you commit them.
"""

import hashlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prepare.requirements import requirements

FOLDER: Final = Path(__file__).resolve().parent

PINS: Final = FOLDER / "client.txt"

EXTRAS: Final = ["client", "manuals", "metrics"]
"""Of pyproject.toml: what is installed."""

PYTHONS: Final = ("3.11", "3.13")
"""Of Debian 12 and 13."""

PROCESSORS: Final = ("x86_64", "aarch64")

PLATFORMS: Final = ("manylinux2014", "manylinux_2_28", "manylinux_2_34")
"""Debian 12 has glibc 2.36."""

HEAD: Final = """\
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the client imports, and what makes its man pages and completions, for
# Python {pythons} on {processors}.
# tools/install installs exactly these files: pip refuses what has another hash or is not here,
# and runs no code of a package.
# Written by tools/prepare/renew_client.py, which lists the wheels in the order of their hashes.
--require-hashes
--only-binary :all:
"""


def download(wanted: list[str], folder: Path, python: str, processor: str) -> None:
    """Fetch the wheels of *wanted*, and of what these require, into *folder*."""
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_{processor}")]
    command = [
        sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-cache-dir",
        "--disable-pip-version-check", "--only-binary", ":all:",
        "--python-version", python, *platforms, "--dest", str(folder), *wanted,
    ]  # fmt: skip
    subprocess.run(command, check=True)


def entries(wheels: list[Path]) -> Iterator[str]:
    """Yield the entry of each package, whose wheels must all be of one version."""
    packages: dict[str, dict[str, list[Path]]] = {}
    for wheel in sorted(wheels):
        name, version, _ = wheel.name.split("-", 2)
        packages.setdefault(name.replace("_", "-").lower(), {}).setdefault(version, []).append(
            wheel
        )
    for name, versions in packages.items():
        if len(versions) > 1:
            sys.exit(f"'{name}' has no version for all: {', '.join(versions)}")
        [(version, files)] = versions.items()
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        lines = [f"{name}=={version}", *[f"    --hash=sha256:{digest}" for digest in hashes]]
        yield "".join(f"\n# {file.name}" for file in files) + "\n" + " \\\n".join(lines) + "\n"


def main() -> None:
    """Write the file."""
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    wanted = requirements(project, EXTRAS)
    with tempfile.TemporaryDirectory() as scratch:
        for python in PYTHONS:
            for processor in PROCESSORS:
                download(wanted, Path(scratch), python, processor)
        text = "".join(entries(list(Path(scratch).iterdir())))
    head = HEAD.format(pythons=" and ".join(PYTHONS), processors=" and ".join(PROCESSORS))
    PINS.write_text(head + text)


if __name__ == "__main__":
    main()
