# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind cards: each step made to fail, and what was obtained before is given back."""

import contextlib
import errno
import fcntl
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import BpferryError, HelperError, NoHelper, Refused, TapError
from bpferry.machine.card_fds import Helpers
from bpferry.machine.draft import draft
from bpferry.machine.preparation import Prepared, prepare
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.network.vhost import VHOST_GET_FEATURES
from bpferry.steering.plan import Rung
from bpferry_wire.errors import Code
from bpferry_wire.messages import Request, Tap, TapReply
from tests.client import fake_helper as fake
from tests.client import taps
from tests.client.support import Record

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

XML = """<domain type='qemu'>
  <name>t</name><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/>
      <source bridge='br0'/>
      <model type='virtio'/>
      <driver queues='4' rss='on'/>
    </interface>
    <interface type='network'>
      <mac address='52:54:00:00:00:02'/>
      <source network='lan' portgroup='guests'/>
      <model type='virtio'/>{driver}
      <port isolated='yes'/>
      <mtu size='1400'/>
    </interface>{more}
  </devices>
</domain>
"""
FIRST = "'{folder}/vm.xml':6: '/domain/devices/interface[1]': "
SECOND = "'{folder}/vm.xml':12: '/domain/devices/interface[2]': "
LISTEN = "<serial type='unix'><source mode='bind' path='/proc/no/such/place'/></serial>"
OTHER = "bft00000002"


@pytest.fixture
def gives(namespace: str) -> tuple[fake.Behaviour, fake.Behaviour]:
    """Return what gives the first card its tap, and the second one its own."""
    return (
        fake.gives_tap(taps.made(namespace, 4), TapReply(taps.NAME, "br0", 9000)),
        fake.gives_tap(taps.made(namespace, 1, name=OTHER), TapReply(OTHER, "virbr0", 1500)),
    )


def serve(folder: Path, *behaviours: fake.Behaviour) -> contextlib.AbstractContextManager[str]:
    """Answer each question about a tap as the next of *behaviours* does."""
    return fake.helper(folder / "tap.sock", fake.in_turn(*behaviours))


