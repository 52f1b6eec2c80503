# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completions for bash, zsh and fish, by shtab: what can come next, and the names of VMs.

Names come from sockets and folders and not from ``bpferry list``, so that the shell answers at
once: those of VMs that run, of those with a log, or of those that can be started by name.
"""

import argparse
from collections.abc import Mapping
from typing import Final

import shtab

from manuals.commands import Command, all_commands

SHELLS: Final = {
    "bash": "bash-completion/completions/bpferry",
    "zsh": "zsh/site-functions/_bpferry",
    "fish": "fish/vendor_completions.d/bpferry.fish",
}
"""Where each shell looks for its file, below /usr/local/share."""

HEX: Final = "[0-9a-f]" * 12

PLAIN: Final = f"""\
while read -r name; do
    case $name in
    *-{HEX} | *[!A-Za-z0-9._-]*) ;;
    *) printf "%s\\n" "$name" ;;
    esac
done | sort -u"""
"""Names that a shell would take for something else are left out, and folders with a digest in place
of a VM's name."""

RUNNING: Final = f"""\
uid=$(id -u)
run=${{XDG_RUNTIME_DIR:-/run/user/$uid}}
grep -F /control.sock /proc/net/unix | while read -r _ _ _ flags _ _ _ path; do
    name=${{path%/control.sock}}
    name=${{name##*/}}
    case $flags:$path in
    00010000:"${{run%/}}/bpferry/$name/control.sock" | \\
    00010000:"/run/user/$uid/bpferry/$name/control.sock" | \\
    00010000:"/tmp/bpferry-$uid/bpferry/$name/control.sock") printf "%s\\n" "$name" ;;
    esac
done | {PLAIN}"""
"""Sockets on which somebody listens (__SO_ACCEPTCON, linux/net.h); one of a VM that was killed is
only a file. Known hole: those of VMs in another network namespace are not in this file."""

LOGGED: Final = f"""\
for path in "${{XDG_STATE_HOME:-$HOME/.local/state}}"/bpferry/*/log; do
    [ -e "$path" ] || continue
    path=${{path%/log}}
    printf "%s\\n" "${{path##*/}}"
done | {PLAIN}"""
"""What was said about a VM, unless it is in the journal: then the VM has a description."""

DESCRIBED: Final = f"""\
for path in "${{XDG_CONFIG_HOME:-$HOME/.config}}"/bpferry/vms/*.toml \\
    "${{XDG_CONFIG_HOME:-$HOME/.config}}"/bpferry/vms/*.xml; do
    [ -e "$path" ] || continue
    path=${{path##*/}}
    printf "%s\\n" "${{path%.*}}"
done | {PLAIN}"""

BRIDGES: Final = """\
for path in /sys/class/net/*/bridge; do
    [ -e "$path" ] || continue
    path=${path%/bridge}
    printf "%s\\n" "${path##*/}"
done"""

TAPS: Final = """\
for path in /sys/class/net/bfp*; do
    [ -e "$path" ] && printf "%s\\n" "${path##*/}"
done"""

LISTS: Final = {
    "running": RUNNING,
    "described": DESCRIBED,
    "logged": f"{{ {LOGGED}\n{DESCRIBED}; }} | sort -u",
    "bridges": BRIDGES,
    "taps": TAPS,
}
"""What completes, as programs for sh(1) without a single quote."""

EITHER: Final = {
    "bash": (
        '_bpferry_descriptions() {\n  _bpferry_described "$1"\n  _shtab_compgen_files "$1"\n}\n'
    ),
    "zsh": '_bpferry_descriptions() {\n  _bpferry_described "$@"\n  _files "$@"\n}\n',
    "fish": (
        "function _bpferry_descriptions\n  _bpferry_described\n"
        "  __fish_complete_path (commandline -ct)\nend\n"
    ),
}
"""Names of VMs, and files."""

NAMED_OR_FILE: Final = (("run",), ("check",))
"""The commands whose FILE may be the name of a VM."""

DESCRIBED_BY_NAME: Final = ("start", "restart", "enable", "disable")
"""The commands about VMs that have a description, whether they run or not. Of one that has ended,
there is still a log; all other commands are about VMs that run."""

FUNCTIONS: Final = {
    "bash": '_bpferry_{0}() {{\n  compgen -W "$(sh -c \'{1}\')" -- "$1"\n}}\n',
    "zsh": (
        "_bpferry_{0}() {{\n  local -a found\n"
        '  found=(${{(f)"$(sh -c \'{1}\')"}})\n  compadd "$@" -a found\n}}\n'
    ),
    "fish": "function _bpferry_{0}\n  sh -c '{1}'\nend\n",
}


def completion(shell: str) -> str:
    """Return the file for *shell*."""
    commands = list(all_commands())
    for command in commands:
        for action in command.parser._actions:  # noqa: SLF001 - argparse has no other way
            kind = kind_of(command, action)
            if kind:
                # shtab reads this attribute.
                vars(action)["complete"] = kind
    functions = [FUNCTIONS[shell].format(name, text) for name, text in LISTS.items()]
    preamble = "\n".join((*functions, EITHER[shell]))
    made = shtab.complete(commands[0].parser, shell, preamble=preamble)
    return "\n".join(line.rstrip() for line in made.splitlines()) + "\n"


def kind_of(command: Command, action: argparse.Action) -> Mapping[str, str] | None:
    """Return what completes the value of *action*; None if its words or nothing do."""
    if action.nargs == 0 or action.choices:
        return None
    place = action.metavar or action.dest
    if place == "FILE" and command.words in NAMED_OR_FILE and not action.option_strings:
        return _listed("descriptions")
    if "FILE" in str(place) or place == "QEMU":
        return shtab.FILE  # type: ignore[return-value]  # its type allows more than it has
    if "--bridge" in action.option_strings or place == "BRIDGE":
        return _listed("bridges")
    if action.option_strings or place != "NAME" or command.words == ("create",):
        return None
    return _listed(_whose_name(command.words[0]))


def _whose_name(word: str) -> str:
    """Return which of ``LISTS`` completes the NAME of the command *word*."""
    if word in DESCRIBED_BY_NAME:
        return "described"
    return {"tap": "taps", "log": "logged"}.get(word, "running")


def _listed(name: str) -> Mapping[str, str]:
    function = f"_bpferry_{name}"
    return {"bash": function, "zsh": function, "fish": f"({function})"}
