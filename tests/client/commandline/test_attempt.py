# SPDX-License-Identifier: LGPL-2.1-or-later
"""A part is built as far as it can be, and all that is refused of it is found."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from bpferry.commandline.attempt import attempt, attempt_section
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.parts import Found, Option, Part, Refusal
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.cards import Card
from bpferry.domain.names import Named
from tests.client.support import CAPABILITIES, MACHINE, OWNER

CONTEXT = Context(
    machine=MACHINE,
    capabilities=CAPABILITIES,
    accelerator=Accelerator.TCG,
    plans={},
    owner=OWNER,
    folders=Folders("/run/vm", "/state/vm"),
    fd=str,
    machine_type="q35",
)
DEVICE = Named("cards[2]", "net2", Card(type="user", queues=4, mtu=1400, txmode="timer"))


def told(parts: Iterator[Part]) -> list[tuple[str | None, bool] | str | None]:
    """Return the elements that are refused and whether they follow, and the options' values."""
    return [
        (part.error.element, part.follows)
        if isinstance(part, Refusal)
        else part.value
        if isinstance(part, Option)
        else None
        for part in parts
    ]


def words(device: Named[Card]) -> Option:
    """Return an option that says what is left of a card."""
    card = device.value
    return Option("-card", f"{card.queues},{card.mtu},{card.txmode}")


def yields_both(device: Named[Card], _: Context) -> Iterator[Found]:
    """Refuse two fields, and go on."""
    for field in ("queues", "mtu"):
        if getattr(device.value, field) is not None:
            yield device.refusal(field, "no", "a way out")
    yield words(device)


def raises_each(device: Named[Card], _: Context) -> Iterator[Found]:
    """Refuse two fields, one after the other."""
    for field in ("queues", "mtu"):
        if getattr(device.value, field) is not None:
            raise device.refusal(field, "no", "a way out")
    yield words(device)


@pytest.mark.parametrize("build", [yields_both, raises_each])
def test_all_of_one_device_is_found_at_once(build: object) -> None:
    """It is built without what is refused, and each refusal is a fault of its own."""
    found = told(attempt(build, DEVICE, CONTEXT))  # type: ignore[arg-type] # one of the two

    assert [("cards[2].queues", False), ("cards[2].mtu", False), "None,None,timer"] == found


def test_what_follows_is_told_as_such() -> None:
    """A builder that came to its end has said all; what it says then is in consequence."""

    def build(device: Named[Card], _: Context) -> Iterator[Found]:
        if device.value.queues is not None:
            yield device.refusal("queues", "too many", "a way out")
        elif device.value.mtu is not None:
            yield device.refusal("mtu", "it goes with queues", "a way out")
        yield words(device)

    found = told(attempt(build, DEVICE, CONTEXT))

    assert [("cards[2].queues", False), ("cards[2].mtu", True), "None,None,timer"] == found


def test_error_after_a_refusal_may_be_in_consequence() -> None:
    """What a builder stumbles over once it has refused something is asked once more."""

    def build(device: Named[Card], _: Context) -> Iterator[Found]:
        if device.value.queues is not None:
            yield device.refusal("queues", "too many", "a way out")
            raise device.refusal("mtu", "nobody knows what to do with so many queues", "a way out")
        yield words(device)

    assert [("cards[2].queues", False), "None,1400,timer"] == told(attempt(build, DEVICE, CONTEXT))


@pytest.mark.parametrize("field", ["", "type"])
def test_device_that_is_refused_has_no_parts(field: str) -> None:
    """So it is where the device itself is meant, or what it cannot be without."""

    def build(device: Named[Card], _: Context) -> Iterator[Found]:
        yield device.refusal(field, "no", "a way out")
        yield words(device)

    element = f"cards[2].{field}".rstrip(".")
    assert [(element, False)] == told(attempt(build, DEVICE, CONTEXT))


def test_refusal_of_another_part_leaves_the_device_for_later() -> None:
    """What is to go is not of this device: it is built when that has gone."""

    def build(device: Named[Card], _: Context) -> Iterator[Found]:
        yield words(device)
        raise Named("cards[20]", "net20", device.value).refusal("mtu", "no", "a way out")

    assert [("cards[20].mtu", False)] == told(attempt(build, DEVICE, CONTEXT))


def test_section_is_built_without_what_is_refused() -> None:
    """A section knows the VM as it is without that."""

    def build(context: Context) -> Iterator[Found]:
        if context.machine.title:
            raise Named("", "", context.machine).refusal("title", "no", "a way out")
        yield Option("-title", context.machine.title)

    machine = replace(CONTEXT, machine=MACHINE.__class__(name="vm", memory=1, title="one"))

    assert [("title", False), None] == told(attempt_section(build, machine))
