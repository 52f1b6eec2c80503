# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text of a native description: parsed to plain values, and written."""

import re
import tomllib
from pathlib import Path
from typing import Final

from bpferry.domain.binding import PATHS, Form, Table
from bpferry.domain.origins import Origins
from bpferry.domain.shape import Field, fields_of
from bpferry.domain.shown import shorten
from bpferry.domain.sizes import parse_written, split_size, suggest_size
from bpferry.domain.toml_places import find_places
from bpferry.errors import BadInput

DEEP: Final = re.compile(r"""(?:\.[ \t]*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*){32}""")
"""A key with more parts than the model is deep. tomllib needs quadratic time for its parts."""

SIZE_HINT: Final = 'write a number and a unit in quotes, as in {} = "512 MiB"'


def parse(raw: bytes, path: Path) -> tuple[dict[str, object], Origins]:
    """Return the values of the file *raw* by their keys, and the places of the keys.

    Raises:
        BadInput: it is not TOML.
    """
    text = _decode(raw, path)
    try:
        plain = _loads(text)
    except RecursionError as error:
        raise BadInput(
            f"'{path}' is not valid TOML: it is nested too deeply",
            "write tables with headers, such as [cpu]; no key has that many parts",
        ) from error
    except ValueError as error:
        # TOMLDecodeError is one, and so is the error for a number with too many digits.
        from bpferry.domain.toml_syntax import explain_syntax  # noqa: PLC0415 - for mistakes only

        raise explain_syntax(path, text, error) from error
    return plain, Origins(path, find_places(text))


def _decode(raw: bytes, path: Path) -> str:
    """Return the text of *raw*, without the mark that some editors put in front."""
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        line = raw.count(b"\n", 0, error.start) + 1
        what = "it is UTF-16" if wide else f"it contains the byte {raw[error.start]:#04x}"
        charset = "UTF-16" if wide else "LATIN1"
        raise BadInput(
            f"'{path}'{'' if wide else f':{line}'} is not UTF-8 text: {what}",
            f"save it as UTF-8, for example with 'iconv -f {charset} -t UTF-8'",
        ) from error


def _loads(text: str) -> dict[str, object]:
    if DEEP.search(text):
        raise RecursionError
    return tomllib.loads(text)


def to_values(
    plain: object, table: type[Table], origins: Origins, faults: list[BadInput], key: str = ""
) -> object:
    """Return *plain* with what the native form writes differently: sizes and files.

    A size that is none stays as it is, and is added to *faults*.
    """
    if not isinstance(plain, dict):
        return plain
    values = dict(plain)
    for bound in fields_of(table):
        if bound.key in values:
            here = f"{key}.{bound.key}" if key else bound.key
            values[bound.key] = _value(bound, values[bound.key], origins, faults, here)
    return values


def _value(
    bound: Field, value: object, origins: Origins, faults: list[BadInput], key: str
) -> object:
    if bound.many and isinstance(value, list):
        return [
            _single(bound, item, origins, faults, f"{key}[{index}]")
            for index, item in enumerate(value)
        ]
    return _single(bound, value, origins, faults, key)


def _single(
    bound: Field, value: object, origins: Origins, faults: list[BadInput], key: str
) -> object:
    if bound.table is not None:
        return to_values(value, bound.table, origins, faults, key)
    if bound.at.form is Form.SIZE:
        try:
            return _size(value, origins, key)
        except BadInput as error:
            faults.append(error)
            return value
    if bound.at.form in PATHS and isinstance(value, str) and value:
        return str(origins.path.absolute().parent / value)
    return value


def _size(value: object, origins: Origins, key: str) -> int:
    found = f"{origins.describe(key)} is {shorten(value)}"
    if not isinstance(value, str):
        hint = SIZE_HINT.format(key.rpartition(".")[2])
        raise BadInput(f"{found}: expected a size with a unit", hint, key)
    try:
        return parse_written(value)
    except ValueError as error:
        instead = suggest_size(value)
        hint = f'write {key.rpartition(".")[2]} = "{instead}"' if instead else ""
        raise BadInput(f"{found}: {error}", hint, key) from error


def to_plain(table: Table) -> dict[str, object]:
    """Return *table* as the native form has it, without defaults."""
    plain: dict[str, object] = {}
    for bound in fields_of(type(table)):
        value = getattr(table, bound.name)
        if value is None or value == bound.default:
            continue
        plain[bound.key] = (
            [_written(bound, single) for single in value] if bound.many else _written(bound, value)
        )
    return plain


def _written(bound: Field, value: object) -> object:
    if isinstance(value, Table):
        return to_plain(value)
    if bound.at.form is Form.SIZE and isinstance(value, int):
        amount, unit = split_size(value)
        return f"{amount} {unit}"
    return value


def format_plain(plain: dict[str, object]) -> str:
    """Return *plain* as the text of a file, single values before tables."""
    import tomli_w  # noqa: PLC0415 - only `bpferry convert` writes TOML

    return tomli_w.dumps(plain, multiline_strings=False)
