# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fields of the model and their places."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

from bpferry.domain import model
from bpferry.domain.binding import Table


def _classes() -> Iterator[type[Table]]:
    for module in pkgutil.iter_modules(model.__path__):
        inside = vars(importlib.import_module(f"{model.__name__}.{module.name}")).values()
        for one in inside:
            if isinstance(one, type) and issubclass(one, Table) and one is not Table:
                yield one


@pytest.mark.parametrize("table", sorted(set(_classes()), key=repr))
def test_each_field_has_a_place(table: type[Table]) -> None:
    """One whose place is in an ``Annotated`` would have none: nobody would read or write it."""
    assert set(table.__struct_fields__) == set(table.places)
