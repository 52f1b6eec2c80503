# SPDX-License-Identifier: LGPL-2.1-or-later
"""The protocol page against the code: bounds, codes, operations and keys."""

import re
from pathlib import Path

from bpferry_helper.connection import FIRST_REQUEST_S, NEXT_REQUEST_S
from bpferry_helper.server import MAX_CONNECTIONS, MAX_PER_UID
from bpferry_wire import limits, messages, packets
from bpferry_wire.errors import Code
from bpferry_wire.objects import RSS

PAGE = (Path(__file__).resolve().parents[2] / "docs/protocol.md").read_text(encoding="utf-8")


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables below *heading*, without their head."""
    section = PAGE.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, following in zip(cells, [*cells[1:], [""]], strict=True)
            if not row[0].startswith("---") and not following[0].startswith("---")]  # fmt: skip


def _keys(heading: str) -> set[str]:
    return {row[0] for row in _rows(heading)}


def test_bounds_are_the_code_s() -> None:
    """Each number in the table of bounds is the constant's value."""
    found = {row[0]: int(re.sub(r"\D", "", row[1])) for row in _rows("DESCRIPTION")}

    assert found == {
        "request": limits.MAX_REQUEST_BYTES,
        "reply": limits.MAX_REPLY_BYTES,
        "fds in one reply": limits.MAX_FDS_PER_REPLY,
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


def test_keys_of_replies_are_the_code_s() -> None:
    """The page has every key of every reply."""
    assert _keys("hello") == set(messages.HelloReply._fields)
    assert _keys("quota") == set(messages.QuotaReply._fields)
    assert _keys("can") == set(messages.CanReply._fields)
    assert _keys("status") == set(messages.StatusReply._fields)
    assert set(messages.FdDescription._fields) <= _keys("load")


def test_the_set_of_rss_is_the_code_s() -> None:
    """The table of the four fds is the shape that both sides check."""
    names = [row[1] for row in _rows("load") if row[0].isdigit()]

    assert names == [p.name for p in RSS.programs] + [m.name for m in RSS.maps]
