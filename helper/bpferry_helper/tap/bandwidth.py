# SPDX-License-Identifier: LGPL-2.1-or-later
"""The limits of a tap: which ones apply, and the messages that make the kernel keep them.

    inbound    to the VM, the tap's egress: "tbf" lets frames wait, and drops what finds no room
    outbound   from the VM, the tap's ingress, where nothing can wait: "police" drops the rest

Both are set on the tap in the host's network namespace, so changing them needs CAP_NET_ADMIN there.
A move to another namespace removes them (dev_shutdown in net/core/dev.c).

pyroute2's own classes for this import 30 modules, read /proc/net/psched, which the unit hides, and
do not know TCA_TBF_BURST. So the few attributes are listed here, for the same codec.
"""

import socket
import struct
from typing import Any, Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.tap.netlink import load_codec
from bpferry_wire.errors import Code
from bpferry_wire.limits import MIN_BURST
from bpferry_wire.messages import Bandwidth, Rate
from bpferry_wire.rates import rate_in_words

RTM_NEWQDISC: Final = 36
RTM_NEWTFILTER: Final = 44
"""linux/rtnetlink.h."""

TC_H_ROOT: Final = 0xFFFF_FFFF
TC_H_INGRESS: Final = 0xFFFF_FFF1
ROOT_HANDLE: Final = 0x0001_0000
INGRESS_HANDLE: Final = 0xFFFF_0000
TC_LINKLAYER_ETHERNET: Final = 1
TC_ACT_SHOT: Final = 2
TC_RTAB_SIZE: Final = 1024
"""linux/pkt_sched.h, linux/pkt_cls.h and net/sched/sch_api.c."""

EVERY_FRAME: Final = 1 << 16 | socket.htons(0x0003)
"""tcm_info of a filter: its priority, and ETH_P_ALL (linux/if_ether.h)."""

TICK_NS: Final = 64
"""PSCHED_SHIFT of net/pkt_sched.h: the unit of time of a policer's burst."""

MAX_TICKS: Final = 0xFFFF_FFFF

BURST_PARTS: Final = 10
"""A burst that nobody has chosen is what the average lets through in a tenth of a second."""

PEAK_PARTS: Final = 100
"""At a peak, what it lets through in a hundredth of a second may come at once."""

MAX_WAITING: Final = 2 * 2**20
"""Bytes that wait for an inbound limit. With frames of 60 bytes, each of which takes 768 of the
kernel's memory, that is 27 MiB, as much as one queue of a tap can hold."""

CELL_LOG: Final = 9
"""Any but 0: the size of a cell in a table that the kernel demands, but has not read since 3.8."""

RATESPEC: Final = struct.Struct("=BBHhHI")
TBF_QOPT: Final = struct.Struct(f"={RATESPEC.size}s{RATESPEC.size}sIII")
POLICE: Final = struct.Struct(f"=IiIII{RATESPEC.size}s{RATESPEC.size}siiI")
"""struct tc_ratespec, tc_tbf_qopt and tc_police."""

NLMSG: Final = load_codec("ndmsg", "nlmsg")
NLA: Final = load_codec("ndmsg", "nla")


class _Tbf(NLA):  # type: ignore[misc, valid-type] # pyroute2 has no types
    nla_map = (
        (1, "TCA_TBF_PARMS", "cdata"),
        (6, "TCA_TBF_BURST", "uint32"),
        (7, "TCA_TBF_PBURST", "uint32"),
    )


class _Police(NLA):  # type: ignore[misc, valid-type] # as above
    nla_map = (
        (1, "TCA_POLICE_TBF", "cdata"),
        (2, "TCA_POLICE_RATE", "cdata"),
        (3, "TCA_POLICE_PEAKRATE", "cdata"),
    )


class _Action(NLA):  # type: ignore[misc, valid-type] # as above
    nla_map = ((1, "TCA_ACT_KIND", "asciiz"), (2, "TCA_ACT_OPTIONS", "police"))
    police = _Police


class _Actions(NLA):  # type: ignore[misc, valid-type] # as above
    nla_map = ((1, "TCA_ACT_PRIO_1", "action"),)
    action = _Action


class _Matchall(NLA):  # type: ignore[misc, valid-type] # as above
    nla_map = ((2, "TCA_MATCHALL_ACT", "actions"),)
    actions = _Actions


class _TrafficControl(NLMSG):  # type: ignore[misc, valid-type] # as above
    """struct tcmsg, with the options of one kind: TCA_OPTIONS has as many forms as kinds."""

    prefix = "TCA_"
    fields = (
        ("family", "B"),
        ("pad1", "B"),
        ("pad2", "H"),
        ("index", "i"),
        ("handle", "I"),
        ("parent", "I"),
        ("info", "I"),
    )
    nla_map = ((1, "TCA_KIND", "asciiz"), (2, "TCA_OPTIONS", "tbf"), (2, "TCA_FILTER", "matchall"))
    tbf = _Tbf
    matchall = _Matchall


