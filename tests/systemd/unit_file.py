# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit files as data: sections, settings in their order, and the comment above each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNITS: Final = Path(__file__).parents[2] / "systemd"


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of a unit."""

    section: str
    key: str
    value: str
    comment: str
    """What the comment lines right above say; a run of settings shares the one above its first."""


def read_unit(path: Path) -> list[Setting]:
    """Return the settings of *path*."""
    settings: list[Setting] = []
    section = comment = ""
    after_setting = False
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            comment = f"{'' if after_setting else comment} {line.removeprefix('#').strip()}".strip()
            after_setting = False
        elif line.startswith("["):
            section, comment, after_setting = line.strip("[]"), "", False
        elif "=" in line:
            key, _, value = line.partition("=")
            settings.append(Setting(section, key, value, comment))
            after_setting = True
        else:
            comment, after_setting = "", False
    return settings


def values(settings: list[Setting], key: str) -> list[str]:
    """Return every value of *key*, in order."""
    return [setting.value for setting in settings if setting.key == key]


def words(settings: list[Setting], key: str) -> set[str]:
    """Return the words of every value of *key*."""
    return {word for value in values(settings, key) for word in value.split()}


DAEMON_ONLY: Final = frozenset(
    {
        "Type",
        "NotifyAccess",
        "ExecStart",
        "WatchdogSec",
        "Restart",
        "RestartSec",
        "RestartPreventExitStatus",
    }
    | {"StateDirectory", "StateDirectoryMode"}
)
"""What makes the service a daemon, beside its sandbox."""


def build_probe_unit(unit: Path, command: str, output: str, *, sandboxed: bool) -> str:
    """Return a unit that runs *command* once, in the sandbox of *unit* or, as the control, in none.

    What it prints is written to the file *output* by the service manager.
    """
    lines = ["[Service]", "Type=oneshot", f"ExecStart={command}", f"StandardOutput=file:{output}"]
    if sandboxed:
        lines += [
            f"{setting.key}={setting.value}"
            for setting in read_unit(unit)
            if setting.section == "Service" and setting.key not in DAEMON_ONLY
        ]
    return "\n".join([*lines, ""])
