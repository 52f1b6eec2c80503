# SPDX-License-Identifier: LGPL-2.1-or-later
"""The protocol page against the code: bounds, codes, operations, keys and examples."""

import ast
import re
from pathlib import Path

import pytest

from bpferry.network import connection as client
from bpferry_helper.connection import FIRST_REQUEST_S, NEXT_REQUEST_S
from bpferry_helper.door import MAX_CONNECTIONS, MAX_PER_UID
from bpferry_wire import limits, messages, packets
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.objects import RSS
from bpferry_wire.requests import GRANTING, request_map
from tests.support.packets import packed

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/protocol.md").read_text(encoding="utf-8")
ROLES = ("bpf", "tap")
FULL_TAP = messages.Tap(
    "br0",
    is_network=False,
    queues=1,
    mtu=68,
    mac=bytes(6),
    isolated=True,
    vlan=1,
    tagged=(2,),
    bandwidth=messages.Bandwidth(messages.Rate(1000)),
    vm="web",
)
KEYS_TO_LEAVE_OUT = ("queues", "mtu", "mac", "isolated", "vlan", "tagged", "bandwidth", "vm")


def _section(heading: str) -> str:
    """Return what is below *heading*, up to the next one of any level."""
    return PAGE.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables below *heading*, without their head."""
    lines = [line for line in _section(heading).splitlines() if line.startswith("|")]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, following in zip(cells, [*cells[1:], [""]], strict=True)
            if not row[0].startswith("---") and not following[0].startswith("---")]  # fmt: skip


def _keys(heading: str) -> set[str]:
    return {row[0] for row in _rows(heading)}


def _operations(asked: set[str]) -> set[str]:
    """Return the operations of the messages whose classes are called *asked*."""
    return {op for kind, op in packets.OPS.items() if kind.__name__ in asked}


def _answered(role: str) -> tuple[set[str], set[str]]:
    """Return the operations that *role*'s service answers, and those that ``can`` knows there.

    They are the cases of its ``prepare``; all else is ``not_here``.
    """
    path = REPOSITORY / f"helper/bpferry_helper/{role}/service.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    answered: set[str] = set()
    asked_about: set[str] = set()
    for case in (node for node in ast.walk(tree) if isinstance(node, ast.match_case)):
        classes = [node for node in ast.walk(case.pattern) if isinstance(node, ast.MatchClass)]
        names = {node.cls.attr for node in classes if isinstance(node.cls, ast.Attribute)}
        if "Can" in names:
            asked_about |= names - {"Can"}
            names = {"Can"}
        answered |= names
    return _operations(answered), _operations(asked_about)


def test_bounds_are_the_code_s() -> None:
    """Each number in the table of bounds is the constant's value."""
    found = {
        row[0].replace("`", ""): int(re.sub(r"\D", "", row[1])) for row in _rows("DESCRIPTION")
    }

    assert found == {
        "request": limits.MAX_REQUEST_BYTES,
        "reply": limits.MAX_REPLY_BYTES,
        "fds in one reply": limits.MAX_FDS_PER_REPLY,
        "queues of one tap": limits.MAX_QUEUES,
        "name of an interface": limits.MAX_INTERFACE_BYTES,
        "name of a network": limits.MAX_NETWORK_BYTES,
        "name of a VM": limits.MAX_VM_NAME_BYTES,
        "address of a card": limits.MAC_BYTES,
        "least VLAN": limits.MIN_VLAN,
        "greatest VLAN": limits.MAX_VLAN,
        "tagged VLANs of one tap": limits.MAX_TAGGED_VLANS,
        "least rate": limits.MIN_RATE,
        "greatest rate": limits.MAX_RATE,
        "least burst": limits.MIN_BURST,
        "greatest burst": limits.MAX_BURST,
        "least MTU": limits.MIN_MTU,
        "greatest MTU": limits.MAX_MTU,
        "grants in one status": limits.MAX_STATUS_GRANTS,
        "taps in one list": limits.MAX_TAPS,
        "object id": limits.MAX_OBJECT_ID_BYTES,
        "name of a program or map": limits.MAX_NAME_BYTES,
        "digest": limits.DIGEST_BYTES,
        "connections of one user": MAX_PER_UID,
        "connections of all users": MAX_CONNECTIONS,
        "connecting until the first request": FIRST_REQUEST_S,
        "reply until the next request": NEXT_REQUEST_S,
    }


def test_error_codes_are_the_code_s() -> None:
    """The page has every code, and none that is not there."""
    assert _keys("ERROR CODES") == set(Code)


def test_operations_are_the_code_s() -> None:
    """The page has every operation, and none that is not there."""
    assert _keys("REQUESTS") == set(packets.OPS.values())


