# SPDX-License-Identifier: LGPL-2.1-or-later
"""The limits of a tap: which apply, what the kernel is told, and what it cannot do.

What a policer then does needs a kernel that has one: see tests/vm.
"""

import errno
import json
import struct
import subprocess
from typing import Any

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.policy.rules import Port
from bpferry_helper.tap import bandwidth
from bpferry_helper.tap.bandwidth import effective
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.maker import Order
from bpferry_helper.tap.marks import Holder, as_ours, write_alias
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code
from bpferry_wire.messages import Bandwidth, Rate
from tests.helper.tap.own_host import PLAIN, Host, on_own_host, order

MEGABYTE = 10**6
MOST = Bandwidth(inbound=Rate(MEGABYTE), outbound=Rate(2 * MEGABYTE))
SLOW = Rate(1000)


@pytest.mark.parametrize(
    ("asked", "most", "expected"),
    [
        (Bandwidth(), Bandwidth(), Bandwidth()),
        (Bandwidth(), MOST, MOST),
        (Bandwidth(SLOW), Bandwidth(), Bandwidth(SLOW)),
        (Bandwidth(SLOW), MOST, Bandwidth(SLOW, MOST.outbound)),
        (Bandwidth(outbound=Rate(2 * MEGABYTE)), MOST, MOST),
        (Bandwidth(Rate(1000, peak=2**32 - 1)), MOST, Bandwidth(Rate(1000, 2**32 - 1), MOST[1])),
    ],
    ids=["none", "the policy's", "the request's", "one of each", "the bound itself", "any peak"],
)
def test_which_limits_a_tap_has(asked: Bandwidth, most: Bandwidth, expected: Bandwidth) -> None:
    """Those asked for; where none is, the most that policy allows."""
    assert expected == effective(asked, most, "br0")


def test_more_than_policy_allows_is_refused_with_both_values() -> None:
    """And with the line that would have to change."""
    with pytest.raises(RequestError) as caught:
        effective(Bandwidth(inbound=Rate(MEGABYTE + 1)), MOST, "br0")

    assert caught.value.code == Code.REFUSED
    assert "with inbound 8.000008 Mbit/s: policy allows 8 Mbit/s" in str(caught.value)
    assert "raises 'bandwidth' in the policy to 8.000008 Mbit/s" in caught.value.hint


def test_a_burst_longer_than_a_second_is_refused_with_both_values() -> None:
    """It would be a way around the limit: a burst of 4 GB lasts for hours at this rate."""
    effective(Bandwidth(Rate(1000, burst=MEGABYTE)), MOST, "br0")
    with pytest.raises(RequestError) as caught:
        effective(Bandwidth(Rate(1000, burst=MEGABYTE + 1)), MOST, "br0")

    assert "a burst of 1000001 bytes: policy allows 1000000" in str(caught.value)


# -- What the kernel is told


def encoded(message: Any) -> bytes:  # noqa: ANN401 - pyroute2 has no types
    """Return the bytes of *message* behind its header."""
    message.encode()
    return bytes(message.data)[16:]


def attribute(kind: int, value: bytes) -> bytes:
    """Return struct nlattr of linux/netlink.h with *value*, padded."""
    return (struct.pack("=HH", len(value) + 4, kind) + value).ljust((len(value) + 7) & ~3, b"\0")


def tcmsg(handle: int, parent: int, info: int = 0) -> bytes:
    """Return struct tcmsg of linux/rtnetlink.h for the interface 9."""
    return struct.pack("=BxxxiIII", 0, 9, handle, parent, info)


def ratespec(rate: int) -> bytes:
    """Return struct tc_ratespec: any cell size, Ethernet, the rate."""
    return struct.pack("=BBHhHI", 9, 1, 0, 0, 0, rate)


@pytest.mark.parametrize(
    ("rate", "rates", "waiting", "burst", "peak_burst"),
    [
        (Rate(50_000_000), (50_000_000, 0), 2 * 2**20, 5_000_000, None),
        (Rate(1000), (1000, 0), 131_072, 131_072, None),
        (Rate(4_000_000, burst=200_000), (4_000_000, 0), 400_000, 200_000, None),
        (Rate(1000, 20_000_000), (1000, 20_000_000), 131_072, 131_072, 200_000),
        (Rate(4_000_000, 1000, 999_999), (1000, 0), 131_072, 131_072, None),
    ],
    ids=["fast", "slow", "with a burst", "with a peak", "with a peak below the average"],
)
def test_the_message_about_what_a_vm_gets(
    rate: Rate, rates: tuple[int, int], waiting: int, burst: int, peak_burst: int | None
) -> None:
    """A token bucket at the root, whose queue is bounded whatever was asked for."""
    options = attribute(1, b"".join(map(ratespec, rates)) + struct.pack("=III", waiting, 0, 0))
    options += attribute(6, struct.pack("=I", burst))
    options += attribute(7, struct.pack("=I", peak_burst)) if peak_burst else b""
    expected = tcmsg(0x10000, 0xFFFFFFFF) + attribute(1, b"tbf\0") + attribute(2, options)

    assert expected == encoded(bandwidth.inbound_message(9, rate))