class _Bucket(NamedTuple):
    """A rate as the kernel is told it: bytes per second, and bytes."""

    average: int
    burst: int
    peak: int
    peak_burst: int


def effective(asked: Bandwidth, most: Bandwidth, bridge: str) -> Bandwidth:
    """Return the limits of a tap on *bridge*: as *asked*, else the *most* that policy allows.

    Raises:
        RequestError: policy does not allow as much as was asked for.
    """
    return Bandwidth(
        *(
            _effective(getattr(asked, way), getattr(most, way), f"on '{bridge}' with {way}")
            for way in Bandwidth._fields
        )
    )


def _effective(asked: Rate | None, most: Rate | None, where: str) -> Rate | None:
    if most is None or asked is None:
        return asked or most
    if asked.average > most.average:
        rates = rate_in_words(asked.average), rate_in_words(most.average)
        raise _too_much(where, *rates, rates[0])
    # What passes faster than the average is bounded too, or a burst without end would be no limit.
    burst = max(MIN_BURST, most.average)
    if asked.burst is not None and asked.burst > burst:
        wanted, allowed = f"a burst of {asked.burst} bytes", f"{burst}, a second at its rate"
        raise _too_much(where, wanted, allowed, rate_in_words(asked.burst))
    return asked


def _too_much(where: str, wanted: str, allowed: str, line: str) -> RequestError:
    return RequestError(
        Code.REFUSED,
        f"cannot make a tap {where} {wanted}: policy allows {allowed}",
        f"ask for less, or the administrator raises 'bandwidth' in the policy to {line}",
    )


def inbound_message(index: int, rate: Rate) -> Any:  # noqa: ANN401 - pyroute2 has no types
    """Return the message that limits what goes out of the tap *index* to its VM."""
    bucket = _bucket(rate)
    rates = _ratespec(bucket.average), _ratespec(bucket.peak)
    waiting = min(max(MIN_BURST, bucket.average // BURST_PARTS), MAX_WAITING)
    options: list[tuple[str, Any]] = [
        ("TCA_TBF_PARMS", TBF_QOPT.pack(*rates, waiting, 0, 0)),
        ("TCA_TBF_BURST", bucket.burst),
    ]
    if bucket.peak:
        options.append(("TCA_TBF_PBURST", bucket.peak_burst))
    attributes = [("TCA_KIND", "tbf"), ("TCA_OPTIONS", {"attrs": options})]
    return _message(index, ROOT_HANDLE, TC_H_ROOT, attributes)


def ingress_message(index: int) -> Any:  # noqa: ANN401 - as above
    """Return the message that makes the place for filters of what the tap *index* takes in."""
    return _message(index, INGRESS_HANDLE, TC_H_INGRESS, [("TCA_KIND", "ingress")])


def outbound_message(index: int, rate: Rate) -> Any:  # noqa: ANN401 - as above
    """Return the message that limits what comes from the VM; after that of ``ingress_message``."""
    bucket = _bucket(rate)
    ticks = bucket.burst * 10**9 // bucket.average // TICK_NS
    police = POLICE.pack(
        *(0, TC_ACT_SHOT, 0, min(ticks, MAX_TICKS), bucket.peak_burst),
        *(_ratespec(bucket.average), _ratespec(bucket.peak)),
        *(0, 0, 0),
    )
    options = [("TCA_POLICE_TBF", police), ("TCA_POLICE_RATE", bytes(TC_RTAB_SIZE))]
    if bucket.peak:
        options.append(("TCA_POLICE_PEAKRATE", bytes(TC_RTAB_SIZE)))
    action = {"attrs": [("TCA_ACT_KIND", "police"), ("TCA_ACT_OPTIONS", {"attrs": options})]}
    every = {"attrs": [("TCA_MATCHALL_ACT", {"attrs": [("TCA_ACT_PRIO_1", action)]})]}
    attributes = [("TCA_KIND", "matchall"), ("TCA_FILTER", every)]
    return _message(index, 0, INGRESS_HANDLE, attributes, info=EVERY_FRAME)


def _bucket(rate: Rate) -> _Bucket:
    """Return *rate* with what nobody chose. A peak below the average is the average."""
    burst = rate.burst or max(MIN_BURST, rate.average // BURST_PARTS)
    if rate.peak is None:
        return _Bucket(rate.average, burst, 0, burst)
    if rate.peak <= rate.average:
        return _Bucket(rate.peak, MIN_BURST, 0, MIN_BURST)
    return _Bucket(rate.average, burst, rate.peak, max(MIN_BURST, rate.peak // PEAK_PARTS))


def _ratespec(rate: int) -> bytes:
    return RATESPEC.pack(CELL_LOG, TC_LINKLAYER_ETHERNET, 0, 0, 0, rate)


def _message(index: int, handle: int, parent: int, attributes: list[Any], info: int = 0) -> Any:  # noqa: ANN401 - as above
    message = _TrafficControl()
    message["index"], message["handle"] = index, handle
    message["parent"], message["info"] = parent, info
    message["attrs"] = attributes
    return message
