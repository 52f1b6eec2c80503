# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a host becomes one of another kind, and what is then to be so on it.

The steps of a host are taken in this order, since some cannot be undone before it restarts.
"""

from dataclasses import dataclass, replace
from typing import Final

from tests.vm.kinds import JIT, LOCKDOWN, POLICY_WITHOUT_CENSUS, UNPRIVILEGED

EBPF: Final = ("ebpf", True)
USER_SPACE: Final = ("qemu", False)
"""Steering of a card that asks for RSS and says nothing about vhost, and if it has vhost."""


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of host."""

    commands: tuple[str, ...]
    """What an administrator does."""
    settings: tuple[str, str, str]
    """What the table then says of bpf(2) for ordinary users, of the compiler, and of lockdown."""
    plan: tuple[str, bool] = EBPF
    told: tuple[str, ...] = ()
    """What the doctor finds wrong with the kernel."""
    plays: bool = False
    """Whether the VM runs and gets flows, which takes a minute. One of a host does: more guests one
    after the other, with four processors each, were seen to hold up the whole host."""

    @property
    def grants(self) -> bool:
        """Whether the helper gives a set."""
        return self.plan == EBPF


def lock_down(level: str) -> str:
    """Return what ``lockdown=`` does among the kernel's parameters."""
    return f"echo {level} >{LOCKDOWN}"


AS_BOOTED: Final = Step((), ("2", "on", "none"))
OPEN: Final = Step((f"echo 0 >{UNPRIVILEGED}",), ("0", "on", "none"), told=("unprivileged-bpf",))
INTERPRETED: Final = Step(
    (f"echo 2 >{UNPRIVILEGED}", f"echo 0 >{JIT}"), ("2", "off", "none"), told=("jit",)
)
CLOSED: Final = Step((f"echo 1 >{UNPRIVILEGED}", f"echo 1 >{JIT}"), ("1", "on", "none"))

UNDONE: Final = (OPEN, INTERPRETED)
"""What a restart is not needed for."""
AFTERWARDS: Final = (f"echo 2 >{UNPRIVILEGED}", f"echo 1 >{JIT}")

ALL: Final = (
    AS_BOOTED,
    *UNDONE,
    CLOSED,
    Step((lock_down("integrity"),), ("1", "on", "integrity")),
    Step((lock_down("confidentiality"),), ("1", "on", "confidentiality"), plays=True),
)

ON_PACKAGES: Final = tuple(replace(step, plays=False) for step in ALL)
"""The same where ``test_packages`` has a VM that gets flows."""

WITHOUT_BTF: Final = (
    Step((), ("2", "on", "none"), plan=USER_SPACE, told=("btf",)),
    Step((POLICY_WITHOUT_CENSUS,), ("2", "on", "none"), told=("btf",), plays=True),
)
"""No set can be counted: none is given, or each counts until a restart, if the policy says so."""
