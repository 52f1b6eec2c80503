# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of VMs on the wire: a claim of the client's, shown to people and used for nothing else.

Such a name is written into the journal, the alias of a tap and tables. So it has only characters
that mean nothing in any of them: no space, quote, ``=`` or control character. A client cleans what
its VM is called; a helper refuses what is not clean.
"""

import re
from typing import Final

from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage
from bpferry_wire.limits import MAX_VM_NAME_BYTES
from bpferry_wire.messages import Can, Create, Load, Request, Tap

VM_NAME: Final = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_VM_NAME_BYTES}}}")

STRANGE: Final = re.compile(r"[^A-Za-z0-9_.-]")

KEY: Final = "vm"


def clean_vm_name(name: str) -> str:
    """Return *name* as the wire takes it: cut, and with ``_`` for each character of no use there.

    It is empty if *name* is.
    """
    return STRANGE.sub("_", name)[:MAX_VM_NAME_BYTES]


def read_vm_name(fields: Fields) -> str:
    """Take the name of a VM out of *fields*; empty if there is none.

    Raises:
        BadMessage: it is not clean.
    """
    if not fields.has(KEY):
        return ""
    name = fields.text(KEY)
    if not VM_NAME.fullmatch(name):
        raise BadMessage(
            f"'{KEY}' in the packet is not 1 to {MAX_VM_NAME_BYTES} of the characters A-Z a-z 0-9 "
            "_ . -"
        )
    return name


def vm_of(request: Request) -> str:
    """Return the name of the VM that *request* is for; empty if it has none."""
    match request:
        case Load() | Tap():
            return request.vm
        case Create():
            return request.tap.vm
        case Can():
            return vm_of(request.request)
    return ""


def without_vm(request: Request) -> Request:
    """Return *request* without the name of a VM."""
    match request:
        case Load():
            return request._replace(vm="")
        case Tap() | Create():
            return _nameless(request)
        case Can(Load() as load):
            return Can(load._replace(vm=""))
        case Can(Tap() | Create() as tap):
            return Can(_nameless(tap))
    return request


def _nameless(request: Tap | Create) -> Tap | Create:
    if isinstance(request, Tap):
        return request._replace(vm="")
    return Create(request.tap._replace(vm=""))
