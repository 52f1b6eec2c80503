# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copy the host's Python and the agent into the guest: the interpreter and only what is imported.

To find out what that is, the interpreter imports the agent on the host and lists what it loaded.
The modules are compiled on the host, since that is slow in a guest without KVM.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from guest.command import run

PYTHON = Path("/usr/bin/python3")
"""Debian's own; another one on PATH may need libraries or a library folder of its own."""

ALONE = ("-I", "-S", "-B", "-X", "utf8")
"""No environment, no site packages, no writing beside the sources, one encoding."""

LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
import guest.agent
print(sys.modules["os"].__file__)
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__)
"""


def lay_interpreter(tools: Path, root: Path) -> list[Path]:
    """Put Python, its modules and the agent from *tools* below *root*; return the ELF files."""
    printed = run([str(PYTHON), *ALONE, "-c", LOADED, str(tools)]).splitlines()
    standard = Path(printed[0]).parent
    library = root / "usr/lib" / standard.name
    # Python warns at each start if there is no folder of this name.
    (library / "lib-dynload").mkdir(parents=True)
    copied = [copy_module(Path(path), [tools, standard], library) for path in set(printed)]
    run([str(PYTHON), *ALONE, "-m", "compileall", "-b", "-q", str(library)])
    for path in library.rglob("*.py"):
        path.unlink()
    program = root / "usr/bin/python3"
    program.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PYTHON.resolve(), program)
    return [program, *(path for path in copied if path.suffix == ".so")]


def copy_module(path: Path, bases: Sequence[Path], library: Path) -> Path:
    """Copy the module at *path*, which is in one of *bases*, to the same place in *library*."""
    base = next(base for base in bases if path.is_relative_to(base))
    target = library / path.relative_to(base)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return target


def lay_libraries(programs: Sequence[Path], extra: Path, root: Path) -> None:
    """Put the shared libraries of *programs* below *root*; search the folder *extra* first."""
    listed = run(
        ["ldd", *(str(program) for program in programs)],
        environment={"LD_LIBRARY_PATH": str(extra)},
    )
    (root / "lib").mkdir(exist_ok=True)
    for name, path in re.findall(r"(\S+) => (/\S+)", listed):
        shutil.copyfile(path, root / "lib" / name)
    # The path of the loader is in each program, so the loader keeps its path.
    for loader in set(re.findall(r"^\s+(/\S+) \(", listed, re.MULTILINE)):
        (root / loader[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(loader, root / loader[1:])