def grants_sets(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Be a helper that loads what is asked for."""
    return fake.helper(folder / "bpf.sock", fake.grants())


@contextlib.contextmanager
def prepared(
    folder: Path, *, driver: str = "", more: str = "", require_ebpf: bool = False
) -> Iterator[tuple[Prepared, Record]]:
    """Prepare the VM with two cards as `bpferry run` does."""
    record = Record()
    text = XML.format(driver=driver, more=more)
    document = read_bytes(text.encode(), folder / "vm.xml")
    found = draft(document, record, require_ebpf=require_ebpf)
    with (
        Helpers(
            BpfHelper(str(folder / "bpf.sock")), TapHelper(str(folder / "tap.sock"))
        ) as helpers,
        prepare(found, helpers, record) as opened,
    ):
        yield opened, record


LOCKS = 2
"""Files by which the VM's name is taken."""

MONITORS = 1
"""The socket at which the user's own tools can connect; our monitor is not counted."""

Gives = tuple[fake.Behaviour, fake.Behaviour]


def test_cards_have_what_they_need(tmp_path: Path, gives: Gives, namespace: str) -> None:
    """Each card has its tap, and the first its set too; what was asked is what was shown."""
    asked: list[Request] = []
    first, second = (fake.keeps(asked, give) for give in gives)
    with (
        serve(tmp_path, first, second),
        grants_sets(tmp_path),
        prepared(tmp_path) as (opened, record),
    ):
        assert [(taps.NAME, "br0", 9000, 4), (OTHER, "virbr0", 1500, 1)] == [
            (tap.interface, tap.bridge, tap.mtu, tap.queues) for tap in opened.taps.values()
        ]
        assert len(opened.pass_fds) == len(set(opened.pass_fds)) == 4 + 1 + 4 + 1 + LOCKS + MONITORS
        assert {taps.NAME, OTHER} == set(taps.in_namespace(namespace))
        assert [
            "asking the helper for a tap on bridge 'br0' for 'net0'",
            "asking the helper for a tap on network 'lan/guests' for 'net1'",
            "asking the helper for the eBPF set of 'net0'",
        ] == record.texts("progress")[-3:]

    assert [
        Tap("br0", False, 4, None, bytes.fromhex("525400000001"), vm="t"),  # noqa: FBT003
        Tap(
            *("lan/guests", True, 1, 1400, bytes.fromhex("525400000002")),
            isolated=True,
            vm="t",
        ),
    ] == asked
    assert [] == taps.in_namespace(namespace)


def fails(
    folder: Path,
    kind: type[BpferryError],
    *,
    driver: str = "",
    more: str = "",
    require_ebpf: bool = False,
) -> BpferryError:
    """Prepare the VM, which fails, and return how."""
    with (
        pytest.raises(kind) as caught,
        prepared(folder, driver=driver, more=more, require_ebpf=require_ebpf),
    ):
        pass
    return caught.value


def test_no_helper_for_taps(tmp_path: Path) -> None:
    """Without the tap helper there is no VM: status 5, the hint, and the card's place."""
    error = fails(tmp_path, NoHelper)

    assert error.status == 5
    assert error.message.startswith(FIRST.format(folder=tmp_path) + "cannot connect to the helper")
    assert "systemctl status bpferry-tap.socket" in error.hint
    assert "; or name a tap that is there and yours: <interface type='ethernet'> with" in error.hint
    assert error.element == "/domain/devices/interface[1]"


def test_first_tap_is_refused(tmp_path: Path, gives: Gives, namespace: str) -> None:
    """A refusal has the policy's line, the hint, and the card's place; nothing else is asked."""
    line = "uid 1001 may not use the bridge 'br0': /etc/bpferry/policy.toml:12 (groups.bpferry)"
    asked: list[Request] = []
    with serve(tmp_path, fake.keeps(asked, fake.refuses(Code.REFUSED, line)), gives[1]):
        error = fails(tmp_path, Refused)

    assert (4, "refused", "what to do", "/domain/devices/interface[1]") == (
        error.status,
        error.code,
        error.hint,
        error.element,
    )
    assert error.message == f"{FIRST.format(folder=tmp_path)}the helper refused: {line}"
    assert len(asked) == 1
    assert [] == taps.in_namespace(namespace)


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        (fake.refuses(Code.QUOTA, "all 16 taps are held"), Refused, "all 16 taps are held"),
        (
            fake.refuses(Code.REFUSED, "the MTU of 'virbr0' is 1280, and 1400 is asked for"),
            Refused,
            "the helper refused: the MTU of 'virbr0' is 1280, and 1400 is asked for",
        ),
        (fake.refuses(Code.FAILED, "gone"), HelperError, "the helper refused: gone"),
        (fake.replies(TapReply(OTHER, "virbr0", 1280)), HelperError, "invalid reply"),
        (fake.replies(TapReply(OTHER, "virbr0", 1500)), HelperError, "0 fds for a tap with 1"),
        (fake.sends(b"x"), HelperError, "invalid reply"),
    ],
    ids=["quota", "mtu", "failed", "less-mtu", "no-fds", "garbage"],
)
def test_second_tap_fails(  # noqa: PLR0917 - a table
    behaviour: fake.Behaviour,
    kind: type[BpferryError],
    words: str,
    tmp_path: Path,
    gives: Gives,
    namespace: str,
) -> None:
    """When the second card gets no tap, the first one's goes back; the error names the second."""
    with serve(tmp_path, gives[0], behaviour):
        error = fails(tmp_path, kind)

        assert error.message.startswith(SECOND.format(folder=tmp_path))
        assert words in error.message
        assert [] == taps.in_namespace(namespace)


