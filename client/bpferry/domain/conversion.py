# SPDX-License-Identifier: LGPL-2.1-or-later
"""From plain values to a VM, each value by itself.

So msgspec makes decoders, and classes of the model are imported, only for what a description has.
"""

from collections.abc import Mapping

import msgspec

from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import fields_of


def convert(values: Mapping[str, object]) -> Machine:
    """Return the VM with *values*, which have the keys of the native form.

    Raises:
        msgspec.ValidationError: a value is wrong or missing, or there is no such key.
    """
    bounds = {bound.key: bound for bound in fields_of(Machine)}
    needed = {key for key, bound in bounds.items() if bound.default is msgspec.NODEFAULT}
    if not needed <= values.keys() <= bounds.keys():
        raise msgspec.ValidationError("a key is missing, or there is no such key")
    found = {
        bounds[key].name: _value(key, value, bounds[key].type) for key, value in values.items()
    }
    return Machine(**found)  # type: ignore[arg-type]  # each has its field's type


def _value(key: str, value: object, kind: object) -> object:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # As if all had been converted at once.
        what, _, where = str(error).partition(" - at `$")
        raise msgspec.ValidationError(f"{what} - at `$.{key}{where or '`'}") from error
