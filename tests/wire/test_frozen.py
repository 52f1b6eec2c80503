# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frozen values are what typing's named tuples are, and take less time to make."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bpferry_wire.frozen import Frozen

SHARED = Path(__file__).parents[2] / "shared"


class Ours(Frozen):
    """A value with one field that has a default."""

    name: str
    number: int = 3


class Theirs(NamedTuple):
    """The same."""

    name: str
    number: int = 3


USES: dict[str, Callable[[type[Ours] | type[Theirs]], object]] = {
    "by place": lambda kind: tuple(kind("a", 4)),
    "by name": lambda kind: tuple(kind(number=4, name="a")),
    "default": lambda kind: tuple(kind("a")),
    "both": lambda kind: tuple(kind("a", number=4)),
    "field": lambda kind: (kind("a").name, kind("a").number),
    "fields": lambda kind: kind._fields,
    "patterns": lambda kind: kind.__match_args__,
    "map": lambda kind: kind("a")._asdict(),
    "replaced": lambda kind: tuple(kind("a")._replace(name="b")),
    "equal": lambda kind: (kind("a") == kind("a", 3), hash(kind("a")) == hash(kind("a", 3))),
    "copied": lambda kind: tuple(copy.copy(kind("a"))),
    "sent": lambda kind: tuple(pickle.loads(pickle.dumps(kind("a")))),  # noqa: S301 - our own
    "shown": lambda kind: repr(kind("a")).partition("(")[2],
}


@pytest.mark.parametrize("use", USES)
def test_they_are_used_as_named_tuples_are(use: str) -> None:
    """Whoever knows the one knows the other."""
    assert USES[use](Theirs) == USES[use](Ours)


WRONG: dict[str, Callable[[type[Ours] | type[Theirs]], object]] = {
    "missing": lambda kind: kind(),  # type: ignore[call-arg]  # on purpose, as are the next
    "unknown": lambda kind: kind("a", colour="b"),  # type: ignore[call-arg]
    "twice": lambda kind: kind("a", name="b"),  # type: ignore[misc]
    "many": lambda kind: kind("a", 1, 2),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("kind", [Ours, Theirs])
@pytest.mark.parametrize("wrong", WRONG)
def test_each_field_is_given_once(wrong: str, kind: type[Ours] | type[Theirs]) -> None:
    """A key that no field has is a mistake, not dropped."""
    with pytest.raises(TypeError):
        WRONG[wrong](kind)


@pytest.mark.parametrize("kind", [Ours, Theirs])
@pytest.mark.parametrize("attribute", ["name", "nmae"])
def test_values_do_not_change(attribute: str, kind: type[Ours] | type[Theirs]) -> None:
    """The same value may be with several holders; nor is a slip of the pen a new attribute."""
    with pytest.raises(AttributeError):
        setattr(kind("a"), attribute, "b")


def test_no_message_is_a_named_tuple() -> None:
    """To make the classes of all of them would take longer than to read a description."""
    code = (
        "import collections, msgpack, bpferry_wire.channel; made = []\n"
        "collections.namedtuple = lambda name, *_, **__: made.append(name) or int\n"
        "import bpferry_wire.packets, bpferry_wire.objects; print(made)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=SHARED,
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == "[]\n"
