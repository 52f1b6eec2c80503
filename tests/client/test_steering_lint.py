# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `bpferry check` says of RSS and vhost, by QEMU, by host, and by what a document says."""

from pathlib import Path
from typing import Final

import pytest

from bpferry.domain.document import read_bytes
from bpferry.machine.faults import Fault
from bpferry.machine.lint import find_faults
from bpferry.steering.plan import HostFacts
from tests.support.golden import capabilities_of

VHOST: Final = HostFacts(kvm=True, vhost={"/dev/vhost-net": ""})
CLOSED: Final = HostFacts(kvm=True, vhost={"/dev/vhost-net": "cannot open '/dev/vhost-net': no"})
BARE: Final = HostFacts(vhost=CLOSED.vhost)

BOTH: Final = "use a QEMU of version 9.0 to 10.0 that was built with libbpf, which has both"
NEWER: Final = "use a QEMU of version 9.0 or later that was built with libbpf"

TOML: Final = 'name = "x"\nmemory = "64 MiB"\nvcpus = 4\n[[cards]]\nbridge = "br0"\n'
XML: Final = """\
<domain type='kvm'>
  <name>x</name>
  <memory unit='MiB'>64</memory>
  <vcpu>4</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <interface type='bridge'>
      <source bridge='br0'/>
      <model type='{model}'/>
      {driver}
    </interface>
  </devices>
</domain>
"""


def of_toml(lines: str, qemu: str, host: HostFacts) -> list[Fault]:
    """Return what there is to say against a card that says *lines*."""
    machine = read_bytes((TOML + lines).encode(), Path("/vm.toml")).machine
    return list(find_faults(machine, capabilities_of(qemu), host, kind="toml"))


def of_xml(driver: str, qemu: str, host: HostFacts, model: str = "virtio") -> list[Fault]:
    """Return what there is to say against a card with *driver*."""
    text = XML.format(driver=driver, model=model)
    machine = read_bytes(text.encode(), Path("/vm.xml")).machine
    return list(find_faults(machine, capabilities_of(qemu), host, kind="xml"))


@pytest.mark.parametrize(
    ("driver", "qemu", "host", "line"),
    [
        ("<driver queues='4'/>", "10.0.13", VHOST, "<driver queues='4' rss='on'/>"),
        (
            "<driver name='vhost' queues='4'/>",
            "10.0.2",
            VHOST,
            "<driver name='vhost' queues='4' rss='on'/>",
        ),
        (
            "<driver name='qemu' queues='4' rx_queue_size='512'><host gso='off'/></driver>",
            "11.1.3",
            VHOST,
            "<driver name='qemu' queues='4' rss='on' rx_queue_size='512'>",
        ),
        ("<driver queues='2'/>", "11.1.3", CLOSED, "<driver queues='2' rss='on'/>"),
        ("<driver queues='2'/>", "7.2", BARE, "<driver queues='2' rss='on'/>"),
    ],
)
def test_queues_of_which_nothing_is_said(
    driver: str, qemu: str, host: HostFacts, line: str
) -> None:
    """As virt-install writes them: the note has the very line, where that costs nothing."""
    (fault,) = of_xml(driver, qemu, host)

    assert ("cards[0].queues", "note") == (fault.key, fault.level)
    assert fault.message.endswith(" queues without RSS")
    assert "costs vhost" not in fault.cause
    assert f"write {line}" == fault.fix


@pytest.mark.parametrize("qemu", ["7.2", "11.1.3"])
@pytest.mark.parametrize("name", ["", "name='vhost' "])
def test_queues_of_which_nothing_is_said_and_rss_would_cost_vhost(qemu: str, name: str) -> None:
    """The note says what it would cost, and which QEMU has both."""
    (fault,) = of_xml(f"<driver {name}queues='4'/>", qemu, VHOST)

    assert "note" == fault.level
    assert "on this QEMU, RSS costs vhost: all 4 queues are then served by QEMU's" in fault.cause
    assert f"{BOTH}, and write <driver {name}queues='4' rss='on'/>" == fault.fix


def test_queues_of_which_nothing_is_said_in_toml() -> None:
    """In the native form that is so only where the VM says it; the line is another."""
    machine = read_bytes(
        f"default-rss = false\n{TOML}queues = 4\n".encode(), Path("/vm.toml")
    ).machine
    (fault,) = find_faults(machine, capabilities_of("10.0.13"), VHOST)

    assert "write rss = true" == fault.fix


@pytest.mark.parametrize("driver", ["queues='4' rss='off'", "queues='1'", "queues='4' rss='on'"])
def test_card_that_says_it_or_needs_none(driver: str) -> None:
    """A user who says that there is no RSS is not told how to get it."""
    assert [] == of_xml(f"<driver {driver}/>", "10.0.13", VHOST)


