# SPDX-License-Identifier: LGPL-2.1-or-later
"""How hypothesis makes requests, replies and packets."""

from hypothesis import strategies as st

from bpferry_wire import limits, packets
from bpferry_wire import messages as m
from bpferry_wire.errors import Code
from bpferry_wire.vm_names import VM_NAME

uint32 = st.integers(0, limits.UINT32_MAX)
text = st.text(max_size=200)
object_ids = st.text(max_size=64).filter(lambda s: len(s.encode()) <= limits.MAX_OBJECT_ID_BYTES)
names = st.text(max_size=128).filter(lambda s: len(s.encode()) <= limits.MAX_NAME_BYTES)

interfaces = st.text(max_size=15).filter(lambda s: len(s.encode()) <= limits.MAX_INTERFACE_BYTES)
networks = st.text(max_size=64).filter(lambda s: len(s.encode()) <= limits.MAX_NETWORK_BYTES)

vms = st.just("") | st.from_regex(VM_NAME, fullmatch=True)
loads = st.builds(m.Load, object_ids, st.binary(min_size=32, max_size=32), vm=vms)
rates = st.builds(
    m.Rate,
    st.integers(limits.MIN_RATE, limits.MAX_RATE),
    st.none() | st.integers(limits.MIN_RATE, limits.MAX_RATE),
    st.none() | st.integers(limits.MIN_BURST, limits.MAX_BURST),
)
vlans = st.integers(limits.MIN_VLAN, limits.MAX_VLAN)
trunks = st.sets(vlans, max_size=limits.MAX_TAGGED_VLANS).map(lambda some: tuple(sorted(some)))
wishes = {
    "queues": st.integers(1, limits.MAX_QUEUES),
    "mtu": st.none() | st.integers(limits.MIN_MTU, limits.MAX_MTU),
    "mac": st.none() | st.binary(min_size=limits.MAC_BYTES, max_size=limits.MAC_BYTES),
    "isolated": st.booleans(),
    "vlan": st.none() | vlans,
    "bandwidth": st.builds(m.Bandwidth, st.none() | rates, st.none() | rates),
    "vm": vms,
}
taps = st.one_of(
    st.builds(m.Tap, source=interfaces, is_network=st.just(value=False), **wishes, tagged=trunks),
    st.builds(m.Tap, source=networks, is_network=st.just(value=True), **wishes, tagged=trunks),
)
creations = st.builds(m.Create, taps.map(lambda tap: tap._replace(tagged=())))
requests: st.SearchStrategy[m.Request] = st.one_of(
    st.sampled_from([m.Hello(), m.Quota(), m.Status(), m.ListTaps()]),
    loads,
    taps,
    creations,
    st.builds(m.Delete, interfaces),
    st.builds(m.Can, st.one_of(loads, taps, creations)),
)

gids = st.lists(uint32, max_size=limits.MAX_GIDS_SHOWN).map(tuple)
callers = st.builds(m.Caller, uint32, gids, uint32)
sizes = dict.fromkeys(("key_size", "value_size", "entries", "flags"), uint32)
descriptions = st.builds(m.FdDescription, names, st.sampled_from(packets.KINDS), uint32, **sizes)
made_taps = st.builds(m.TapReply, interfaces, interfaces, uint32)
flags = dict.fromkeys(("stays", "closed"), st.booleans())
ways = dict.fromkeys(("inbound", "outbound"), uint32)
own_taps = st.builds(
    m.OwnTap, interfaces, interfaces, queues=uint32, made_with=uint32, **flags, **ways
)
places = {"bridge": interfaces, "vm": vms}
ages = st.integers(0, limits.UINT64_MAX)
grants = st.builds(m.Grant, uint32, uint32, object_ids, ages, **ways, **places)

replies: dict[type[m.Request], st.SearchStrategy[m.Reply]] = {
    m.Hello: st.builds(m.HelloReply, text, text, callers, max_request_bytes=uint32, max_fds=uint32),
    m.Quota: st.builds(m.QuotaReply, uint32, uint32, uint32, uint32, counted_by=text),
    m.Can: st.builds(m.CanReply, st.booleans(), text, st.sampled_from(["", *Code])),
    m.Status: st.builds(m.StatusReply, st.lists(grants, max_size=20).map(tuple), text, uint32),
    m.Load: st.builds(m.LoadReply, st.lists(descriptions, max_size=16).map(tuple)),
    m.Tap: made_taps,
    m.Create: made_taps,
    m.ListTaps: st.builds(m.ListReply, st.lists(own_taps, max_size=20).map(tuple)),
    m.Delete: st.builds(m.DeleteReply, interfaces),
}
errors = st.builds(m.ErrorReply, st.sampled_from(Code), text, text)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[m.Request, m.Reply | m.ErrorReply]:
    """Return a request and something that may answer it."""
    request = draw(requests)
    return request, draw(st.one_of(errors, replies[type(request)]))


@st.composite
def mutated(draw: st.DrawFn, packet: bytes) -> bytes:
    """Return *packet* with some bytes replaced, removed or put in."""
    changed = bytearray(packet)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        removed = draw(st.integers(0, 3))
        changed[at : at + removed] = draw(st.binary(max_size=5))
    return bytes(changed)
