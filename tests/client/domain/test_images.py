# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk and the images below it have the same fields for what they are made of."""

from bpferry.domain.binding import Table
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.images import Source
from bpferry.domain.shape import fields_of


def bindings_of(table: type[Table]) -> set[tuple[object, ...]]:
    """Return where each field of *table* is, and of what type, by name.

    Other elements that mean the same are left out: only a disk has some.
    """
    return {
        (bound.name, bound.at.path, bound.at.form, bound.scalar, bound.table, bound.choices)
        for bound in fields_of(table)
    }


def test_a_disk_has_every_field_of_an_image_in_the_same_place() -> None:
    """``Disk`` cannot inherit them, so its list could fall behind."""
    assert set() == bindings_of(Source) - bindings_of(Disk)
