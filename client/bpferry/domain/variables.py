# SPDX-License-Identifier: LGPL-2.1-or-later
"""Variables of a native description: one file for many VMs that differ in a number or a path.

    variables = ["SLURM_ARRAY_TASK_ID", "disk"]
    name = "web-${SLURM_ARRAY_TASK_ID}"

A description gets what it lists and nothing else: from ``--set NAME=VALUE``, or else from the
environment variable of the same name. One that has no value is an error, and so is a ``${...}``
that is not listed. Without the list, ``${`` is text like any other.

Values are put into texts that are already parsed, so that none of them can add a key or a table.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from bpferry.domain.origins import Origins
from bpferry.domain.shown import all_of, shorten
from bpferry.errors import BadInput, all_in_one

KEY: Final = "variables"
"""The list of a description."""

NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
"""What a shell can call a variable (POSIX, "Name")."""

REFERENCE: Final = r"\$\$\{|\$\{([^{}]*)(\}?)"
"""A variable in a text, whole or not, or ``$${``, which stands for ``${``."""

INNER: Final = rf"({NAME})(?::(?:0([1-9]))?([dx]))?"
"""What is between the braces: a name, and perhaps how to write a number."""

MAX_DIGITS: Final = 18
"""Of a number: what TOML's 64 bits hold."""

DIGITS: Final = rf"[0-9]{{1,{MAX_DIGITS}}}"

WRITE: Final = "write ${NAME}, ${NAME:d} for a number, or ${NAME:02x} for two hexadecimal digits"

PLACEHOLDERS: Final = {
    "a": "SLURM_ARRAY_TASK_ID",
    "A": "SLURM_ARRAY_JOB_ID",
    "j": "SLURM_JOB_ID",
}
"""Of a name on the command line, as sbatch(1) has them for names of files."""


class Given(Struct, frozen=True):
    """What a user says about a VM beside its description."""

    name: str | None = None
    """In place of the description's."""
    values: Mapping[str, str] = {}
    """Of variables; they go before the environment's."""
    environment: Mapping[str, str] = {}


NOTHING: Final = Given()


def expand_name(text: str, environment: Mapping[str, str]) -> str:
    """Return the name *text* with what its ``%a``, ``%A`` and ``%j`` stand for; ``%%`` is ``%``.

    Raises:
        BadInput: one has no value, or there is no such one, or the result cannot be a VM's name.
    """

    def put(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%"
        variable = PLACEHOLDERS.get(letter)
        if variable is None:
            known = all_of(f"%{one}" for one in (*PLACEHOLDERS, "%"))
            raise BadInput(f"--name {text}: there is no '%{letter}'", f"there are {known}")
        if variable not in environment:
            raise BadInput(
                f"--name {text}: '%{letter}' is the value of {variable}, which is not set",
                "it is set in jobs of Slurm: submit the script with sbatch"
                + (" --array=1-9" if letter in "aA" else ""),
            )
        return environment[variable]

    name = re.sub("%(.?)", put, text)
    if not name or "/" in name:
        raise BadInput(f"--name {text}: a VM cannot be called '{name}'", "write a name without '/'")
    return name


def fill(plain: dict[str, object], origins: Origins, given: Given) -> dict[str, object]:
    """Return the description *plain* with what is *given*, and without the list of variables.

    Raises:
        BadInput: what is wrong with the list, with a reference or with a value; all of it.
    """
    rest = {key: value for key, value in plain.items() if key != KEY}
    own_name = {} if given.name is None else {"name": given.name}
    if KEY not in plain:
        refuse_values(given, f"'{origins.path}' has no variables", f'list them: {KEY} = ["..."]')
        return rest | own_name
    for key in own_name:
        # A variable in a name that does not count needs no value.
        rest.pop(key, None)
    filling = _Filling(_listed(plain[KEY], origins), origins, given)
    filled = filling.table(rest)
    faults = (*filling.unknown(), *filling.faults)
    if faults:
        raise all_in_one(faults)
    return filled | own_name


def refuse_values(given: Given, why: str, hint: str) -> None:
    """Refuse values for variables that there are not.

    Raises:
        BadInput: *given* has some.
    """
    if given.values:
        names = all_of(f"'{name}'" for name in given.values)
        raise BadInput(f"cannot set {names}: {why}", hint)


def _listed(value: object, origins: Origins) -> tuple[str, ...]:
    """Return the names in the list *value*."""
    entries = value if isinstance(value, list) else [value]
    wrong = next((e for e in entries if not isinstance(e, str) or not re.fullmatch(NAME, e)), None)
    if wrong is not None or not isinstance(value, list):
        raise BadInput(
            f"{origins.describe(KEY)} is {shorten(value if wrong is None else wrong)}: expected a "
            "list of names of variables",
            f"write {KEY} = [\"SLURM_ARRAY_TASK_ID\"]: letters, digits and '_'",
            KEY,
        )
    return tuple(value)


class _Filling:
    """One description while its variables get their values."""

    def __init__(self, listed: tuple[str, ...], origins: Origins, given: Given) -> None:
        self.faults: list[BadInput] = []
        self._listed = listed
        self._origins = origins
        self._given = given

    def unknown(self) -> Iterator[BadInput]:
        """Yield what is wrong with the values that the user has set."""
        for name in self._given.values:
            if name not in self._listed:
                yield BadInput(
                    f"cannot set '{name}': {self._origins.describe(KEY)} does not list it",
                    f"add it there, and write ${{{name}}} where its value belongs",
                    KEY,
                )

    def table(self, table: dict[str, object], key: str = "") -> dict[str, object]:
        """Return *table*, which is at *key*, with values in place of variables."""
        before = f"{key}." if key else ""
        return {name: self._value(value, f"{before}{name}") for name, value in table.items()}

    def _value(self, value: object, key: str) -> object:
        if isinstance(value, dict):
            return self.table(value, key)
        if isinstance(value, list):
            return [self._value(one, f"{key}[{index}]") for index, one in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            return self._text(value)
        except BadInput as error:
            where = self._origins.describe(key)
            element = self._origins.element_of(key)
            self.faults.append(BadInput(f"{where}: {error.message}", error.hint, element))
            return value

    def _text(self, text: str) -> str | int:
        """Return *text* with values; a number if it is nothing but one variable with ``:d``."""
        whole = re.fullmatch(REFERENCE, text)
        if whole and whole[2] and whole[1].endswith(":d"):
            return int(self._put(whole))
        return re.sub(REFERENCE, self._put, text)

    def _put(self, found: re.Match[str]) -> str:
        """Return what stands in place of one reference."""
        if found[0] == "$${":
            return "${"
        inner = re.fullmatch(INNER, found[1])
        if not found[2] or inner is None:
            raise BadInput(f"'{found[0]}' is not a variable", f"{WRITE}; for the text ${{, $${{")
        name, width, form = inner.groups()
        value = self._value_of(name)
        return value if form is None else _number(name, value, int(width or 1), form)

    def _value_of(self, name: str) -> str:
        if name not in self._listed:
            raise BadInput(
                f"the variable '{name}' is not in the list '{KEY}'",
                f"add it there; for the text ${{{name}}}, write $${{{name}}}",
            )
        value = self._given.values.get(name, self._given.environment.get(name))
        if value is None:
            raise BadInput(
                f"the variable '{name}' has no value",
                f"give it one: --set {name}=VALUE, or an environment variable of this name",
            )
        return value


def _number(name: str, value: str, width: int, form: str) -> str:
    """Return *value* as a number in the *form* d or x, with zeros in front up to *width* digits."""
    # The value is not repeated: it may be a password that came into the wrong place.
    if not re.fullmatch(DIGITS, value, re.ASCII):
        raise BadInput(
            f"the value of the variable '{name}' is not a whole number",
            f"give it one with up to {MAX_DIGITS} digits, or write ${{{name}}} for any text",
        )
    text = format(int(value), f"0{width}{form}")
    if width > 1 and len(text) > width:
        raise BadInput(
            f"the value of the variable '{name}' has more than {width} digits",
            "give it a smaller one, or write more digits",
        )
    return text
