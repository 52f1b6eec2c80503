# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user is told of a place in a libvirt document that is not supported.

A word or number that the model does not know may still be one that libvirt knows; only libvirt's
own schema could tell it from a typo. So each is unsupported, and the message says what is possible.
Reasons and ways out that are known beforehand are in ``refused``.
"""

from collections.abc import Sequence
from typing import Final

from bpferry.domain.bounds import describe_possible, words_of
from bpferry.domain.refused import find_reason, find_reason_of_value
from bpferry.domain.shape import Field
from bpferry.domain.shown import any_of, quoted
from bpferry.domain.spots import Spot
from bpferry.domain.suggestions import find_alike, find_near
from bpferry.errors import Mistaken, Unsupported

LEAVE_OUT: Final = "'bpferry run --ignore-unsupported', which leaves it out and says so"


def refuse_place(spot: Spot, known: Sequence[str], why: str) -> Unsupported:
    """Return the refusal of a place that the model does not have, and that is not ignored.

    *known* are the possible places, and *why* says what is wrong if that is clear.
    """
    here = f" (here '{spot.shown}')" if spot.is_attribute else ""
    sentence, hint = f"{spot}{here} is not supported", _general_hint(spot.name, known)
    reason = None if why else find_reason(spot.path, spot.element.attrib, spot.text)
    if reason is not None:
        why, hint = reason
    sentence = f"{sentence}: {why}" if why else sentence
    return Unsupported(sentence, hint, spot.xpath, line=spot.place.line)


def refuse_value(bound: Field, spot: Spot, *, look: bool = True) -> Unsupported:
    """Return the refusal of a word or number that *bound* does not have.

    With *look*, the word is compared with those that are possible.
    """
    words, possible = words_of(bound, in_xml=True), describe_possible(bound, in_xml=True)
    sentence = f"{spot} is '{spot.shown}', which is not supported"
    reason = find_reason_of_value(spot.path, spot.text)
    if reason is not None:
        others = f"; {possible}" if words else ""
        sentence = f"{sentence}: {reason[0]}{others}"
        return Unsupported(sentence, reason[1], spot.xpath, line=spot.place.line)
    near = find_alike(spot.shown, words if look else ())
    meant = f"did you mean {any_of([quoted(one) for one in near])}? otherwise " if near else ""
    hint = f"{meant}write what is possible, or use {LEAVE_OUT}"
    # libvirt may know another word; where it takes other numbers, that has a reason above.
    kind = Mistaken if is_number(spot.text) and not words else Unsupported
    return kind(f"{sentence}; {possible}", hint, spot.xpath, line=spot.place.line)


def is_number(text: str) -> bool:
    """Say whether *text* is a whole number, of any size."""
    return text.strip().removeprefix("-").isdecimal()


def refuse_text(spot: Spot, text: str, known: Sequence[str]) -> Unsupported:
    """Return the refusal of *text* in an element that has none.

    *known* are elements in its place that do have one.
    """
    near = find_near(spot.name, known)
    written = [f"<{name}>{text}</{name}>" for name in near]
    meant = f"did you mean {any_of(written)}? otherwise " if near else ""
    return Unsupported(
        f"{spot} holds the text {quoted(text)}, where only elements and attributes can be",
        f"{meant}remove the text, or use {LEAVE_OUT}",
        spot.xpath,
        line=spot.place.line,
    )


def _general_hint(name: str, known: Sequence[str]) -> str:
    is_attribute = name.startswith("@")
    kind = "attribute" if is_attribute else "element"
    near = find_near(name, known)
    written = [f"{one.removeprefix('@')}='...'" if is_attribute else f"<{one}>" for one in near]
    meant = f"did you mean {any_of(written)}? otherwise " if near else ""
    return f"{meant}remove the {kind}, or use {LEAVE_OUT}"
