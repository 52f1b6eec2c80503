# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many files bpferry and QEMU may have open at once (RLIMIT_NOFILE of getrlimit(2)).

Each queue of a card takes fds in both: for its tap, for vhost, and QEMU's notifiers. A session
starts with a soft limit of 1,024 nearly everywhere, which a process may raise itself up to the hard
limit; QEMU and its companions inherit it. The hard limit is set by the administrator.
"""

import resource
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from bpferry.commandline.build import Built
from bpferry.commandline.parts import (
    Link,
    Listen,
    OpenDevice,
    OpenVsock,
    OutputFile,
    Secret,
    SocketPair,
)
from bpferry.domain.names import cards_of
from bpferry.errors import NotReady
from bpferry.machine.draft import Draft
from bpferry.steering.plan import CardPlan, Rung

RESERVE: Final = 128
"""Reserve for all that is not counted: QEMU's own files, images, threads, and what bpferry has
open. A VM with a disk, a display and no card takes 40 (QEMU 10.0)."""

NOTIFIERS: Final = 4
"""QEMU's fds for each of the two rings of a queue with vhost, once the guest uses all of them: kick
and call, and both again for vhost (hw/virtio/vhost.c)."""

INHERITED: Final = (
    SocketPair, Link, Listen, OpenDevice, OpenVsock, OutputFile, Secret,
)  # fmt: skip
"""The parts that take one fd of QEMU each."""


class OpenFiles(Struct, frozen=True):
    """What a VM needs."""

    taps: int
    vhost: int
    sets: int
    others: int
    """Sockets, files and device nodes that QEMU inherits."""
    processors: int

    @property
    def least(self) -> int:
        """Without these, the VM cannot start."""
        return self.taps + self.vhost + self.sets + self.others + RESERVE

    @property
    def most(self) -> int:
        """What it may need if its guest uses everything."""
        return self.least + self.processors + 2 * NOTIFIERS * self.taps

    def __str__(self) -> str:
        counted = {"queues of taps": self.taps, "vhost": self.vhost, "eBPF": self.sets}
        words = [f"{number:,} for {what}" for what, number in counted.items() if number]
        return ", ".join([*words, f"{self.others + RESERVE:,} for all else"])


def count_open_files(draft: Draft) -> OpenFiles:
    """Return how many files the VM of *draft* needs open."""
    taps = [draft.plans[card.id] for card in cards_of(draft.machine) if card.value.has_tap]
    return OpenFiles(
        taps=sum(plan.queues for plan in taps),
        vhost=sum(plan.queues for plan in taps if plan.vhost),
        sets=sum(_set_size(plan) for plan in taps if plan.rung is Rung.EBPF),
        others=_others(draft.built),
        processors=draft.machine.vcpus,
    )


def _set_size(plan: CardPlan) -> int:
    from bpferry.commandline.network.tap_card import set_names  # noqa: PLC0415 - for a card only

    return len(set_names(plan.card_id))


def _others(built: Built) -> int:
    return sum(len(built.of(kind)) for kind in INHERITED)


def find_low_limit(draft: Draft) -> Iterator[NotReady]:
    """Yield that the hard limit is too low for the VM of *draft*, if it is."""
    needed = count_open_files(draft)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed.least:
        yield NotReady(
            f"the VM needs {needed.least:,} open files ({needed}), and this session may have "
            f"{hard:,}",
            "ask for fewer queues, or ask the administrator to raise the hard limit, which "
            "'ulimit -Hn' shows: 'nofile' in /etc/security/limits.conf, or LimitNOFILE= in a unit",
            _widest_card(draft),
        )


def _widest_card(draft: Draft) -> str:
    queues = [card.queues or 1 for card in draft.machine.cards]
    return f"cards[{queues.index(max(queues))}].queues" if queues else ""


def raise_limit(draft: Draft) -> None:
    """Raise the soft limit of this process as far as the VM of *draft* may need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count_open_files(draft).most
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
