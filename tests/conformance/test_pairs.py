# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own test pairs: the same machine from the same document, or an honest refusal.

The pairs and the tool that compares are not part of this repository. They are looked for in a
folder ``shared/conformance`` beside it, or where BPFERRY_CONFORMANCE says.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests import requires
from tests.conformance.forked import forked_bpferry

ROOT: Final = Path(__file__).parents[2]
LEAST_EQUAL: Final = 200
CARDS: Final = ("net-", "tap-", "virtio-")

NOT_FOR_USERS: Final = {
    "net-eth": "a tap of root's making, and a script",
    "net-eth-hostip": "an address on the host's side",
    "net-eth-ifname": "a tap of root's making, and a script",
    "net-eth-names": "a tap of root's making, and a script",
    "net-virtio-network-portgroup": "a VLAN on the host's side",
    "net-hostdev-bootorder": "a host device",
    "net-hostdev-vfio": "a host device",
    "net-hostdev-vfio-multidomain": "a host device",
    "net-midonet": "Open vSwitch",
    "net-vdpa": "a host device",
}
"""Pairs of the cards' family that an ordinary user cannot have, and why."""


MADE_UP: Final = {
    "vhost-vsock-auto": "its CID is one of libvirt's test; a host with vhost-vsock gives another",
    "audio-default-vnc": "its sound is ALSA's, since libvirt's test sets QEMU_AUDIO_DRV and allows "
    "it (vnc_allow_host_audio); by default there is none, as in graphics-vnc-auto-socket-cfg",
}
"""Pairs that are different where libvirt's test plays what is not so on this host, and why."""


class Verdict(NamedTuple):
    """What became of one pair."""

    kind: str
    notes: tuple[str, ...]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Compare all pairs once, for all tests here."""
    requires.qemu()
    folder = requires.conformance()
    compare = [sys.executable, str(folder / "compare.py"), str(folder / "libvirt-11.3"), "--"]
    environment = requires.environment()
    with forked_bpferry(tmp_path_factory.mktemp("forked"), environment) as bpferry:
        done = subprocess.run(
            [*compare, *bpferry, "run", "--dry-run=json"],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
    assert done.stdout, done.stderr
    return parse(done.stdout)


def parse(report: str) -> dict[str, Verdict]:
    """Return the verdict of each pair of a report of compare.py."""
    found: dict[str, Verdict] = {}
    name = ""
    for line in report.splitlines():
        head = re.fullmatch(r"(equal|refused|different|crashed) +(\S+)", line)
        if head:
            name = head[2]
            found[name] = Verdict(head[1], ())
        elif line.startswith("   ") and name:
            kind, notes = found[name]
            found[name] = Verdict(kind, (*notes, line.strip()))
    return found


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_pair_is_different_or_crashes(verdicts: dict[str, Verdict]) -> None:
    """What was accepted is the machine that libvirt makes of it; the rest was refused."""
    faults = {name: found for name, found in verdicts.items() if found.kind in FAULTY}
    faults = {name: found for name, found in faults.items() if name not in MADE_UP}

    assert {} == faults


FAULTY: Final = ("different", "crashed")


@pytest.mark.qemu
def test_enough_pairs_are_equal(verdicts: dict[str, Verdict]) -> None:
    """Most of what users have in their documents is done."""
    equal = sum(found.kind == "equal" for found in verdicts.values())

    assert equal >= LEAST_EQUAL


@pytest.mark.qemu
def test_cards_are_complete(verdicts: dict[str, Verdict]) -> None:
    """Every pair about network cards and virtio is equal, but for those that no user can have."""
    refused = {
        name for name, found in verdicts.items() if name.startswith(CARDS) and found.kind != "equal"
    }

    assert set(NOT_FOR_USERS) & set(verdicts) >= refused


def test_report_is_read() -> None:
    """A report of compare.py is taken apart as it is written."""
    report = (
        "equal      a-b\nrefused    c\n           /domain/x: no\n1 equal, 1 refused, of 2 pairs\n"
    )

    assert {
        "a-b": Verdict("equal", ()),
        "c": Verdict("refused", ("/domain/x: no",)),
    } == parse(report)
