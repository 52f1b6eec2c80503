# SPDX-License-Identifier: LGPL-2.1-or-later
"""A helper's own user with exactly the capabilities of its role, as its unit gives them."""

from bpferry_helper.privilege import CAPABILITIES


def drop_to(role: str, uid: int) -> list[str]:
    """Return the start of a command that continues as *uid* with exactly what *role* needs."""
    names = [f"+{name.removeprefix('CAP_').lower()}" for name in CAPABILITIES[role]]
    kept = ",".join(["-all", *names])
    return [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
        f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}",
        "--no-new-privs", "--pdeathsig=KILL", "--",
    ]  # fmt: skip
