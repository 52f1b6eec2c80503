# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small native descriptions, each with a table of another kind, and what becomes of them."""

import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from bpferry.commandline.composition import Circumstances, Composition, compose
from bpferry.commandline.context import Context, Folders
from bpferry.domain import shorthand, shorthand_disks, toml
from bpferry.domain.checks import find_mistakes
from bpferry.domain.conversion import convert
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import Origins
from bpferry.errors import all_in_one
from bpferry.qemu.defaults import machine_type_of
from bpferry.steering.plan import HostFacts
from tests.client.support import OWNER
from tests.support.golden import capabilities_of

QEMU: Final = "10.0.2"

SMALL: Final = Path(__file__).with_name("small_vms.txt")
"""Documents without what each needs, which are all accepted. A line with ### begins each."""

DOCUMENTS: Final[Mapping[str, str]] = {
    name.strip(): text
    for name, _, text in (
        part.partition("\n") for part in SMALL.read_text(encoding="utf-8").split("### ")[1:]
    )
}


def read(text: str) -> dict[str, Any]:
    """Return the values of a document with what each needs."""
    return {"name": "v", "memory": "64 MiB", **tomllib.loads(text)}


def composed(plain: Mapping[str, object]) -> Composition:
    """Return what becomes of the values of a document.

    Raises:
        BpferryError: it is wrong, or no VM can be without what is refused of it.
        ValidationError: a value is not of its type.
    """
    origins = Origins(Path("/v/v.toml"))
    values: Any = toml.to_values(plain, Machine, origins, [])
    shorthand.expand(values)
    shorthand_disks.expand(values)
    machine = convert(values)
    mistakes = tuple(find_mistakes(machine, origins))
    if mistakes:
        raise all_in_one(mistakes)
    known = capabilities_of(QEMU)
    bare = Context(
        machine=machine,
        capabilities=known,
        accelerator=Accelerator.TCG,
        plans={},
        owner=OWNER,
        folders=Folders(runtime="/run", state="/state"),
        now=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        fd=str,
        machine_type=machine_type_of(machine, known.arch),
    )
    return compose(bare, Circumstances(HostFacts(), require_ebpf=False))
