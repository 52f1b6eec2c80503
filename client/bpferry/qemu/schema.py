# SPDX-License-Identifier: LGPL-2.1-or-later
"""Walk the schema that a QEMU returns (``query-qmp-schema``).

Types there have numbers instead of names, which differ from build to build. So every walk begins
at a command, whose name is fixed:

    command request-ebpf -> its argument type -> member 'id' -> its enumeration
    command netdev_add   -> its argument type: a union with a tag -> one type for each value

QEMU describes the form in its docs/devel/qapi-code-gen.rst, "Client JSON Protocol introspection".
If a part is missing, the answer is empty: this QEMU does not have it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec


class Member(msgspec.Struct, frozen=True):
    """One member of an object, or one value of an enumeration, which has no type."""

    name: str = ""
    type: str = ""


class Variant(msgspec.Struct, frozen=True):
    """What a union has in addition to its own members if its tag has one value."""

    case: str
    type: str


class Entity(msgspec.Struct, frozen=True, rename="kebab"):
    """One entry of the schema; which fields it has depends on what it describes."""

    name: str
    meta_type: str
    members: tuple[Member, ...] = ()
    tag: str = ""
    variants: tuple[Variant, ...] = ()
    features: tuple[str, ...] = ()
    arg_type: str = ""
    ret_type: str = ""
    element_type: str = ""


NOTHING: Final = Entity("", "")


class Schema:
    """The commands of one QEMU, and what they take and give."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        self._entities = {entity.name: entity for entity in entities}

    def commands(self) -> dict[str, frozenset[str]]:
        """Return each command with its features."""
        return {
            name: frozenset(entity.features)
            for name, entity in self._entities.items()
            if entity.meta_type == "command"
        }

    def argument_values(self, command: str, member: str) -> tuple[str, ...]:
        """Return the values that *command* takes for its argument *member*."""
        return self._values(self._member(self._argument(command), member))

    def returned_values(self, command: str) -> tuple[str, ...]:
        """Return the values of the enumeration that *command* returns a list of."""
        return self._values(self._returned(command))

    def argument_branches(self, command: str, member: str = "") -> dict[str, frozenset[str]]:
        """Return the values of the tag that *command* takes, each with the members that go with it.

        With *member*, the union is that member of the arguments.
        """
        argument = self._argument(command)
        return self._branches(self._member(argument, member) if member else argument)

    def returned_branches(self, command: str) -> dict[str, frozenset[str]]:
        """Return the same for what *command* returns, or returns a list of."""
        return self._branches(self._returned(command))

    def _find(self, name: str) -> Entity:
        return self._entities.get(name, NOTHING)

    def _argument(self, command: str) -> Entity:
        return self._find(self._find(command).arg_type)

    def _returned(self, command: str) -> Entity:
        found = self._find(self._find(command).ret_type)
        return self._find(found.element_type) if found.meta_type == "array" else found

    def _member(self, entity: Entity, name: str) -> Entity:
        types = [member.type for member in entity.members if member.name == name]
        return self._find(types[0]) if types else NOTHING

    @staticmethod
    def _values(entity: Entity) -> tuple[str, ...]:
        return tuple(member.name for member in entity.members if not member.type)

    def _branches(self, union: Entity) -> dict[str, frozenset[str]]:
        """Return each value of the tag, with the members of the union and of that branch."""
        common = {member.name for member in union.members} - {union.tag}
        branches = dict.fromkeys(self._values(self._member(union, union.tag)), frozenset(common))
        for variant in union.variants:
            branches[variant.case] = frozenset(common | self._names(self._find(variant.type)))
        return branches

    def _names(self, entity: Entity) -> set[str]:
        """Return the names of the members of *entity*.

        If its only member is 'data', that is only a wrapper, and the members are those inside.
        """
        names = {member.name for member in entity.members}
        return self._names(self._member(entity, "data")) if names == {"data"} else names
