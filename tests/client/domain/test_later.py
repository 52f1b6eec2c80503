# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests of the classes of the model that are imported when a document has them."""

import os
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.domain.binding import Table
from bpferry.domain.later import MODULES, find_class
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import fields_of

NAMES = [name for names in MODULES.values() for name in names]

LOADED = (
    "import pathlib, sys; from bpferry.domain.document import read_bytes; "
    "read_bytes(sys.argv[1].encode(), pathlib.Path('/x.toml')); "
    "print(*(name for name in sys.modules if name.startswith('bpferry.domain.model.')))"
)
"""Reads a description, and prints which modules of the model that needs."""


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_that_of_a_class_of_the_model(name: str) -> None:
    """It is in the module that the list says."""
    assert find_class(name).__name__ == name


def test_the_fields_of_a_vm_have_the_classes_that_their_annotations_name() -> None:
    """A checker of types sees the same class as the reader."""
    names = {name: find_class(name) for name in NAMES}
    hints = typing.get_type_hints(Machine, localns=names)
    seen = {bound.name: set(_tables(hints[bound.name])) for bound in fields_of(Machine)}
    read = {bound.name: {bound.table} - {None} for bound in fields_of(Machine)}

    assert seen == read


def _tables(hint: object) -> Iterator[type[Table]]:
    if isinstance(hint, type) and issubclass(hint, Table):
        yield hint
    for part in typing.get_args(hint):
        yield from _tables(part)


@pytest.mark.parametrize(("more", "wanted"), [("", set()), ("[[disks]]\nfile = '/d'\n", {"disks"})])
def test_a_description_imports_what_it_has(more: str, wanted: set[str]) -> None:
    """Cards, disks, displays: of what it does not have, not even the class is there."""
    text = f"name = 'small'\nmemory = '64 MiB'\n{more}"
    done = subprocess.run(
        [sys.executable, "-c", LOADED, text],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path("/"),
        check=True,
        capture_output=True,
        text=True,
    )

    loaded = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert wanted == loaded & {"disks", "cards", "characters", "graphics", "videos", "host_devices"}
