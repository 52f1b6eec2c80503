# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/install in a booted system, over and over, without fetching and compiling each time."""

from typing import Final

from tests.systemd.container import CLONE, Container
from tests.systemd.debian_root import FETCHED

INSTALL: Final = f"{CLONE}/tools/install"

INSTALL_SECONDS: Final = 180
"""It takes five; the package index may be slow."""

LIB: Final = "/usr/local/lib/bpferry"
KEPT: Final = "/opt/bpferry-code"
"""Where a system keeps the code that was installed first, with the byte code made of it."""

PUT_BACK: Final = f"""
set -e
mkdir -p {LIB}
[ -d {LIB}/venv ] || cp -a {FETCHED} {LIB}/venv
for code in {KEPT}/*; do
    [ ! -d "$code" ] || [ -d "{LIB}/${{code##*/}}" ] || cp -a "$code" {LIB}
done
"""
KEEP: Final = f"[ -d {KEPT} ] || {{ mkdir {KEPT} && cp -a {LIB}/helper {LIB}/client {KEPT}; }}"


def install(system: Container) -> str:
    """Run tools/install, which finds all that it would fetch, and return what it said.

    To make an environment and to fetch into it takes three quarters of an installation. Of the
    rest, byte code takes half: from the second time on, it finds the code too.
    """
    system.check("sh", "-c", PUT_BACK)
    said = fetch_and_install(system)
    system.check("sh", "-c", KEEP)
    return said


def fetch_and_install(system: Container) -> str:
    """Run tools/install as it is and return what it said."""
    done = system.run(INSTALL, timeout=INSTALL_SECONDS, fetches=True)
    assert 0 == done.returncode, done.stderr
    return done.stderr
