# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the files of a VM are that its description does not name (XDG base directories)."""

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bpferry.commandline.context import Folders

MAX_NAME: Final = 32
"""The most characters of a folder's name. A Unix socket's path has at most 107 (unix(7))."""


def folders_of(vm_name: str) -> "Folders":
    """Return the folders of the VM called *vm_name*; nothing is made here."""
    from bpferry.commandline.context import Folders  # noqa: PLC0415 - not for `bpferry list`

    folder = folder_name(vm_name)
    return Folders(
        runtime=str(_runtime_folder() / "bpferry" / folder),
        state=str(home_folder("XDG_STATE_HOME", ".local/state") / "bpferry" / folder),
    )


def folder_name(vm_name: str) -> str:
    """Return the name of the folder for *vm_name*; different VMs never get the same one."""
    if is_folder_name(vm_name):
        return vm_name
    import hashlib  # noqa: PLC0415 - rarely needed, and brings OpenSSL

    # Python has a byte of the command line that is not UTF-8 as half a character.
    digest = hashlib.sha256(vm_name.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', vm_name)[: MAX_NAME - 13]}-{digest}"


def is_folder_name(name: str) -> bool:
    """Say whether a folder of a VM may have this *name*: nothing in it means more to a terminal."""
    return bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)) and len(name) <= MAX_NAME


def vms_folder() -> Path:
    """Return the folder of the descriptions that a VM's name alone stands for."""
    return home_folder("XDG_CONFIG_HOME", ".config") / "bpferry" / "vms"


def disk_folder(vm_name: str) -> Path:
    """Return the folder of the disk and the seed of a VM that ``bpferry create`` made."""
    return home_folder("XDG_DATA_HOME", ".local/share") / "bpferry" / "vms" / vm_name


def remove_empty(folder: Path) -> None:
    """Remove *folder* if it is empty; another VM's, or what somebody put there, stays."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def runtime_folders() -> tuple[Path, ...]:
    """Return where the runtime folders of VMs are: that of this session first."""
    usual = Path(f"/run/user/{os.getuid()}")
    places = dict.fromkeys((_runtime_folder(), usual, _folder_without_session()))
    return tuple(place / "bpferry" for place in places if not _is_somebody_elses(place))


def _is_somebody_elses(place: Path) -> bool:
    """Say whether another user was first to make *place*; root may do so for us."""
    try:
        return place.lstat().st_uid not in (0, os.geteuid())
    except OSError:
        return False


def _runtime_folder() -> Path:
    """Return the user's own folder for sockets; without a login session, one below /tmp.

    A job of a cluster has the variables of the session that submitted it, which is on another host:
    the folder of a session that is not there counts as none.
    """
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    elsewhere = given == f"/run/user/{os.getuid()}" and not Path(given).exists()
    usable = given.startswith("/") and not elsewhere
    return Path(given) if usable else _folder_without_session()


def explain_session(path: Path) -> str:
    """Return what to do if *path* is in the folder of a session that is not ours; empty if not."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if not given.startswith("/") or not path.is_relative_to(given):
        return ""
    try:
        ours = Path(given).stat().st_uid == os.geteuid()
        cause = "is not yours; su and sudo keep the variable of another user"
    except OSError as error:
        ours, cause = False, f"is not usable ({error.strerror})"
    return "" if ours else f"XDG_RUNTIME_DIR is '{given}', which {cause}: unset XDG_RUNTIME_DIR"


def _folder_without_session() -> Path:
    return Path(f"/tmp/bpferry-{os.getuid()}")  # noqa: S108 - made with mode 0700 and checked


def home_folder(variable: str, usual: str) -> Path:
    """Return the user's folder that *variable* names, or the *usual* one below home."""
    given = os.environ.get(variable, "")
    return Path(given) if given.startswith("/") else Path(os.path.expanduser("~")) / usual  # noqa: PTH111 - Path.home() raises where there is no home
