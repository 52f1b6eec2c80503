# SPDX-License-Identifier: LGPL-2.1-or-later
"""Walking a QEMU's schema, on one made for it."""

import msgspec
import pytest

from bpferry.qemu.schema import Entity, Schema

ENTITIES: list[dict[str, object]] = [
    {"name": "request-ebpf", "meta-type": "command", "arg-type": "7", "ret-type": "0"},
    {"name": "7", "meta-type": "object", "members": [{"name": "id", "type": "9"}]},
    {"name": "9", "meta-type": "enum", "members": [{"name": "rss"}, {"name": "next"}]},
]

UNION: list[dict[str, object]] = [
    {"name": "add", "meta-type": "command", "arg-type": "1", "features": ["new"]},
    {
        "name": "1",
        "meta-type": "object",
        "tag": "type",
        "members": [{"name": "id", "type": "str"}, {"name": "type", "type": "2"}],
        "variants": [{"case": "tap", "type": "3"}, {"case": "wrapped", "type": "4"}],
    },
    {
        "name": "2",
        "meta-type": "enum",
        "members": [{"name": "tap"}, {"name": "wrapped"}, {"name": "bare"}],
    },
    {"name": "3", "meta-type": "object", "members": [{"name": "fd", "type": "str"}]},
    {"name": "4", "meta-type": "object", "members": [{"name": "data", "type": "5"}]},
    {"name": "5", "meta-type": "object", "members": [{"name": "path", "type": "str"}]},
    {"name": "ask", "meta-type": "command", "arg-type": "0", "ret-type": "6"},
    {"name": "6", "meta-type": "array", "element-type": "1"},
    {"name": "wrap", "meta-type": "command", "arg-type": "8"},
    {"name": "8", "meta-type": "object", "members": [{"name": "backend", "type": "1"}]},
]

BRANCHES = {
    "tap": {"id", "fd"},
    "wrapped": {"id", "path"},
    "bare": {"id"},
}


def _schema(entities: list[dict[str, object]]) -> Schema:
    return Schema(msgspec.convert(entities, list[Entity]))


def test_every_id_is_found() -> None:
    """An id that nobody knows yet is found like the others."""
    assert ("rss", "next") == _schema(ENTITIES).argument_values("request-ebpf", "id")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_schema_without_a_part_of_the_way(missing: int) -> None:
    """A schema that lacks a part of the way has no ids."""
    left = [entity for number, entity in enumerate(ENTITIES) if number != missing]

    assert () == _schema(left).argument_values("request-ebpf", "id")


def test_branches_of_arguments() -> None:
    """Each value of the tag has the common members and its own, unwrapped; not the tag."""
    assert BRANCHES == _schema(UNION).argument_branches("add")


def test_branches_of_a_member_of_the_arguments() -> None:
    """The union may be a member of the arguments."""
    assert BRANCHES == _schema(UNION).argument_branches("wrap", "backend")


def test_branches_of_a_returned_list() -> None:
    """The union may be what a command returns a list of."""
    assert BRANCHES == _schema(UNION).returned_branches("ask")


def test_branches_of_no_command() -> None:
    """A command that is not there has no branches, of either kind."""
    schema = _schema(ENTITIES)

    assert ({}, {}) == (schema.argument_branches("add"), schema.returned_branches("ask"))


def test_commands_have_features() -> None:
    """Commands are listed with their features, and nothing else is."""
    assert {"add": {"new"}, "ask": set(), "wrap": set()} == _schema(UNION).commands()
