# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM may be called on the wire, and what becomes of other names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry_wire import limits
from bpferry_wire import messages as m
from bpferry_wire.errors import BadMessage
from bpferry_wire.packets import decode_reply, decode_request, encode_request
from bpferry_wire.vm_names import VM_NAME, clean_vm_name, vm_of, without_vm
from tests.support.packets import packed

LOAD = m.Load("rss", bytes(32), "web")
TAP = m.Tap("br0", is_network=False, queues=1, vm="web")
NAMED: list[m.Request] = [LOAD, TAP, m.Create(TAP), m.Can(LOAD), m.Can(TAP), m.Can(m.Create(TAP))]


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_name_can_be_sent_once_it_is_clean(name: str) -> None:
    """Also one with half a character; no name stays none."""
    clean = clean_vm_name(name)

    assert bool(name) == bool(clean)
    assert LOAD._replace(vm=clean) == decode_request(encode_request(LOAD._replace(vm=clean)))


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("web-1.example", "web-1.example"),
        ("web server", "web_server"),
        ("x mac=52:54:00:00:00:01 closed", "x_mac_52_54_00_00_00_01_closed"),
        ("a\nb\x1b[31m", "a_b__31m"),
        ("\u03b1\ud800", "__"),
        ("v" * 33, "v" * 32),
    ],
)
def test_what_becomes_of_a_name(name: str, clean: str) -> None:
    """What is not allowed is replaced character by character; what is too long is cut."""
    assert clean == clean_vm_name(name)


@pytest.mark.parametrize("request_", NAMED, ids=lambda request: type(request).__name__)
def test_the_name_of_a_request(request_: m.Request) -> None:
    """It is found wherever it is, and can be left out."""
    assert ("web", "") == (vm_of(request_), vm_of(without_vm(request_)))
    assert b"vm" in encode_request(request_)
    assert b"vm" not in encode_request(without_vm(request_))


@pytest.mark.parametrize("request_", [m.Hello(), m.Status(), m.Delete("bfp0")])
def test_other_requests_have_none(request_: m.Request) -> None:
    """They stay as they are."""
    assert ("", request_) == (vm_of(request_), without_vm(request_))


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a'b", "a\x7f", "v" * 33, "\u0664"])
def test_a_load_for_an_unclean_name_is_a_bad_message(name: str) -> None:
    """The same rule as for a tap, here and in an answer, which is printed."""
    load = {"v": 1, "op": "load", "id": "rss", "digest": bytes(32), "vm": name}
    grant = {"uid": 0, "pid": 1, "name": "rss", "age_s": 0, "vm": name}
    status = {"v": 1, "ok": {"grants": [grant], "counted_by": "kernel"}}

    with pytest.raises(BadMessage, match="'vm' in the packet is not"):
        decode_request(packed(load))
    with pytest.raises(BadMessage, match="'vm' in the packet is not"):
        decode_reply(packed(status), m.Status())


def test_the_longest_name_is_as_long_as_the_limit() -> None:
    """The pattern and the limit agree."""
    longest = "v" * limits.MAX_VM_NAME_BYTES

    assert VM_NAME.fullmatch(longest)
    assert not VM_NAME.fullmatch(f"{longest}v")
