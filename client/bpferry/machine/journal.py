# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was said about a VM under the user's systemd: the journal, read by journalctl(1)."""

import json
import os
import subprocess
from datetime import UTC, datetime
from typing import Final

from bpferry.errors import NoManager
from bpferry.machine.own_vms import own_names
from bpferry.machine.user_manager import unit_of

CLOSED: Final = "insufficient permissions"
"""What journalctl says if the user may read no journal at all."""


def last_time(vm_name: str) -> float:
    """Return when something was said last, in seconds since 1970; 0 if never."""
    found = _read(vm_name, "--output=json", "--output-fields=_PID", "--lines=1")
    try:
        return int(json.loads(found)["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError):
        return 0.0


def lines(vm_name: str) -> list[dict[str, str]]:
    """Return all that was said, for programs."""
    found = _read(vm_name, "--output=json", "--output-fields=MESSAGE").splitlines()
    return [_as_fields(json.loads(line)) for line in found]


def hand_over(vm_name: str, *, follow: bool) -> int:
    """Become a journalctl that shows what was said, and with *follow* what is said from now on.

    Raises:
        NoManager: there is no journalctl.
    """
    more = ("--lines=all", "--follow") if follow else ()
    argv = ("journalctl", "--quiet", *_arguments(vm_name), "--output=short-iso", *more)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is needed
    except OSError as error:
        raise NoManager(f"cannot start 'journalctl': {error.strerror}") from error


def hint(vm_name: str) -> str:
    """Return why nothing may have been found."""
    if CLOSED in _run(vm_name, "--lines=1").stderr:
        return (
            "the journal is closed to you: ask the administrator to keep it on disk (mkdir "
            "/var/log/journal), which gives each user their own part, or to let you into the group "
            "systemd-journal"
        )
    if vm_name in own_names():
        return f"start it: bpferry start {vm_name}, or bpferry run {vm_name}"
    return "start it: bpferry run FILE"


def _as_fields(entry: dict[str, object]) -> dict[str, str]:
    when = datetime.fromtimestamp(int(str(entry["__REALTIME_TIMESTAMP"])) / 1e6, UTC).astimezone()
    said = entry.get("MESSAGE", "")
    if isinstance(said, list):
        # Bytes that are no text.
        said = bytes(said).decode(errors="replace")
    return {"time": when.isoformat(timespec="seconds"), "text": str(said)}


def _arguments(vm_name: str) -> tuple[str, ...]:
    return ("--user", f"--user-unit={unit_of(vm_name)}", "--no-pager")


def _read(vm_name: str, *words: str) -> str:
    return _run(vm_name, "--quiet", *words).stdout


def _run(vm_name: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = ("journalctl", *_arguments(vm_name), *words)
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return subprocess.CompletedProcess(argv, 1, "", "")
