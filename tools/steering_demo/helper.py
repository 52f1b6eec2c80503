# SPDX-License-Identifier: LGPL-2.1-or-later
"""The privileged helper behind a real activated socket, with exactly its capabilities.

Where systemd is PID 1 it makes a transient socket and service; elsewhere systemd-socket-activate
listens, and setpriv gives the capabilities that the unit would give.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bpferry_helper.privilege import CAPABILITIES
from steering_demo.workplace import HELPER_UID, Workplace

READY_S: Final = 10.0
POLL_S: Final = 0.02
UNIT: Final = "bpferry-demo-helper"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""Debian's, whose python3-msgpack the installed helper uses too."""


class HelperFailed(Exception):  # noqa: N818
    """The socket did not appear; the message has what was said about it."""


def systemd_is_running() -> bool:
    """Say whether PID 1 is systemd (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


@contextmanager
def activated_helper(place: Workplace) -> Iterator[str]:
    """Listen for the helper and start it when somebody connects; give a word for how."""
    way = _by_systemd if systemd_is_running() else _by_socket_activate
    with way(place) as word:
        yield word


def _command() -> list[str]:
    return [SYSTEM_PYTHON, "-B", "-m", "bpferry_helper", "bpf"]


def _environment(place: Workplace) -> dict[str, str]:
    return {"PYTHONPATH": place.python_path("helper", "shared"), "MSGPACK_PUREPYTHON": "1"}


@contextmanager
def _by_systemd(place: Workplace) -> Iterator[str]:
    names = " ".join(CAPABILITIES["bpf"])
    listen = [
        f"ListenSequentialPacket={place.socket}",
        # Closed, until it is given to the user: SocketGroup= wants a group that has a name.
        "SocketMode=0600",
    ]
    service = [
        # A user without a name would not do here, and no name is to be added to the host.
        "DynamicUser=yes",
        f"RuntimeDirectory={UNIT}",
        f"Environment=STATE_DIRECTORY=/run/{UNIT}",
        f"CapabilityBoundingSet={names}",
        f"AmbientCapabilities={names}",
        "NoNewPrivileges=yes",
        *_hidden_policy(),
        *(f"Environment={name}={value}" for name, value in _environment(place).items()),
    ]
    options = [f"--socket-property={item}" for item in listen]
    options += [f"--property={item}" for item in service]
    run = ["systemd-run", "--quiet", f"--unit={UNIT}", *options, "--", *_command()]
    units = [f"{UNIT}.socket", f"{UNIT}.service"]
    try:
        subprocess.run(run, check=True)
        _open_to_user(place)
        yield "systemd"
    finally:
        subprocess.run(["systemctl", "--quiet", "stop", *units], check=False)
        # A unit that failed would stay in systemd's list; there is none after a good run.
        subprocess.run(["systemctl", "reset-failed", *units], check=False, capture_output=True)


def _hidden_policy() -> list[str]:
    """Return the property that hides the host's own policy: it is about other users than ours."""
    return ["TemporaryFileSystem=/etc/bpferry"] if Path("/etc/bpferry").is_dir() else []


@contextmanager
def _by_socket_activate(place: Workplace) -> Iterator[str]:
    environment = _environment(place) | {"STATE_DIRECTORY": str(place.state)}
    passed = [f"--setenv={name}={value}" for name, value in environment.items()]
    listen = ["systemd-socket-activate", "--seqpacket", f"--listen={place.socket}", *passed]
    # A mount namespace of its own, in which the host's policy, if there is one, is not seen.
    hide = ["unshare", "--mount", "--", "sh", "-c", _HIDE_POLICY, "sh"]
    with place.log("helper").open("wb") as log:
        process = subprocess.Popen(
            [*hide, *listen, *_drop_to(CAPABILITIES["bpf"]), *_command()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(place, process)
        _open_to_user(place)
        yield "systemd-socket-activate"
    finally:
        process.kill()
        process.wait()


_HIDE_POLICY: Final = '[ ! -d /etc/bpferry ] || mount -t tmpfs none /etc/bpferry; exec "$@"'


def _drop_to(capabilities: tuple[str, ...]) -> list[str]:
    """Return the setpriv command that keeps *capabilities* and nothing else."""
    kept = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    return [
        "setpriv", f"--reuid={HELPER_UID}", f"--regid={HELPER_UID}", "--clear-groups",
        f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}",
        "--no-new-privs", "--",
    ]  # fmt: skip


def _open_to_user(place: Workplace) -> None:
    """Let the user connect. The owner stays root: the group's permission is enough for that."""
    os.chown(place.socket, 0, place.user_uid)
    place.socket.chmod(0o660)


def _wait_for(place: Workplace, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while not place.socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = place.log("helper").read_text(errors="replace")
            raise HelperFailed(f"nobody listens at '{place.socket}': {said}")
        time.sleep(POLL_S)


def said(place: Workplace) -> str:
    """Return what the helper wrote, for a person who has to find out what went wrong."""
    log = place.log("helper")
    if log.exists():
        return log.read_text(errors="replace")
    journal = ["journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}.service"]
    return subprocess.run(journal, check=False, capture_output=True, text=True).stdout
