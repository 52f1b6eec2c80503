# SPDX-License-Identifier: LGPL-2.1-or-later
"""The user's own systemd, and its unit for each VM.

systemctl(1) is asked, with no library in between: a VM can be looked after with systemd's own tools
in just the same way.
"""

import getpass
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from bpferry.errors import BpferryError, NoManager

TEMPLATE: Final = "bpferry@.service"

PROPERTIES: Final = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NeedDaemonReload",
    "InvocationID",
    "ExecMainStatus",
    "StatusText",
)

IN_FOREGROUND: Final = "start the VM in the foreground: bpferry run NAME"
"""What a user can do who has no systemd; hints end with it."""

ANSWER_SECONDS: Final = 30.0
"""For systemctl; it takes 10 ms."""

POLL_SECONDS: Final = 0.1

LINGER: Final = Path("/var/lib/systemd/linger")
"""Has a file for each user whose systemd runs without a session (logind.conf(5))."""

BOOTED: Final = Path("/run/systemd/system")
"""Is there if systemd is the host's first process (sd_booted(3))."""


class Unit(Struct, frozen=True):
    """A unit as systemd describes it (systemd.unit(5), org.freedesktop.systemd1(5))."""

    name: str
    properties: dict[str, str]

    def __getitem__(self, key: str) -> str:
        """Return one property; empty if systemd does not know it."""
        return self.properties.get(key, "")

    @property
    def is_found(self) -> bool:
        """Whether the unit's file is there."""
        return self["LoadState"] not in {"not-found", "masked"}

    @property
    def is_active(self) -> bool:
        """Whether the VM runs."""
        return self["ActiveState"] in {"active", "reloading"}

    @property
    def is_on_its_way(self) -> bool:
        """Whether the VM starts or ends now."""
        if self["SubState"] == "auto-restart":
            return False
        return self["ActiveState"] in {"activating", "deactivating"}

    @property
    def is_enabled(self) -> bool:
        """Whether it is started with the user's systemd."""
        return self["UnitFileState"] == "enabled"


class Manager(Struct, frozen=True):
    """The user's systemd itself."""

    version: int
    group: str
    """Its control group, such as ``/user.slice/user-1000.slice/user@1000.service``."""


def look_at_manager() -> Manager:
    """Return the systemd of this user.

    Raises:
        NoManager: there is none.
    """
    told = _show("", "Version", "ControlGroup").properties
    # Distributions write, for example, "252.39-1~deb12u2".
    digits = re.match(r"[0-9]+", told.get("Version", ""))
    return Manager(int(digits[0]) if digits else 0, told.get("ControlGroup", ""))


def unit_of(vm_name: str) -> str:
    """Return the unit of the VM called *vm_name*."""
    return f"bpferry@{vm_name}.service"


def look_at(vm_name: str) -> Unit:
    """Return the unit of the VM called *vm_name*.

    Raises:
        NoManager: there is no systemd of this user, or it does not know our units.
    """
    try:
        unit = _show(unit_of(vm_name))
    except NoManager as error:
        hint = error.hint.replace(IN_FOREGROUND, IN_FOREGROUND.replace("NAME", vm_name))
        raise NoManager(error.message, hint) from error
    if not unit.is_found or unit["NeedDaemonReload"] == "yes":
        change("daemon-reload")
        unit = _show(unit.name)
    if not unit.is_found:
        raise NoManager(
            f"your systemd has no unit '{TEMPLATE}'",
            "install bpferry with tools/install, or copy the file systemd/user/bpferry@.service to "
            "~/.config/systemd/user and correct the path of bpferry in it",
        )
    return unit


def look_if_possible(vm_name: str) -> Unit | None:
    """Return the unit of the VM called *vm_name*, or None if there is no systemd to ask."""
    try:
        return _show(unit_of(vm_name))
    except BpferryError:
        return None


def change(*words: str) -> None:
    """Let systemctl do something that changes units.

    Raises:
        NoManager: there is no systemd of this user.
        BpferryError: it refuses.
    """
    done = _systemctl(*words)
    if done.returncode != 0:
        raise BpferryError(f"systemctl --user {' '.join(words)}: {_last_line(done.stderr)}")


def start_and_wait(unit: Unit, verb: str, progress: Callable[[str], None]) -> Unit:
    """Start or restart *unit*, and return it as it is once the VM runs or its start has failed.

    *progress* is told what the VM does, in its own words, whenever that changes.
    """
    if unit["ActiveState"] == "failed":
        # It may have failed too often; whoever asks by hand has mended the reason.
        change("reset-failed", unit.name)
    change("--no-block", verb, unit.name)
    told = ""
    while True:
        now = _show(unit.name)
        is_new = now["InvocationID"] != unit["InvocationID"]
        if is_new and not now.is_on_its_way:
            return now
        if now["StatusText"] not in {"", told}:
            told = now["StatusText"]
            progress(told)
        time.sleep(POLL_SECONDS)


def give_up(unit: Unit) -> None:
    """Stop systemd from trying again to start *unit*."""
    _systemctl("stop", unit.name)


def last_words(unit: Unit) -> list[str]:
    """Return what bpferry said in this invocation of *unit*, as far as the user may read it."""
    which = f"_SYSTEMD_INVOCATION_ID={unit['InvocationID']}"
    done = _run("journalctl", "--user", "--output=cat", "--no-pager", "--lines=50", which)
    return done.stdout.splitlines() if done.returncode == 0 else []


def has_linger() -> bool:
    """Say whether this user's systemd runs without a session of theirs."""
    return (LINGER / getpass.getuser()).exists()


def _show(unit: str, *properties: str) -> Unit:
    """Return *unit*, or the manager itself if that is empty."""
    wanted = ",".join(properties or PROPERTIES)
    done = _systemctl("show", f"--property={wanted}", *([unit] if unit else []))
    if done.returncode != 0:
        raise BpferryError(f"systemctl --user show: {_last_line(done.stderr)}")
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return Unit(unit, {key: value for key, _, value in pairs})


def _systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    done = _run("systemctl", "--user", *words)
    if done.returncode != 0 and "Failed to connect" in done.stderr:
        raise _no_manager(_last_line(done.stderr))
    return done


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise NoManager(
            f"there is no {argv[0]} here: this host is not run by systemd",
            IN_FOREGROUND,
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NoManager(
            f"your systemd did not answer '{argv[0]}' within {ANSWER_SECONDS:g} s"
        ) from error


def _no_manager(cause: str) -> NoManager:
    """Return the error that there is no systemd of this user, with the likeliest reason."""
    if not BOOTED.is_dir():
        return NoManager("this host was not booted with systemd", IN_FOREGROUND)
    user = getpass.getuser()
    expected = f"/run/user/{os.getuid()}"
    if Path(expected).is_dir() and os.environ.get("XDG_RUNTIME_DIR") != expected:
        return NoManager(
            "this shell is not connected to your systemd: XDG_RUNTIME_DIR is not set, as after "
            f"'su' or 'sudo' ({cause})",
            f"export XDG_RUNTIME_DIR={expected}; or {IN_FOREGROUND}",
        )
    return NoManager(
        f"there is no systemd of yours running: '{user}' has no login session ({cause})",
        f"log in, for example by ssh; or let it run without a session: sudo loginctl enable-linger "
        f"{user}; or {IN_FOREGROUND}",
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it failed and said nothing"
