# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Slurm may place on this host, from the policy: lines of slurm.conf, for the administrator.

Slurm counts a resource of a node; the policy counts what each user and what all users hold. A node
that counts what one user may hold never gets a job that the helpers refuse, even if all its jobs
are one user's. The services never import this.
"""

import os
from collections.abc import Iterator
from typing import Final

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.file import read_policy
from bpferry_helper.policy.rules import NO_FILE, Policy, Rule

TAPS, QUEUES, SETS = NAMES = "bpferry_taps", "bpferry_queues", "bpferry_sets"

HEAD: Final = f"""\
# What a job can ask for on this host, as {{path}} allows it to one user.
# In slurm.conf, above the lines of the nodes: Include /etc/slurm/bpferry.conf
# GresTypes has to name all types of the cluster: add those of others, such as gpu.
# A job asks for what its VM has, here one card with four queues that eBPF steers:
#   --gres={TAPS}:1,{QUEUES}:4,{SETS}:1
"""


def describe_gres(path: str) -> str:
    """Return the lines for the policy in *path*.

    Raises:
        PolicyError: with the line of the first mistake, or since it gives nobody a tap.
    """
    policy = read_policy(path, socket_gid=os.getgid())
    open_to = [rule for rule in policy.rules if rule.bridges]
    if not open_to and not policy.bridge_conf:
        what = "does not exist" if policy.path == NO_FILE else "opens no bridge to anybody"
        raise PolicyError(path, 0, f"{what}, so no job could have a tap")
    taps = min(_taps_of_one(policy, open_to), policy.taps_in_total)
    queues = max(policy.queues_per_tap, *(rule.queues_per_tap or 0 for rule in open_to), 0)
    sets = min(policy.sets_per_user, policy.sets_in_total)
    counts = zip(NAMES, (taps, taps * queues, sets if _anybody_loads(policy) else 0), strict=True)
    return (
        HEAD.format(path=path)
        + "".join(f"# {line}\n" for line in _remarks(policy, open_to, taps, sets))
        + f"GresTypes={','.join(NAMES)}\n"
        + f"NodeName=DEFAULT Gres={','.join(f'{name}:{count}' for name, count in counts)}\n"
    )


def _taps_of(policy: Policy, rule: Rule) -> int:
    return policy.taps_per_user if rule.taps is None else rule.taps


def _taps_of_one(policy: Policy, open_to: list[Rule]) -> int:
    """Return how many taps anybody may have whom no rule of their own gives fewer."""
    of_many = [rule for rule in open_to if rule.is_group or len(rule.ids) > 1]
    counts = [_taps_of(policy, rule) for rule in of_many or open_to]
    return min([*counts, policy.taps_per_user] if policy.bridge_conf else counts)


def _anybody_loads(policy: Policy) -> bool:
    return bool(policy.users or policy.groups)


def _remarks(policy: Policy, open_to: list[Rule], taps: int, sets: int) -> Iterator[str]:
    """Yield what the counts do not say."""
    if taps < policy.taps_in_total or sets < policy.sets_in_total:
        yield (
            f"All users together may have {policy.taps_in_total} taps and {policy.sets_in_total} "
            "sets. Where only Slurm starts VMs,"
        )
        yield "let one user have as many: then the node is full when it is, and not before."
    for rule in open_to:
        if _taps_of(policy, rule) < taps:
            where = policy.where(rule.key)
            yield f"{where} gives only {_taps_of(policy, rule)} taps: more such jobs fail here."
