# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completions for bash, zsh and fish, by shtab: what can come next, and the names of VMs.

Names come from folders and not from ``bpferry list``, so that the shell answers at once. They are
those of VMs that run (their control sockets) and of descriptions that can be started by name.
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

VMS: Final = f"""\
uid=$(id -u)
for path in "${{XDG_RUNTIME_DIR:-/run/user/$uid}}"/bpferry/*/control.sock \\
    /run/user/$uid/bpferry/*/control.sock /tmp/bpferry-$uid/bpferry/*/control.sock \\
    "${{XDG_CONFIG_HOME:-$HOME/.config}}"/bpferry/vms/*.toml \\
    "${{XDG_CONFIG_HOME:-$HOME/.config}}"/bpferry/vms/*.xml; do
    [ -e "$path" ] || continue
    name=${{path%/control.sock}}
    name=${{name##*/}}
    [ "${{path##*/}}" = control.sock ] || name=${{name%.*}}
    case $name in
    *-{HEX} | *[!A-Za-z0-9._-]*) ;;
    *) printf "%s\\n" "$name" ;;
    esac
done | sort -u"""
"""Names that a shell would take for something else are left out, and folders with a digest in place
of a VM's name."""

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

LISTS: Final = {"vms": VMS, "bridges": BRIDGES, "taps": TAPS}
"""What completes, as programs for sh(1) without a single quote."""

EITHER: Final = {
    "bash": '_bpferry_descriptions() {\n  _bpferry_vms "$1"\n  _shtab_compgen_files "$1"\n}\n',
    "zsh": '_bpferry_descriptions() {\n  _bpferry_vms "$@"\n  _files "$@"\n}\n',
    "fish": (
        "function _bpferry_descriptions\n  _bpferry_vms\n"
        "  __fish_complete_path (commandline -ct)\nend\n"
    ),
}
"""Names of VMs, and files."""

NAMED_OR_FILE: Final = (("run",), ("check",))
"""The commands whose FILE may be the name of a VM."""

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
    return _listed("taps" if command.words[0] == "tap" else "vms")


def _listed(name: str) -> Mapping[str, str]:
    function = f"_bpferry_{name}"
    return {"bash": function, "zsh": function, "fish": f"({function})"}
