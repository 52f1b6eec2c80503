# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build a part of the VM as far as it can be, and find all that is refused of it.

A builder says what it refuses in two ways. It yields an Unsupported and goes on, or it raises one
if it cannot. Either way the part is built once more without that, so that what comes after it
(places, names, other devices) meets the part as it is going to be.

A builder that ran to its end has found all that is wrong with what the document says. What it
refuses when it is called again follows from what was left out, and is not the user's mistake.
One that raised after it had yielded may have raised because of what it yielded; otherwise it raises
again.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

from msgspec.structs import replace

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Found, Part, Refusal
from bpferry.domain.binding import Table
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

T = TypeVar("T", bound=Table)
V = TypeVar("V")

Builder = Callable[[Named[T], Context], Iterable[Found]]


def attempt(build: Builder[T], device: Named[T], context: Context) -> Iterator[Part]:
    """Yield the parts that *build* makes of *device*, and what is refused of it."""
    yield from cast("Iterator[Part]", _tries(build, device, context))


def attempt_section(
    build: Callable[[Context], Iterable[Found]], context: Context
) -> Iterator[Part]:
    """Yield the parts that *build* makes of the VM as a whole, and what is refused of it."""
    yield from attempt(_of_whole(build, context), Named("", "", context.machine), context)


def settle(
    make: Callable[[Named[T], Context], Iterable[V | Unsupported]],
    device: Named[T],
    context: Context,
) -> Iterator[V | Refusal]:
    """Yield what *make* makes of *device*, which is not a part, and what is refused of it."""
    yield from cast("Iterator[V | Refusal]", _tries(make, device, context))


def settle_section(
    make: Callable[[Context], Iterable[V | Unsupported]], context: Context
) -> Iterator[V | Refusal]:
    """Yield what *make* makes of the VM as a whole, and what is refused of it."""
    yield from settle(_of_whole(make, context), Named("", "", context.machine), context)


def _of_whole(
    make: Callable[[Context], Iterable[V]], context: Context
) -> Callable[[Named[Machine], Context], Iterable[V]]:
    return lambda whole, _: make(replace(context, machine=whole.value))


def _tries(
    make: Callable[[Named[T], Context], Iterable[object]], device: Named[T], context: Context
) -> Iterator[object]:
    left: Named[T] | None = device
    told: set[str | None] = set()
    follows = False
    while left is not None:
        made, errors, is_whole = _collect(make(left, context))
        for error in errors:
            if error.element not in told:
                told.add(error.element)
                yield Refusal(error, follows)
        if not errors:
            yield from made
            return
        follows = follows or is_whole
        left = _without(left, errors, context)


def split(words: Iterable[str | Unsupported]) -> tuple[list[str], list[Unsupported]]:
    """Return the *words* of an option, and what is refused of them."""
    kept: list[str] = []
    errors: list[Unsupported] = []
    for word in words:
        if isinstance(word, str):
            kept.append(word)
        else:
            errors.append(word)
    return kept, errors


def _collect(found: Iterable[object]) -> tuple[list[object], list[Unsupported], bool]:
    """Return what was made, what is refused, and whether the builder went to its end."""
    made: list[object] = []
    errors: list[Unsupported] = []
    try:
        for one in found:
            if isinstance(one, Unsupported):
                errors.append(one)
            else:
                made.append(one)
    except Unsupported as error:
        return made, errors or [error], False
    return made, errors, True


def _without(device: Named[T], errors: Iterable[Unsupported], context: Context) -> Named[T] | None:
    """Return *device* without what is refused; None if that is all of it, or another part."""
    from bpferry.domain.leaving_out import leave_out  # noqa: PLC0415 - for mistakes only

    value = device.value
    for error in errors:
        field = device.field_of(error.element or "")
        left = leave_out(value, field, in_xml=context.in_xml) if field else None
        if left is None:
            return None
        value = left.value
    return None if value == device.value else replace(device, value=value)