@pytest.mark.parametrize("role", ROLES)
def test_who_answers_what_is_the_code_s(role: str) -> None:
    """The page names the helper that answers each operation."""
    named = {row[0] for row in _rows("REQUESTS") if row[1] in {role, "both"}}

    assert named == _answered(role)[0]


def test_what_one_may_ask_about_is_the_code_s() -> None:
    """The page says what ``can`` knows at which helper, and the decoder lets nothing else pass."""
    sentence = "`can` takes a `load` at the helper bpf, and a `tap` or `create` at the helper tap;"

    assert sentence in PAGE
    assert [{"load"}, {"tap", "create"}] == [_answered(role)[1] for role in ROLES]
    assert set(GRANTING) == {"load", "tap", "create"}


def test_sockets_are_the_code_s() -> None:
    """The page names the paths at which clients look."""
    assert set(re.findall(r"/run/bpferry/[a-z.]+", PAGE)) == {client.BPF.path, client.TAP.path}


def test_room_for_fds_is_the_code_s() -> None:
    """One fd more than a reply may have."""
    assert f"room for at least {limits.MAX_FDS_PER_REPLY + 1} fds" in PAGE


def test_keys_of_a_tap_are_the_code_s() -> None:
    """The page has every key of a request for a tap, with its bounds."""
    network = FULL_TAP._replace(is_network=True)
    keys = (request_map(FULL_TAP).keys() | request_map(network).keys()) - {"op"}

    assert _keys("The tap") == keys
    rows = {row[0]: row[3] for row in _rows("The tap")}
    assert f"from 1 to {limits.MAX_QUEUES};" in rows["queues"]
    assert f"from {limits.MIN_MTU} to {limits.MAX_MTU:,}:" in rows["mtu"]
    assert f"{limits.MAC_BYTES} bytes" in rows["mac"]


@pytest.mark.parametrize("key", KEYS_TO_LEAVE_OUT)
def test_what_need_not_be_there_is_the_code_s(key: str) -> None:
    """A key is as required as the page says."""
    required = {row[0]: row[2] for row in _rows("The tap")}[key] == "yes"
    request = {"v": 1, **request_map(FULL_TAP)}
    del request[key]
    try:
        packets.decode_request(packed(request))
        refused = False
    except BadMessage:
        refused = True

    assert required == refused


def test_keys_of_replies_are_the_code_s() -> None:
    """The page has every key of every reply, and none that is not there."""
    assert _keys("hello") == set(messages.HelloReply._fields)
    assert _keys("quota") == set(messages.QuotaReply._fields)
    assert _keys("can") == set(messages.CanReply._fields)
    assert _keys("status") == {*messages.StatusReply._fields, *messages.Grant._fields}
    numbers = {str(number) for number in range(len(RSS.programs) + len(RSS.maps))}
    fields = {*messages.LoadReply._fields, *messages.FdDescription._fields}
    assert _keys("load") == fields | numbers
    assert _keys("tap") == set(messages.TapReply._fields)
    assert _keys("list") == {*messages.ListReply._fields, *messages.OwnTap._fields}
    assert _keys("delete") == set(messages.DeleteReply._fields)


def test_the_set_of_rss_is_the_code_s() -> None:
    """The table of the four fds is the shape that both sides check."""
    names = [row[1] for row in _rows("load") if row[0].isdigit()]

    assert names == [p.name for p in RSS.programs] + [m.name for m in RSS.maps]


def test_every_operation_has_its_reply_on_the_page() -> None:
    """Each has a heading below REPLIES."""
    replies = PAGE.split("\n## REPLIES\n")[1].split("\n## ")[0]

    assert set(re.findall(r"^### (.+)$", replies, re.MULTILINE)) == set(packets.OPS.values())


def _examples() -> list[tuple[str, object]]:
    """Return what the examples are, and their values."""
    lines = re.findall(r"^    (request|reply) +(\{.*)$", _section("EXAMPLES"), re.MULTILINE)
    return [(kind, ast.literal_eval(text)) for kind, text in lines]


def test_examples_are_packets() -> None:
    """Each request of the examples is one, and each reply answers the one above it."""
    request: messages.Request | None = None
    asked = set()
    answered = 0
    for kind, value in _examples():
        if kind == "request":
            request = packets.decode_request(packed(value))
            asked.add(packets.OPS[type(request)])
        else:
            assert request is not None
            packets.decode_reply(packed(value), request)
            answered += 1

    assert asked == {"hello", "tap", "can", "create", "list", "delete"}
    assert answered == 6


def test_the_bytes_of_the_example_are_the_request_s() -> None:
    """Somebody who writes an encoder can compare."""
    [text] = re.findall(r"in bytes +([0-9a-f ]+)\n", PAGE)

    assert bytes.fromhex(text) == packets.encode_request(messages.Hello())
