# SPDX-License-Identifier: LGPL-2.1-or-later
"""One fact about a host: its state, for what it matters, and what mends it.

ok       as it should be, or of no consequence
warning  something that was not asked for does not work, works less well, or is less safe
fault    something that was asked for cannot work

A check finds a fault wherever a feature cannot work. Whether that is one for this user depends on
what was asked for: ``settle`` turns the others into warnings.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

State = Literal["ok", "warning", "fault"]


class Feature(StrEnum):
    """What a finding matters for, by a word for programs."""

    RUN = "run"
    TAPS = "taps"
    EBPF = "ebpf"
    VHOST = "vhost"
    KVM = "kvm"
    UEFI = "uefi"
    SESSION = "session"
    COMPANIONS = "companions"
    DEVICES = "devices"
    SAFETY = "safety"


NAMES: Final = {
    Feature.RUN: "any VM",
    Feature.TAPS: "taps on bridges",
    Feature.EBPF: "RSS by eBPF",
    Feature.VHOST: "vhost",
    Feature.KVM: "KVM",
    Feature.UEFI: "UEFI",
    Feature.SESSION: "VMs that outlive your session",
    Feature.COMPANIONS: "passt and virtiofsd",
    Feature.DEVICES: "devices of the host",
    Feature.SAFETY: "the host's safety",
}
"""The same for people."""

CORE: Final = frozenset({Feature.RUN, Feature.TAPS, Feature.EBPF})
"""What is asked for where no VM is named: what users have bpferry for. A host without KVM or vhost
still runs every VM, more slowly."""


PROVEN: Final = CORE | {Feature.VHOST, Feature.KVM, Feature.UEFI}
"""What works or does not. About the others there are only warnings."""


QUOTED_COMMAND: Final = re.compile(r"'((?:sudo|newgrp) [^']+)'")
"""How hints quote a command."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about this host, or about one VM on it."""

    name: str
    """For programs: the group and the fact, such as ``kernel.btf``."""
    state: State
    message: str
    features: tuple[Feature, ...] = ()
    """What it matters for."""
    fix: str = ""
    """What to do, in words; empty if there is nothing to do, or the command says it."""
    command: str = ""
    """The command that mends it."""

    @property
    def mended_by(self) -> str:
        """The command that mends it, also if only the words have it; empty if there is none."""
        found = QUOTED_COMMAND.search(self.fix)
        return self.command or (found[1] if found else "")

    @property
    def group(self) -> str:
        """What the fact is about, such as ``kernel``."""
        return self.name.partition(".")[0]


def settle(findings: Iterable[Finding], wanted: Collection[Feature]) -> list[Finding]:
    """Return *findings* with only those faults that are about what is *wanted*."""
    return [
        replace(one, state="warning")
        if one.state == "fault" and one.features and not set(one.features) & set(wanted)
        else one
        for one in findings
    ]


def ready(findings: Iterable[Finding]) -> dict[Feature, bool]:
    """Return for each feature that *findings*, before they are settled, are about if it works."""
    found = list(findings)
    faulty = {feature for one in found if one.state == "fault" for feature in one.features}
    about = {feature for one in found for feature in one.features}
    return {feature: feature not in faulty for feature in Feature if feature in about & PROVEN}
