# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a device or socket that a group may use is closed to this process.

A process has the groups that its user had when the session began. A user who has become a member
since then has to log in again, and may take this for a refusal.
"""

import grp
import os
import pwd
import stat
from typing import Final

GIVE_IT: Final = (
    "no group may open it: ask the administrator to give it to one, for example with "
    "'chgrp kvm {0}' and 'chmod 0660 {0}'"
)
"""What to do about a device that no group of users may open; with its path."""


def explain_device(path: str, missing_hint: str) -> tuple[str, str]:
    """Return why the device *path* may not be opened, and who can change that."""
    return explain_denied(path, GIVE_IT.format(path), missing_hint)


def explain_denied(path: str, closed_hint: str, missing_hint: str) -> tuple[str, str]:
    """Return why *path* may not be opened, and who can change that.

    Args:
        path: a device or a socket.
        closed_hint: what to do if no group may use it.
        missing_hint: what to do if it cannot even be looked at.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - pathlib would cost more than the rest
    except OSError as error:
        return error.strerror or str(error), missing_hint
    wanted = stat.S_IRGRP | stat.S_IWGRP
    owner = describe_owner(found)
    if found.st_mode & wanted != wanted or found.st_gid == 0:
        return f"users may not open it ({owner})", closed_hint
    if found.st_gid in (os.getegid(), *os.getgroups()):
        cause = f"something other than its mode denies access ({owner})"
        return cause, "see the log of the security module"
    group, members = _group(found.st_gid)
    user = _user()
    theirs = f"only members of the group '{group}' may use it ({owner})"
    if user in members:
        return (
            f"{theirs}; you are one now, but this session began before that",
            f"log in again, or run 'newgrp {group}' in this shell",
        )
    return (
        f"{theirs}, and you are not one",
        f"ask the administrator to run 'sudo usermod -aG {group} {user}', and log in again",
    )


def describe_owner(found: os.stat_result) -> str:
    """Return whose a file is, such as ``root:kvm, mode 0660``."""
    mode = stat.S_IMODE(found.st_mode)
    return f"{user_name(found.st_uid)}:{_group(found.st_gid)[0]}, mode {mode:04o}"


def _group(gid: int) -> tuple[str, list[str]]:
    """Return name and members of a group, including the user if it is the user's primary group."""
    try:
        entry = grp.getgrgid(gid)
    except KeyError:
        return str(gid), []
    try:
        first = [_user()] if pwd.getpwuid(os.geteuid()).pw_gid == gid else []
    except KeyError:
        first = []
    return entry.gr_name, [*entry.gr_mem, *first]


def _user() -> str:
    return user_name(os.geteuid())


def user_name(uid: int) -> str:
    """Return the name of *uid*, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
