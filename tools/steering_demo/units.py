# SPDX-License-Identifier: LGPL-2.1-or-later
"""A helper as a transient socket and service of systemd."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bpferry_helper.privilege import CAPABILITIES
from guest.netns import Namespace
from steering_demo.workplace import Workplace

UNIT: Final = "bpferry-demo-{}"


@contextmanager
def transient(place: Workplace, space: Namespace, role: str) -> Iterator[None]:
    """Let systemd listen for the helper of *role*, and start it when somebody connects."""
    unit = UNIT.format(role)
    options = [f"--socket-property={item}" for item in _socket(place, space, role)]
    options += [f"--property={item}" for item in _service(place, role)]
    run = ["systemd-run", "--quiet", f"--unit={unit}", *options, "--", *place.helper_command(role)]
    names = [f"{unit}.socket", f"{unit}.service"]
    try:
        subprocess.run(run, check=True)
        # The owner stays root: the group's permission is enough for the user.
        os.chown(place.socket(role), 0, place.user_uid)
        place.socket(role).chmod(0o660)
        yield
    finally:
        subprocess.run(["systemctl", "--quiet", "stop", *names], check=False)
        # A failed unit would stay in systemd's list; after a good run there is none.
        subprocess.run(["systemctl", "reset-failed", *names], check=False, capture_output=True)


def _socket(place: Workplace, space: Namespace, role: str) -> list[str]:
    listen = [
        f"ListenSequentialPacket={place.socket(role)}",
        # Closed until it is given to the user: SocketGroup= needs a group with a name.
        "SocketMode=0600",
    ]
    if role == "tap":
        listen += ["ListenNetlink=route 0", "ListenNetlink=route 0"]
        listen.append(f"NetworkNamespacePath=/proc/{space.holder}/ns/net")
    return listen


def _service(place: Workplace, role: str) -> list[str]:
    names = " ".join(CAPABILITIES[role])
    folder = UNIT.format(role)
    variables = place.helper_environment(role)
    if "STATE_DIRECTORY" in variables:
        variables["STATE_DIRECTORY"] = f"/run/{folder}"
    return [
        # A user without a name does not work here, and no name may be added to the host.
        "DynamicUser=yes",
        f"RuntimeDirectory={folder}",
        f"CapabilityBoundingSet={names}",
        f"AmbientCapabilities={names}",
        "NoNewPrivileges=yes",
        "PrivateNetwork=yes",
        f"BindReadOnlyPaths={place.etc}:/etc",
        *(f"Environment={name}={value}" for name, value in variables.items()),
    ]


def journal(role: str) -> str:
    """Return what the helper of *role* wrote."""
    unit = f"--unit={UNIT.format(role)}.service"
    shown = ["journalctl", "--no-pager", "--output=cat", unit]
    return subprocess.run(shown, check=False, capture_output=True, text=True).stdout
