# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the model to a libvirt domain document: the inverse of ``xml_reader``.

A field with its default value is left out, unless libvirt's schema requires it (``At.always``).
"""

from typing import TYPE_CHECKING

import msgspec

from bpferry.domain.binding import NAMESPACES, WORDS, Form, Table
from bpferry.domain.shape import Field, fields_of
from bpferry.domain.sizes import split_size

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def build_element(tag: str, table: Table) -> "Element":
    """Return *table* as an element called *tag*."""
    from xml.etree.ElementTree import Element, register_namespace  # noqa: PLC0415

    for prefix, uri in NAMESPACES.items():
        register_namespace(prefix, uri)
    element = Element(tag)
    _fill(element, table)
    return element


def _fill(element: "Element", table: Table) -> None:
    for bound in fields_of(type(table)):
        value = getattr(table, bound.name)
        unsaid = bound.default if bound.at.absent is msgspec.UNSET else bound.at.absent
        if value is None or (value == unsaid and not bound.at.always):
            continue
        if bound.many:
            for single in value:
                _add_one(element, bound, single)
        else:
            _write(_descend(element, bound.at.path), bound, value)


def _add_one(element: "Element", bound: Field, value: object) -> None:
    """Write one of many as a new element; the elements above it are shared."""
    path = bound.at.path
    above, _, attribute = path.partition("/@") if "/@" in path else (path, "", "")
    head, _, last = above.rpartition("/")
    parent = _descend(element, f"{head}/" if head else "")
    child = _sub(parent, last)
    if attribute:
        child.set(attribute, _text(bound, value))
    else:
        _write(child, bound, value)


def _descend(element: "Element", path: str) -> "Element":
    """Return the element of *path* below *element*; it is made if it is not there."""
    for step in path.split("/"):
        if step and step != "." and not step.startswith("@"):
            found = element.find(_qualified(step))
            element = _sub(element, step) if found is None else found
    return element


def _sub(parent: "Element", step: str) -> "Element":
    from xml.etree.ElementTree import SubElement  # noqa: PLC0415

    return SubElement(parent, _qualified(step))


def _qualified(step: str) -> str:
    prefix, colon, name = step.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{name}" if colon else step


def _write(element: "Element", bound: Field, value: object) -> None:
    form = bound.at.form
    _, at, attribute = bound.at.path.rpartition("@")
    if isinstance(value, Table):
        _fill(element, value)
    elif form is Form.SIZE:
        assert isinstance(value, int)  # noqa: S101 - the model says so
        amount, unit = split_size(value)
        element.set("unit", unit)
        if at:
            element.set(attribute, str(amount))
        else:
            element.text = str(amount)
    elif at:
        element.set(attribute, _text(bound, value))
    elif form is Form.STATE:
        element.set("state", "on" if value else "off")
    elif form is not Form.PRESENT:
        element.text = _text(bound, value)


def _text(bound: Field, value: object) -> str:
    if isinstance(value, bool):
        words = WORDS.get(bound.at.form, WORDS[Form.YES_NO])
        return next(word for word, truth in words.items() if truth is value)
    if bound.at.form is Form.HEX and isinstance(value, int) and value >= 0:
        return hex(value)
    theirs = {ours: word for word, ours in bound.at.words}
    return theirs.get(str(value), str(value))
