# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the versions of QEMU cannot do, or do wrong, and how bpferry handles it.

Each row says which QEMU it is about, when it applies, and what follows. What a QEMU reports over
QMP decides: its features if those tell, its version (``query-version``) if nothing else does. The
plan goes through the rows in their order, again after each that changed something.
``docs/quirks.md`` shows the same table.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.rungs import RSS_OBJECT, Rung, Situation

Version = tuple[int, int]

NEWER: Final = "use a QEMU of version 9.0 or later that was built with libbpf"

BOTH_SINCE: Final = (9, 0)
BOTH_BEFORE: Final = (10, 1)
"""The first QEMU that has RSS by eBPF with vhost, and the first that no longer has it."""

BOTH: Final = "a QEMU of version 9.0 to 10.0 that was built with libbpf"

OBJECT_OF_9_0: Final = "47475c9004f96e03"
"""The beginning of the SHA-256 of QEMU 9.0's program (ebpf/rss.bpf.skeleton.h, c25df57ae8)."""


class Consequence(StrEnum):
    """What a row does to a plan."""

    NO_RSS = "no RSS"
    """The lowest rung: the guest is offered no RSS."""
    NO_EBPF = "no eBPF"
    """One rung down: QEMU steers."""
    NO_VHOST = "no vhost"
    """QEMU moves the packets. If vhost was asked for by name, the card is refused."""
    ONE_OF_BOTH = "RSS or vhost"
    """RSS stays if it was asked for, otherwise vhost. If both were, the card is refused."""
    REFUSE = "refused"
    WARN = "a warning"
    NOTE = "a note"
    """Only one of the reasons: the user loses nothing by it."""


class Quirk(Struct, frozen=True):
    """One row."""

    name: str
    qemu: str
    """Which QEMU, in words."""
    when: str
    """Which cards, in words."""
    applies: Callable[[Situation], bool]
    """Whether the card, and what this QEMU has and lacks, match the row."""
    consequence: Consequence
    because: str
    """For people, after a colon."""
    source: str
    """Where it was read or observed."""
    hint: str = ""
    field: str = "rss"
    """Which field of the card it is about, as a key of the native form."""
    since: Version | None = None
    before: Version | None = None
    """The first version that is no longer affected."""

    def concerns(self, situation: Situation) -> bool:
        """Say whether the row applies to *situation*."""
        version = situation.capabilities.version[:2]
        return (
            (self.since is None or version >= self.since)
            and (self.before is None or version < self.before)
            and self.applies(situation)
        )


def _has_object_of_9_0(situation: Situation) -> bool:
    found = situation.capabilities.objects.get(RSS_OBJECT)
    return found is not None and found.digest.hex().startswith(OBJECT_OF_9_0)


