# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether VMs can make a bridge learn addresses without end, each of which takes kernel memory.

They cannot where the policy has address-lock, since the bridge learns nothing from such a port, or
where the bridge has a limit. Of the policy's networks nobody but the administrator is told on which
bridge they are; for those there is ``bpferry-helper check-policy``.
"""

from collections.abc import Callable
from typing import Final

from bpferry.errors import BpferryError
from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.network.tap_helper import TapHelper
from bpferry_wire.errors import Code
from bpferry_wire.messages import Tap

NO_CARD: Final = bytes.fromhex("ffffffffffff")
"""No card can have this address, and only a port that is tied to its card's has to say so."""

NAME: Final = "bridges.learning"
OF: Final = (Feature.SAFETY,)

LIMIT: Final = "sudo ip link set {} type bridge fdb_max_learned 4096"
"""As ``bpferry-helper check-policy`` has it."""
LOCK: Final = (
    "ask the administrator to write 'address-lock = true' below [bridges.\"{}\"] into "
    "/etc/bpferry/policy.toml"
)


def check_learning(
    helper: TapHelper, bridge: str, find_limit: Callable[[str], int | None]
) -> Finding:
    """Return whether a VM could fill the table of *bridge*, on which one may have taps.

    *find_limit* returns what the kernel says of a bridge: 0 for any number, None for no answer.
    """
    try:
        is_locked = _has_address_lock(helper, bridge)
    except BpferryError as error:
        what = f"whether the policy has address-lock for the bridge '{bridge}' is not known"
        return Finding(NAME, "warning", f"{what}: {error.message}", OF, fix=error.hint)
    if is_locked:
        message = f"the bridge '{bridge}' learns no address from a VM: the policy has address-lock"
        return Finding(NAME, "ok", message, OF)
    return _limited(bridge, find_limit(bridge))


def _has_address_lock(helper: TapHelper, bridge: str) -> bool:
    answer = helper.can(Tap(bridge, is_network=False, queues=1, mac=NO_CARD))
    return answer.code == Code.FAILED


def _limited(bridge: str, limit: int | None) -> Finding:
    if limit:
        message = f"the bridge '{bridge}' learns at most {limit:,} addresses"
        return Finding(NAME, "ok", message, OF)
    if limit is None:
        return Finding(
            NAME,
            "warning",
            f"how many addresses the bridge '{bridge}' learns from VMs is not known: kernels "
            "before Linux 6.7 have no limit for it, and do not say",
            OF,
            fix=LOCK.format(bridge),
        )
    return Finding(
        NAME,
        "warning",
        f"the bridge '{bridge}' learns any number of addresses, so a VM can fill the kernel's "
        "memory with made-up ones",
        OF,
        fix=f"{LOCK.format(bridge)}, or limit the bridge's table",
        command=LIMIT.format(bridge),
    )
