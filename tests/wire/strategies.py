# SPDX-License-Identifier: LGPL-2.1-or-later
"""How hypothesis makes requests, replies and packets."""

from hypothesis import strategies as st

from bpferry_wire import limits, packets
from bpferry_wire import messages as m
from bpferry_wire.errors import Code

uint32 = st.integers(0, limits.UINT32_MAX)
text = st.text(max_size=200)
object_ids = st.text(max_size=64).filter(lambda s: len(s.encode()) <= limits.MAX_OBJECT_ID_BYTES)
names = st.text(max_size=128).filter(lambda s: len(s.encode()) <= limits.MAX_NAME_BYTES)

loads = st.builds(m.Load, object_ids, st.binary(min_size=32, max_size=32))
requests: st.SearchStrategy[m.Request] = st.one_of(
    st.just(m.Hello()), st.just(m.Quota()), st.just(m.Status()), loads, st.builds(m.Can, loads)
)

gids = st.lists(uint32, max_size=limits.MAX_GIDS_SHOWN).map(tuple)
callers = st.builds(m.Caller, uint32, gids, uint32)
descriptions = st.builds(
    m.FdDescription, names, st.sampled_from(packets.KINDS), uint32, uint32, uint32, uint32, uint32
)
grants = st.builds(m.Grant, uint32, uint32, object_ids, st.integers(0, limits.UINT64_MAX))

replies: dict[type[m.Request], st.SearchStrategy[m.Reply]] = {
    m.Hello: st.builds(m.HelloReply, text, text, callers, uint32, uint32),
    m.Quota: st.builds(m.QuotaReply, uint32, uint32, uint32, uint32, text),
    m.Can: st.builds(m.CanReply, st.booleans(), text),
    m.Status: st.builds(m.StatusReply, st.lists(grants, max_size=20).map(tuple), text),
    m.Load: st.builds(m.LoadReply, st.lists(descriptions, max_size=16).map(tuple)),
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
