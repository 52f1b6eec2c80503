# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/install in a booted system, over and over, without fetching the same packages each time."""

from typing import Final

from tests.systemd.container import CLONE, Container
from tests.systemd.debian_root import FETCHED

INSTALL: Final = f"{CLONE}/tools/install"

INSTALL_SECONDS: Final = 180
"""It takes five; the package index may be slow."""

VENV: Final = "/usr/local/lib/bpferry/venv"
PUT_BACK: Final = f"[ -d {VENV} ] || {{ mkdir -p {VENV} && cp -a {FETCHED}/. {VENV}; }}"


def install(system: Container) -> str:
    """Run tools/install, which finds all that it would fetch, and return what it said.

    To make an environment and to fetch into it takes three quarters of an installation.
    """
    system.check("sh", "-c", PUT_BACK)
    return fetch_and_install(system)


def fetch_and_install(system: Container) -> str:
    """Run tools/install as it is and return what it said."""
    done = system.run(INSTALL, timeout=INSTALL_SECONDS, fetches=True)
    assert 0 == done.returncode, done.stderr
    return done.stderr
