# SPDX-License-Identifier: LGPL-2.1-or-later
"""The prototypes that ctypes is told are those of the header."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from bpferry_helper.bpf.libbpf import PROTOTYPES, MapInfo
from tests import requires

C_NAMES: dict[object, str] = {
    None: "void",
    ctypes.c_int: "int",
    ctypes.c_uint32: "unsigned int",
    ctypes.c_size_t: "unsigned long",
    ctypes.c_void_p: "void *",
    ctypes.c_char_p: "const char *",
    ctypes.POINTER(ctypes.c_uint32): "unsigned int *",
}

HEAD = """
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/libbpf.h>
#include <bpf/bpf.h>

/* Whether a type is a pointer, and its size: what ctypes has to know of an opaque one. */
#define IS_POINTER(type) (__builtin_classify_type((type)0) == 5)
"""


def compiles(source: str, tmp_path: Path) -> str:
    """Compile *source* with all warnings as errors; return what gcc says."""
    file = tmp_path / "prototypes.c"
    file.write_text(source)
    command = [requires.program("gcc"), "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def call_of(name: str) -> str:
    """Return a C function that calls *name* with arguments of just our types."""
    result, arguments = PROTOTYPES[name]
    names = [f"a{number}" for number in range(len(arguments))]
    parameters = ", ".join(f"{C_NAMES[a]} {n}" for a, n in zip(arguments, names, strict=True))
    returns = "" if result is None else "return "
    cast = "(void *)" if result is ctypes.c_void_p else ""
    call = f"{name}({', '.join(names)})"
    if cast:
        call = f"{cast}{call}"
    count = f'_Static_assert({len(arguments)} == {len(names)}, "");'
    return (
        f"{count}\n{C_NAMES[result]} call_{name}({parameters or 'void'});\n"
        f"{C_NAMES[result]} call_{name}({parameters or 'void'}) {{ {returns}{call}; }}\n"
        f"{size_check(name)}"
    )


def size_check(name: str) -> str:
    """Return an assertion that the header's result is as wide as ours."""
    result, arguments = PROTOTYPES[name]
    if result is None:
        return ""
    nulls = ", ".join("0" for _ in arguments)
    return (
        f'_Static_assert(sizeof({name}({nulls})) == {ctypes.sizeof(result)}, "result of {name}");\n'
    )


@pytest.mark.parametrize("name", PROTOTYPES)
def test_a_prototype_compiles_against_the_header(name: str, tmp_path: Path) -> None:
    """Number, width and kind of arguments and result agree with bpf/libbpf.h."""
    assert compiles(HEAD + call_of(name), tmp_path) == ""


def test_a_wrong_prototype_does_not_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above can fail: with one argument too few, and with a number for a pointer."""
    for wrong in (
        (ctypes.c_int, (ctypes.c_void_p,)),
        (ctypes.c_int, (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)),
        (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    ):
        monkeypatch.setitem(PROTOTYPES, "bpf_program__set_log_buf", wrong)

        assert compiles(HEAD + call_of("bpf_program__set_log_buf"), tmp_path) != ""


def test_the_fields_of_a_map_s_info_are_where_the_kernel_has_them(tmp_path: Path) -> None:
    """Type and id, the first two of struct bpf_map_info."""
    checks = "".join(
        f"_Static_assert(offsetof(struct bpf_map_info, {name}) == "
        f'{getattr(MapInfo, name).offset}, "{name}");\n'
        for name in ("type", "id")
    )

    assert compiles(HEAD + checks, tmp_path) == ""
