# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client calls its VM is shown to the administrator, and can be used for nothing else."""

import re
from typing import Final

import pytest

from bpferry_helper.log import log
from bpferry_helper.tap import marks
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.marks import MAX_ALIAS_BYTES, Holder, OurTap, as_ours, write_alias
from bpferry_wire import channel
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, Hello
from bpferry_wire.packets import decode_reply
from bpferry_wire.vm_names import clean_vm_name
from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.packets import packed, tap
from tests.support.people import ALICE, BOB, ask_once, connect
from tests.support.tap_process import granted, running_tap_helper, tap_on

MAC: Final = "52:54:00:01:02:03"
CARD: Final = bytes.fromhex(MAC.replace(":", ""))
ALICES: Final = Holder(ALICE.uid, 1, 1, queues=2)
LONGEST: Final = Holder(
    *(2**32 - 1, 2**22, 2**40, MAC),
    queues=256,
    groups=(2**32 - 1,) * 8,
    vlan=4094,
    inbound=2**32 - 1,
    outbound=2**32 - 1,
)
"""Of a tap that stays."""
FULL: Final = LONGEST._replace(groups=(), vlan=0)
"""Of a tap that goes with its VM, which is all that bpferry names the VM of."""

FORGED: Final = {
    "closed": "web closed",
    "another line": "web\n<0>root: all is well",
    "another column": "web  at most 8 Mbit/s to the VM",
    "a terminal's code": "web\x1b[2J",
    "half an alias": "web'); bpferry uid=0",
}


def read(holder: Holder) -> OurTap | None:
    """Return what the alias of *holder* says of a tap."""
    alias = write_alias(holder)
    return as_ours(Link(1, "bft0123456789ab", "tun", 2, mtu=1500, address="", alias=alias))


@pytest.mark.privileged
def test_a_forged_name_is_no_request() -> None:
    """Whoever sends it gets no tap, and the journal has no line but that."""
    with running_tap_helper() as helper:
        for name in FORGED.values():
            with connect(helper.path, ALICE) as sock:
                channel.send(sock, packed({"v": 1, **tap(vm=name)}))
                received = channel.receive(sock)
            reply = decode_reply(received.data, Hello())
            assert isinstance(reply, ErrorReply)
            assert (Code.BAD_REQUEST, 0) == (reply.code, len(received.fds))
        left, told = helper.granted_taps(), helper.log().splitlines()

    assert [] == left
    lines = [line for line in told if "VM" in line or "web" in line or "all is well" in line]
    assert [] == lines
    assert len(FORGED) == sum("bad-request for uid" in line for line in told)


def test_without_the_check_it_would_change_what_the_alias_says() -> None:
    """The control: a tap that is closed, or that is nobody's and so counts for no quota."""
    closed, others = FORGED["closed"], [name for key, name in FORGED.items() if key != "closed"]
    honest, forged = read(ALICES._replace(vm="web")), read(ALICES._replace(vm=closed))

    assert honest == OurTap(honest.link, ALICES._replace(vm="web")) if honest else False
    assert forged is not None
    assert forged.holder.is_closed
    assert [None] * len(others) == [read(ALICES._replace(vm=name)) for name in others]


@pytest.mark.parametrize("name", FORGED.values(), ids=FORGED)
def test_a_name_that_is_cleaned_is_only_a_name(name: str) -> None:
    """As a client of ours does it, for a VM that is called so by accident."""
    holder = ALICES._replace(vm=clean_vm_name(name))
    tap = read(holder)

    assert tap is not None
    assert holder == tap.holder


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_longest_name_fits_beside_all_that_a_tap_of_a_vm_has(is_closed: bool) -> None:  # noqa: FBT001 - a parameter
    """In as many bytes as the kernel takes."""
    holder = FULL._replace(vm="v" * 32, is_closed=is_closed)
    tap = read(holder)

    assert tap is not None
    assert holder == tap.holder
    assert len(write_alias(holder)) <= MAX_ALIAS_BYTES


def test_a_name_without_room_is_left_out() -> None:
    """All else is there to the letter, and a name that fits just so stays when it is closed."""
    length = len(write_alias(LONGEST._replace(is_closed=True)))
    room = MAX_ALIAS_BYTES - length - len(" vm=")
    aliases = {
        vm: [write_alias(LONGEST._replace(vm=vm, is_closed=closed)) for closed in (False, True)]
        for vm in ("v" * room, "v" * (room + 1), "")
    }

    assert (228, 22) == (length, room)
    assert aliases["v" * (room + 1)] == aliases[""]
    assert [f" vm={'v' * room}", f" vm={'v' * room} closed"] == [
        re.sub(".*groups=[0-9,]*", "", alias) for alias in aliases["v" * room]
    ]
    assert MAX_ALIAS_BYTES == max(len(alias) for some in aliases.values() for alias in some)


@pytest.mark.privileged
@pytest.mark.parametrize("length", [MAX_ALIAS_BYTES, MAX_ALIAS_BYTES + 1])
def test_the_kernel_takes_the_longest_alias_and_none_that_is_longer(length: int) -> None:
    """Which is why no more is written."""
    alias = write_alias(LONGEST._replace(vm="v" * 22, is_closed=True)).ljust(length)

    def act(host: Host) -> str:
        try:
            made = host.make(order()._replace(alias=alias))
        except Exception as error:  # noqa: BLE001 - whatever it is, its name is compared
            return type(error).__name__
        with made.fds:
            (link,) = (tap for tap in host.links.taps(("bft",)) if tap.name == made.name)
            return link.alias

    assert (alias if length == MAX_ALIAS_BYTES else "RequestError") == on_own_host(act)


@pytest.mark.privileged
def test_what_others_call_their_vms_is_not_told() -> None:
    """Who asks for the address of their card hears whose it is; its owner also for which VM."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on(mac=CARD, vm="secret"))
        with fds:
            told = [ask_once(helper.path, tap_on(mac=CARD), who).reply for who in (ALICE, BOB)]
    messages = [reply.message for reply in told if isinstance(reply, ErrorReply)]

    assert [True, False] == ["secret" in message for message in messages]
    assert "(VM 'secret') there is for a card with that address" in messages[0]


def test_the_pattern_of_an_alias_is_that_of_the_wire() -> None:
    """So that a tap never has a name that the next helper does not read."""
    for name in ("web", "-", "..", "v" * 32):
        assert name == clean_vm_name(name)
        assert marks.ALIAS.fullmatch(write_alias(ALICES._replace(vm=name)))


def test_a_line_of_the_journal_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Even if a name got past the wire."""
    log(6, f"granted to uid 7 (pid 1, VM '{FORGED['another line']}')")

    assert 1 == len(capfd.readouterr().err.splitlines())