QUIRKS: Final[tuple[Quirk, ...]] = (
    Quirk(
        "no-rss",
        qemu="has no property 'rss' of virtio-net",
        when="RSS is on",
        applies=lambda it: it.offers_rss and not it.capabilities.has_rss,
        consequence=Consequence.NO_RSS,
        because="the virtio-net of this QEMU has no RSS",
        source="device-list-properties",
        hint=NEWER,
    ),
    Quirk(
        "rss-of-vhost-user",
        qemu="every one",
        when="RSS or hash reports are on, the type is vhostuser",
        applies=lambda it: (
            it.card.type == "vhostuser" and (it.offers_rss or it.card.rss_hash_report)
        ),
        consequence=Consequence.REFUSE,
        because="QEMU takes RSS and hash reports back from the guest of a vhost-user card",
        source="virtio_net_get_features in hw/net/virtio-net.c, 9.0 to 11.1",
        hint="leave both out: the process behind the card spreads packets by a rule of its own",
    ),
    Quirk(
        "crash-without-tap",
        qemu="9.2",
        when="RSS is on, no tap behind the card",
        applies=lambda it: it.offers_rss and not it.card.has_tap,
        consequence=Consequence.REFUSE,
        because="QEMU 9.2 crashes with RSS on a card that has no tap",
        source="b5900dff14 in 9.2, fixed by bc82af6b0d in 10.0",
        hint="leave RSS out, give the card a tap, or use another QEMU",
        since=(9, 2),
        before=(10, 0),
    ),
    Quirk(
        "fds-leak-without-tap",
        qemu="9.0 and newer",
        when="eBPF, no tap behind the card",
        applies=lambda it: it.rung is Rung.EBPF and not it.card.has_tap,
        consequence=Consequence.NO_EBPF,
        because="there is no tap behind it: QEMU would take the fds, never use them, and never "
        "close them",
        source="virtio_net_load_ebpf in hw/net/virtio-net.c; seen on 10.0.2",
        hint="give the card a tap",
    ),
    Quirk(
        "macvtap",
        qemu="every one",
        when="eBPF, a macvtap behind the card",
        applies=lambda it: it.rung is Rung.EBPF and it.macvtap,
        consequence=Consequence.NO_EBPF,
        because="its tap is a macvtap, which the kernel lets no eBPF program steer",
        source="tap_ioctl in drivers/net/tap.c has no TUNSETSTEERINGEBPF; seen on 6.18",
        hint="use a tap on a bridge",
        field="tap",
    ),
    Quirk(
        "nothing-to-spread",
        qemu="every one",
        when="RSS is on, one queue",
        applies=lambda it: it.offers_rss and it.queues == 1,
        consequence=Consequence.WARN,
        because="RSS is on for a card with one queue, which leaves nothing to spread",
        source="Virtio 1.2, 5.1.6.5.7",
        hint="give the card a tap and two queues or more, or leave RSS out",
    ),
    Quirk(
        "no-object",
        qemu="hands out no eBPF object 'rss' (before 9.0, or built without libbpf)",
        when="eBPF",
        applies=lambda it: it.rung is Rung.EBPF and RSS_OBJECT not in it.capabilities.objects,
        consequence=Consequence.NO_EBPF,
        because="this QEMU hands out no eBPF object 'rss'",
        source="qapi/ebpf.json, since 9.0",
        hint=NEWER,
    ),
    Quirk(
        "no-fds",
        qemu="has no property 'ebpf-rss-fds' of virtio-net (before 9.0)",
        when="eBPF",
        applies=lambda it: it.rung is Rung.EBPF and not it.capabilities.takes_ebpf_fds,
        consequence=Consequence.NO_EBPF,
        because="the virtio-net of this QEMU has no property 'ebpf-rss-fds'",
        source="hw/net/virtio-net.c, 6b230b7dfc in 9.0",
        hint=NEWER,
    ),
    Quirk(
        "hash-report-with-vhost",
        qemu="every one",
        when="hash reports are on, vhost",
        applies=lambda it: it.card.rss_hash_report and it.vhost,
        consequence=Consequence.NO_VHOST,
        because="with vhost, QEMU takes hash reports back from the guest",
        source="ebpf_rss.rst in QEMU's documentation; "
        "virtio_net_get_features in hw/net/virtio-net.c",
        hint="leave hash reports (rss_hash_report) out",
        field="rss-hash-report",
    ),
    Quirk(
        "hash-report-without-vhost",
        qemu="every one",
        when="eBPF, hash reports are on, no vhost",
        applies=lambda it: it.rung is Rung.EBPF and it.card.rss_hash_report and not it.vhost,
        consequence=Consequence.NO_EBPF,
        because="it reports hashes to the guest, which the eBPF program does not: QEMU takes it "
        "off as soon as the guest uses them",
        source="ebpf_rss.rst in QEMU's documentation; "
        "virtio_net_commit_rss_config in hw/net/virtio-net.c",
        hint="leave hash reports (rss_hash_report) out",
        field="rss-hash-report",
    ),
    Quirk(
        "vhost-ignores-fds",
        qemu="10.1 and newer",
        when="eBPF, vhost",
        applies=lambda it: it.rung is Rung.EBPF and it.vhost,
        consequence=Consequence.ONE_OF_BOTH,
        because="QEMU 10.1 and newer ignores the eBPF program of a card with vhost",
        source="7b6e7e4990 in 10.1; seen on 11.1.3, no fix known",
        since=BOTH_BEFORE,
    ),
    Quirk(
        "rss-taken-back",
        qemu="before 10.1",
        when="RSS by QEMU, vhost",
        applies=lambda it: it.rung is Rung.QEMU and it.vhost,
        consequence=Consequence.ONE_OF_BOTH,
        because="with vhost and without eBPF, QEMU takes RSS back from the guest",
        source="virtio_net_get_features in hw/net/virtio-net.c, 6.1 to 10.0",
        before=BOTH_BEFORE,
    ),
    Quirk(
        "rss-in-name-only",
        qemu="10.1 and newer",
        when="RSS by QEMU, vhost",
        applies=lambda it: it.rung is Rung.QEMU and it.vhost,
        consequence=Consequence.ONE_OF_BOTH,
        because="with vhost and without eBPF, QEMU offers RSS to the guest and does not steer",
        source="7b6e7e4990 in 10.1; seen on 11.1.3",
        since=BOTH_BEFORE,
    ),
    Quirk(
        "soft-failure",
        qemu="9.0 and 9.1",
        when="eBPF",
        applies=lambda it: it.rung is Rung.EBPF,
        consequence=Consequence.NOTE,
        because="this QEMU goes on without eBPF where it cannot use what it is given; its "
        "messages are watched",
        source="6b230b7dfc in 9.0 and 283be5966e in 9.1; an error since b5900dff14 in 9.2",
        since=(9, 0),
        before=(9, 2),
    ),
    Quirk(
        "object-of-9.0",
        qemu=f"hands out the object of 9.0 ({OBJECT_OF_9_0}...)",
        when="eBPF",
        applies=lambda it: it.rung is Rung.EBPF and _has_object_of_9_0(it),
        consequence=Consequence.NOTE,
        because="the program of QEMU 9.0 sends flows whose hash is 0 to the default queue",
        source="tools/ebpf/rss.bpf.c, fixed in 9.1",
    ),
)
"""The rows, in the order in which the plan goes through them."""


def has_both(capabilities: Capabilities) -> bool:
    """Say whether this QEMU can have RSS by eBPF with vhost, if the helper grants it."""
    return (
        BOTH_SINCE <= capabilities.version[:2] < BOTH_BEFORE
        and RSS_OBJECT in capabilities.objects
        and capabilities.takes_ebpf_fds
    )


def find_quirk(situation: Situation, asked: frozenset[str] = frozenset()) -> Quirk | None:
    """Return the first row that applies to *situation*, of those not *asked* yet."""
    return next((row for row in QUIRKS if row.name not in asked and row.concerns(situation)), None)