def test_rss_that_the_card_cannot_have() -> None:
    """A card that is not a virtio card has no RSS to write down."""
    assert [] == of_xml("<driver queues='4'/>", "10.0.13", VHOST, model="e1000")


@pytest.mark.parametrize(
    ("qemu", "host", "expected"),
    [
        ("10.0.13", VHOST, []),
        ("11.1.3", BARE, []),
        ("7.2", BARE, [("no eBPF steering, QEMU steers in user space: ", NEWER)]),
        (
            "7.2",
            VHOST,
            [
                ("no eBPF steering, QEMU steers in user space: ", NEWER),
                ("vhost is given up for RSS: ", f"{BOTH}; or leave 'rss' out to keep vhost"),
            ],
        ),
        (
            "11.1.3",
            VHOST,
            [("vhost is given up for RSS: ", f"{BOTH}; or leave 'rss' out to keep vhost")],
        ),
    ],
)
@pytest.mark.parametrize("form", ["toml", "xml"])
def test_rss_that_is_asked_for(
    form: str, qemu: str, host: HostFacts, expected: list[tuple[str, str]]
) -> None:
    """What a run would warn of is a warning of the check, in the same words."""
    if form == "toml":
        found = of_toml("queues = 4\nrss = true", qemu, host)
    else:
        found = of_xml("<driver queues='4' rss='on'/>", qemu, host)

    for (start, hint), fault in zip(expected, found, strict=True):
        assert ("cards[0].rss", "warning", hint) == (fault.key, fault.level, fault.fix)
        assert fault.message.startswith(start)


@pytest.mark.parametrize(
    ("qemu", "host", "words", "fix"),
    [
        ("7.2", BARE, "4 queues: RSS without eBPF: QEMU steers in user space", NEWER),
        (
            "7.2",
            VHOST,
            "4 queues: no RSS, since it would cost vhost",
            f"{BOTH}; or write rss = true, for RSS without vhost",
        ),
        (
            "11.1.3",
            VHOST,
            "4 queues: no RSS, since it would cost vhost",
            f"{BOTH}; or write rss = true, for RSS without vhost",
        ),
    ],
)
def test_rss_by_default_that_is_less(qemu: str, host: HostFacts, words: str, fix: str) -> None:
    """Less than RSS by eBPF is a note, since nobody asked for that."""
    (fault,) = of_toml("queues = 4", qemu, host)

    assert ("cards[0].queues", "note", words, fix) == (
        fault.key,
        fault.level,
        fault.message,
        fault.fix,
    )
    assert fault.cause


def test_rss_by_default_beside_vhost_by_name() -> None:
    """With the driver's name, the line alone would be refused."""
    (of_native,) = of_toml('queues = 4\ndriver = "vhost"', "11.1.3", VHOST)
    top = "<metadata><b:vm xmlns:b='https://bpferry.org/schemas/domain/1.0' default-rss='yes'/>"
    text = XML.replace("  <vcpu>", f"  {top}</metadata><vcpu>")
    machine = read_bytes(
        text.format(driver="<driver name='vhost' queues='4'/>", model="virtio").encode(),
        Path("/vm.xml"),
    ).machine
    (of_libvirt,) = find_faults(machine, capabilities_of("11.1.3"), VHOST, kind="xml")

    alone = "for RSS without vhost"
    assert f"{BOTH}; or leave 'driver' out and write rss = true, {alone}" == of_native.fix
    assert f"{BOTH}; or write <driver queues='4' rss='on'/>, {alone}" == of_libvirt.fix


@pytest.mark.parametrize(("qemu", "host"), [("10.0.2", VHOST), ("11.1.3", CLOSED)])
def test_rss_by_default_that_is_all(qemu: str, host: HostFacts) -> None:
    """Where eBPF steers, there is nothing to say."""
    assert [] == of_toml("queues = 4", qemu, host)


def test_vhost_by_name_on_a_card_without_virtio() -> None:
    """A card that goes without vhost is told so, with or without a tap."""
    (fault,) = of_toml('model = "e1000"\ndriver = "vhost"', "10.0.13", CLOSED)

    assert ("cards[0].driver", "warning") == (fault.key, fault.level)
    assert "goes without it" in fault.message


def test_card_that_is_refused_is_told_elsewhere() -> None:
    """What cannot be planned is among what is not supported."""
    assert [] == of_xml("<driver name='vhost' queues='4' rss='on'/>", "11.1.3", VHOST)


def test_same_place_is_told_once() -> None:
    """What the description alone says against a place is not said again by the plan."""
    assert ["cards[0].rss"] == [fault.key for fault in of_toml("rss = true", "10.0.13", BARE)]
    assert ["cards[0].rss-hash-report"] == [
        fault.key
        for fault in of_toml("queues = 4\nrss = true\nrss-hash-report = true", "10.0.13", VHOST)
    ]
