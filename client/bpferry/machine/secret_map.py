# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that says where secrets are, for descriptions that do not, such as libvirt's own."""

import re
from pathlib import Path
from typing import Final

import msgspec

from bpferry.domain.binding import At, Placed, Table
from bpferry.domain.model.secrets import SecretFile
from bpferry.domain.toml import parse, to_values
from bpferry.errors import BadInput
from bpferry.machine.secrets import SecretFiles

QUOTED: Final = re.compile(r"field `([^`]*)`")
"""The key that a message of msgspec is about."""


class _Map(Table, frozen=True, kw_only=True):
    """All that may be in it."""

    secrets: Placed[tuple[SecretFile, ...], At("secret")] = ()


def read_map(path: str) -> SecretFiles:
    """Return what the file *path* says about where secrets are: ``[[secrets]]`` in TOML.

    Raises:
        BadInput: it cannot be read, or has anything else in it.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read '{path}': {error.strerror}", "give a TOML file") from error
    plain, origins = parse(raw, Path(path))
    try:
        found = msgspec.convert(to_values(plain, _Map, origins, []), _Map)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"'{path}' is no list of secrets: {_cause(error)}",
            'write [[secrets]], and below it name = "UUID or usage" and file = "FILE"',
        ) from error
    return {one.name: one.file for one in found.secrets}


def _cause(error: msgspec.ValidationError) -> str:
    """Return what is wrong in our words; msgspec has those of a program."""
    what, _, where = str(error).partition(" - at `$")
    place = where.rstrip("`").lstrip(".")
    quoted = QUOTED.search(what)
    if quoted is None:
        return f"'{place}' is not of the right type"
    key = f"{place}.{quoted[1]}" if place else quoted[1]
    return f"'{key}' is missing" if "missing" in what else f"unknown key '{key}'"
