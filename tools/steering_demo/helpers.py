# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both privileged helpers behind activated sockets, each with exactly its capabilities.

If systemd is PID 1, it makes transient sockets and services; otherwise ``activator`` listens, and
setpriv gives the capabilities of the unit. Each helper runs in its own network namespace; the one
with the role tap reaches the namespace that plays the host through a netlink socket opened there.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from activation import activator
from activation.capabilities import drop_to
from guest.netns import Namespace, tun_is_open
from steering_demo import units
from steering_demo.workplace import HELPER_UIDS, SYSTEM_PYTHON, Workplace

BY_SYSTEMD: Final = "systemd"
BY_ACTIVATOR: Final = "our own activator"


class HelperFailed(Exception):  # noqa: N818
    """A socket did not appear; the message has the output about it."""


def systemd_can() -> bool:
    """Return whether PID 1 is systemd (sd_booted(3)) and its services can open /dev/net/tun.

    They see the host's, not what is mounted over it for us.
    """
    return Path("/run/systemd/system").is_dir() and tun_is_open()


@contextmanager
def activated_helpers(place: Workplace, space: Namespace) -> Iterator[str]:
    """Listen for the helpers, start each when somebody connects, and yield who does that."""
    by_systemd = systemd_can()
    start = units.transient if by_systemd else _behind_activator
    with ExitStack() as stack:
        for role in HELPER_UIDS:
            stack.enter_context(start(place, space, role))
        yield BY_SYSTEMD if by_systemd else BY_ACTIVATOR


@contextmanager
def _behind_activator(place: Workplace, space: Namespace, role: str) -> Iterator[None]:
    with (
        place.log(role).open("wb") as log,
        subprocess.Popen(
            space.command(_listen(place, role)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # So that Ctrl-C does not kill it while it is in use.
            start_new_session=True,
        ) as process,
    ):
        try:
            listens = f"Listening on {place.socket(role)}\n"
            if process.stdout is None or process.stdout.readline() != listens:
                raise HelperFailed(f"nobody listens at '{place.socket(role)}': {said(place, role)}")
            yield
        finally:
            process.terminate()


def _listen(place: Workplace, role: str) -> list[str]:
    """Return the command that listens, and then becomes the helper of *role* in its sandbox."""
    route = ["--route"] if role == "tap" else []
    variables = [f"{name}={value}" for name, value in place.helper_environment(role).items()]
    return [
        "env", *variables,
        SYSTEM_PYTHON, "-I", "-S", "-B", activator.__file__, *route,
        f"--group={place.user_uid}", str(place.socket(role)),
        "unshare", "--net", "--mount", "--", "sh", "-c", SEE_ETC, "sh", str(place.etc),
        *drop_to(role, HELPER_UIDS[role]), *place.helper_command(role),
    ]  # fmt: skip


SEE_ETC: Final = 'mount --bind "$1" /etc && shift && exec "$@"'


def said(place: Workplace, role: str) -> str:
    """Return the helper's output, for finding out what went wrong."""
    log = place.log(role)
    return log.read_text(errors="replace") if log.exists() else units.journal(role)
