# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a host becomes one of another kind, and what is then to be so on it."""

from dataclasses import dataclass
from typing import Final

from tests.vm.kinds import JIT, UNPRIVILEGED


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of host."""

    commands: tuple[str, ...]
    """What an administrator does."""
    settings: tuple[str, str, str]
    """What the table then says of bpf(2) for ordinary users, of the compiler, and of lockdown."""
    told: tuple[str, ...] = ()
    """What the doctor finds wrong with the kernel."""


STEPS: Final = (
    Step((), ("2", "on", "none")),
    Step((f"echo 0 >{UNPRIVILEGED}",), ("0", "on", "none"), told=("unprivileged-bpf",)),
    Step((f"echo 2 >{UNPRIVILEGED}", f"echo 0 >{JIT}"), ("2", "off", "none"), told=("jit",)),
)
"""In this order. What a host cannot go back from without a restart is not among them."""

AFTERWARDS: Final = (f"echo 2 >{UNPRIVILEGED}", f"echo 1 >{JIT}")