def test_interrupted_while_asking(tmp_path: Path, gives: Gives, namespace: str) -> None:
    """Ctrl-C while the second tap is awaited gives the first one back."""
    timer = threading.Timer(3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    with serve(tmp_path, gives[0], fake.keeps_silent):
        timer.start()
        with pytest.raises(KeyboardInterrupt), prepared(tmp_path):
            pass
        timer.join()

        assert [] == taps.in_namespace(namespace)


def test_second_set_fails(tmp_path: Path, namespace: str) -> None:
    """Where eBPF is demanded and the second set is refused, the taps and the first set go back."""
    tap = taps.made(namespace, 2, name=OTHER)
    gives = (
        fake.gives_tap(taps.made(namespace, 4), TapReply(taps.NAME, "br0", 9000)),
        fake.gives_tap(tap, TapReply(OTHER, "virbr0", 1500)),
    )
    sets = fake.in_turn(fake.grants(), fake.refuses(Code.QUOTA, "all sets are held"))
    driver = "<driver queues='2' rss='on'/>"
    with serve(tmp_path, *gives), fake.helper(tmp_path / "bpf.sock", sets):
        error = fails(tmp_path, Refused, driver=driver, require_ebpf=True)

        assert error.message.startswith(SECOND.format(folder=tmp_path))
        assert "the helper refused: all sets are held" in error.message
        assert [] == taps.in_namespace(namespace)


def test_no_set_is_not_a_reason_to_give_up(tmp_path: Path, gives: Gives) -> None:
    """Where eBPF is not demanded, the card keeps its tap, and QEMU steers."""
    with serve(tmp_path, *gives), prepared(tmp_path) as (opened, _):
        assert ["net0", "net1"] == list(opened.taps)
        assert [Rung.QEMU, Rung.NONE] == [plan.rung for plan in opened.plans.values()]


VHOST = "<driver name='vhost'/>"


def test_vhost_fails(
    tmp_path: Path, gives: Gives, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where vhost is asked for by name, and its device stops working, taps and sets go back."""
    ioctl = fcntl.ioctl
    answers = iter([bytes(8)])

    def once(fd: int, code: int, argument: bytes) -> bytes:
        if code != VHOST_GET_FEATURES:
            return ioctl(fd, code, argument)
        try:
            return next(answers)
        except StopIteration:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY)) from None

    monkeypatch.setattr(fcntl, "ioctl", once)
    driver = f"{VHOST}<backend vhost='/dev/null'/>"
    with serve(tmp_path, *gives), grants_sets(tmp_path):
        error = fails(tmp_path, BpferryError, driver=driver)

        assert error.message.startswith(f"{SECOND.format(folder=tmp_path)}cannot use '/dev/null'")
        assert [] == taps.in_namespace(namespace)


def test_vhost_for_each_queue(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card with vhost has one vhost fd for each queue, in the order of its queues."""
    ioctl = fcntl.ioctl
    monkeypatch.setattr(
        fcntl,
        "ioctl",
        # No machine of ours has vhost-net: /dev/null answers in its place.
        lambda fd, code, *rest: bytes(8) if code == VHOST_GET_FEATURES else ioctl(fd, code, *rest),
    )
    gives = (
        fake.gives_tap(taps.made(namespace, 4), TapReply(taps.NAME, "br0", 9000)),
        fake.gives_tap(taps.made(namespace, 3, name=OTHER), TapReply(OTHER, "virbr0", 1500)),
    )
    driver = "<driver name='vhost' queues='3'/><backend vhost='/dev/null'/>"
    with serve(tmp_path, *gives), grants_sets(tmp_path), prepared(tmp_path, driver=driver) as found:
        argv = " ".join(found[0].argv)
        numbers = re.search(r'"vhostfds":"([0-9:]+)"', argv)
        assert numbers is not None
        links = [
            str(Path(f"/proc/self/fd/{number}").readlink()) for number in numbers[1].split(":")
        ]

    assert ["/dev/null"] * 3 == links


def test_socket_fails(tmp_path: Path, gives: Gives, namespace: str) -> None:
    """What fails after the cards gives back what the cards had."""
    with serve(tmp_path, *gives), grants_sets(tmp_path):
        fails(tmp_path, BpferryError, more=LISTEN)

        assert [] == taps.in_namespace(namespace)


def test_tap_that_does_not_exist_has_its_place(tmp_path: Path) -> None:
    """An existing tap that cannot be opened is an error with its card's place too."""
    text = XML[: XML.index("    <interface type='bridge'>")] + (
        "    <interface type='ethernet'><target dev='nosuch0' managed='no'/>"
        "<model type='virtio'/></interface>\n  </devices>\n</domain>\n"
    )
    record = Record()
    found = draft(read_bytes(text.encode(), tmp_path / "vm.xml"), record)
    with (
        Helpers(BpfHelper(), TapHelper()) as helpers,
        pytest.raises(TapError) as caught,
        prepare(found, helpers, record),
    ):
        pass

    assert caught.value.message == (
        f"'{tmp_path}/vm.xml':6: '/domain/devices/interface': "
        "cannot open the tap 'nosuch0': there is no such interface"
    )