@pytest.mark.parametrize(
    ("rate", "rates", "ticks", "largest"),
    [
        (Rate(4_000_000, burst=200_000), (4_000_000, 0), 781_250, 200_000),
        (Rate(4_000_000, 5_000_000), (4_000_000, 5_000_000), 1_562_500, 131_072),
        (Rate(1000, burst=2**32 - 1), (1000, 0), 2**32 - 1, 2**32 - 1),
    ],
    ids=["with a burst", "with a peak", "with a burst of weeks"],
)
def test_the_messages_about_what_a_vm_sends(
    rate: Rate, rates: tuple[int, int], ticks: int, largest: int
) -> None:
    """An ingress, and a filter for every frame with a policer that drops; a tick is 64 ns."""
    police = struct.pack("=IiIII", 0, 2, 0, ticks, largest)
    police += b"".join(map(ratespec, rates)) + bytes(12)
    options = attribute(1, police) + attribute(2, bytes(1024))
    options += attribute(3, bytes(1024)) if rates[1] else b""
    action = attribute(1, b"police\0") + attribute(2, options)
    matchall = attribute(2, attribute(2, attribute(1, action)))
    info = struct.unpack("=I", struct.pack("<I", 0x0001_0300))[0]
    ingress = tcmsg(0xFFFF0000, 0xFFFFFFF1) + attribute(1, b"ingress\0")

    assert ingress == encoded(bandwidth.ingress_message(9))
    assert tcmsg(0, 0xFFFF0000, info) + attribute(1, b"matchall\0") + matchall == encoded(
        bandwidth.outbound_message(9, rate)
    )


# -- On a host


def limited(limits: Bandwidth, port: Port = PLAIN, *, stays: bool = False) -> Order:
    """Return the order for a tap with *limits*."""
    plain = order(stays=stays, port=port)
    return plain._replace(wanted=plain.wanted._replace(bandwidth=limits))


def rates_of(host: Host, name: str) -> list[int]:
    """Return the rates that tc shows at the root of the tap *name* on *host*."""
    with host.netlink.namespace() as there:
        inside = ("nsenter", f"--net=/proc/self/fd/{there.borrow()}")
        command = (*inside, "tc", "-json", "qdisc", "show", "dev", name)
        shown = subprocess.run(
            command, capture_output=True, check=True, pass_fds=[there.borrow()]
        ).stdout
    return [one["options"]["rate"] for one in json.loads(shown) if one["kind"] == "tbf"]


@pytest.mark.privileged
@pytest.mark.parametrize("spares", [0, 2], ids=["made at once", "a spare"])
@pytest.mark.parametrize("stays", [False, True], ids=["goes", "stays"])
def test_a_tap_has_its_limit_before_it_is_handed_over(spares: int, *, stays: bool) -> None:
    """As tc shows it; the next tap, which has none, has none."""

    def act(host: Host) -> list[Any]:
        seen = []
        for limits in (Bandwidth(Rate(MEGABYTE)), Bandwidth()) * 2:
            made = host.make(limited(limits, stays=stays))
            seen.append(rates_of(host, made.name))
            made.fds.close()
        return seen

    assert [[MEGABYTE], [], [MEGABYTE], []] == on_own_host(act, spares=spares)


@pytest.mark.privileged
def test_the_policy_s_limit_is_set_where_none_is_asked_for() -> None:
    """A port with a limit needs no request."""

    def act(host: Host) -> list[int]:
        made = host.make(order(port=Port(bandwidth=Bandwidth(Rate(MEGABYTE)))))
        return rates_of(host, made.name)

    assert [MEGABYTE] == on_own_host(act)


@pytest.mark.privileged
@pytest.mark.parametrize(
    ("method", "limits", "modules"),
    [
        ("limit_inbound", Bandwidth(SLOW), "sch_tbf"),
        ("limit_outbound", Bandwidth(None, SLOW), "sch_ingress cls_matchall act_police"),
    ],
)
def test_a_kernel_without_the_modules_makes_no_tap(
    monkeypatch: pytest.MonkeyPatch, method: str, limits: Bandwidth, modules: str
) -> None:
    """The answer names them; nothing is left."""

    def fail(*_: object) -> None:
        raise LinkError("cannot limit it", errno.ENOENT)

    monkeypatch.setattr(Links, method, fail)

    def act(host: Host) -> tuple[Code, str, str, bool]:
        before = host.left()
        try:
            host.make(limited(limits))
        except RequestError as error:
            return error.code, str(error), error.hint, before == host.left()
        raise AssertionError

    code, message, hint, nothing_left = on_own_host(act)

    assert (Code.UNSUPPORTED, True) == (code, nothing_left)
    assert f"without {modules}" in message
    assert f"modprobe -a {modules};" in hint


# -- What the alias keeps


@pytest.mark.privileged
def test_the_alias_tells_the_limits_again() -> None:
    """It is what lists and status show."""

    def act(host: Host) -> list[tuple[int, int]]:
        seen = []
        for inbound, outbound in ((1000, 2000), (0, 2000), (1000, 0)):
            holder = Holder(uid=1, pid=1, since_s=1, inbound=inbound, outbound=outbound)
            made = host.make(order()._replace(alias=write_alias(holder)))
            found = host.links.find(made.name)
            assert found is not None
            ours = as_ours(found)
            assert ours is not None
            seen.append((ours.holder.inbound, ours.holder.outbound))
        return seen

    assert [(1000, 2000), (0, 2000), (1000, 0)] == on_own_host(act)
