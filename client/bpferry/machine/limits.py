# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much QEMU may take of the host, set by the user's systemd.

Nothing is written into control groups here. If bpferry runs as the VM's own unit, that unit gets
the limits as properties until the VM ends; they hold for bpferry and what runs beside QEMU too.
Otherwise systemd-run(1) puts QEMU alone into a scope with them, before its first instruction, since
memory that a process has is never charged to another group.

systemd accepts a property whose controller it does not have, and it has no effect. So it is looked
up before whether the user's systemd was given the controller, and in QEMU's group afterwards
(``in_force``).
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bpferry.commandline.parts import Limit
from bpferry.errors import BpferryError, NoManager, NotReady
from bpferry.machine import user_manager
from bpferry.machine.in_force import GROUPS, controller_of, group_of

EXPANDS: Final = 254
"""The version from which systemd-run may replace ``$`` in arguments, unless told not to."""


def find_unavailable(limits: Sequence[Limit], groups: Path = GROUPS) -> Iterator[BpferryError]:
    """Yield why limits cannot be set here, once for each controller.

    The error's element is the key of the first of them.
    """
    if not limits:
        return
    import shutil  # noqa: PLC0415 - brings compressors, which few VMs need

    first = {controller_of(limit): limit for limit in reversed(limits)}
    try:
        manager = user_manager.look_at_manager()
    except BpferryError as error:
        for limit in first.values():
            yield _without_manager(limit, error)
        return
    if shutil.which("systemd-run") is None:
        for limit in first.values():
            yield _without_manager(limit, NoManager("there is no systemd-run here"))
        return
    given = _words_of(groups / manager.group.lstrip("/") / "cgroup.controllers")
    for controller, limit in first.items():
        if controller not in given:
            yield _not_delegated(controller, limit, given)


def _without_manager(limit: Limit, error: BpferryError) -> NotReady:
    hint = error.hint.removesuffix(user_manager.IN_FOREGROUND).removesuffix("; or ")
    return NotReady(
        f"'{limit.name}' is set by your systemd for the unit of QEMU, and {error.message}",
        f"{hint}; or remove it" if hint else "remove it, or start the VM where systemd runs",
        limit.key,
    )


def _not_delegated(controller: str, limit: Limit, given: Sequence[str]) -> NotReady:
    has = ", ".join(given) or "none"
    wanted = " ".join(sorted({*given, controller}))
    return NotReady(
        f"'{limit.name}' needs the controller '{controller}', which your systemd was not given (it "
        f"has: {has})",
        "ask the administrator to write '[Service]' and "
        f"'Delegate={wanted}' to /etc/systemd/system/user@.service.d/bpferry.conf, and to run: "
        f"sudo systemctl daemon-reload; sudo systemctl restart user@{os.getuid()}.service, which "
        "ends all that runs there; or remove it",
        limit.key,
    )


def _words_of(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return ()


@contextlib.contextmanager
def confined(vm_name: str, limits: Sequence[Limit]) -> Iterator[tuple[str, ...]]:
    """Limit our own unit until the block ends, or yield the words that start QEMU in a scope.

    Raises:
        BpferryError: systemd does not do it.
    """
    if not limits:
        yield ()
        return
    unit = user_manager.unit_of(vm_name)
    if group_of("self").name != unit:
        yield scope_words(vm_name, limits, user_manager.look_at_manager().version)
        return
    setting = ("set-property", "--runtime", unit)
    user_manager.change(*setting, *map(str, limits))
    try:
        yield ()
    finally:
        # The unit may be started again with a description that has no such limits.
        with contextlib.suppress(BpferryError):
            names = dict.fromkeys(limit.name for limit in limits)
            user_manager.change(*setting, *(f"{name}=" for name in names))


def scope_words(vm_name: str, limits: Sequence[Limit], version: int) -> tuple[str, ...]:
    """Return the command that puts itself into a scope with *limits* and becomes another one."""
    words = ["systemd-run", "--user", "--scope", "--quiet", "--collect"]
    words.append(f"--unit=bpferry-{vm_name}-{os.getpid()}.scope")
    words.append(f"--description=QEMU of the VM '{vm_name}'")
    if version >= EXPANDS:
        words.append("--expand-environment=no")
    for limit in limits:
        words += ["-p", str(limit)]
    return (*words, "--")
