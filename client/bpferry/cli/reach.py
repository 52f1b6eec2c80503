# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry ip, ssh: the addresses of a guest, and a login there."""

import argparse
import os
import shlex
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, NoReturn

from bpferry.cli import output
from bpferry.errors import BpferryError
from bpferry.machine.control.running import connect
from bpferry.machine.folders import folders_of
from bpferry.machine.guest_addresses import (
    NO_CHANNEL,
    SSH_PORT,
    Way,
    find_addresses,
    in_vain,
    problem_of,
    ways_to_ssh,
)
from bpferry.machine.listening import make_folder

PROXY: Final = "/usr/lib/systemd/systemd-ssh-proxy"
"""What connects ssh to a vsock (systemd-ssh-proxy(1), since systemd 256)."""


def show_addresses(vm_name: str, card: str | None, *, as_json: bool) -> int:
    """Print the addresses of a guest, the best first.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: no address was found; it says what was tried.
    """
    found = find_addresses(_status(vm_name), card)
    if as_json:
        addresses = [asdict(one) for one in found.addresses]
        output.print_json({"name": vm_name, "addresses": addresses, "tried": found.tried})
        return 0
    if not found.addresses:
        raise BpferryError(
            f"no address of '{vm_name}' was found: {'; '.join(found.tried)}",
            "wait until the guest is up, or install qemu-guest-agent in it"
            + " and give the VM a channel 'org.qemu.guest_agent.0'" * (NO_CHANNEL in found.tried),
        )
    for one in found.addresses:
        if not one.reachable:
            output.say(f"{one.address} is inside user networking: this host cannot reach it")
    output.print_text("\n".join(one.address for one in found.addresses))
    return 0


def _status(vm_name: str) -> Mapping[str, object]:
    with connect(vm_name) as control:
        return control.ask("status")


def log_in(options: argparse.Namespace) -> int:
    """Become the user's ssh, connected to a guest.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: there is no ssh here, or no way to that of the guest.
    """
    if shutil.which("ssh") is None:
        raise BpferryError(
            "cannot start 'ssh': it is not installed",
            "install it; Debian's package is 'openssh-client'",
        )
    way = _choose(options.name)
    argv = [*_ssh(way, options), *options.words]
    if not options.print:
        become(argv)
    output.print_text(shlex.join(argv))
    return 0


def become(argv: Sequence[str]) -> NoReturn:
    """Replace ourselves by the program *argv*."""
    # Python ignores it, and what we become would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(argv[0], tuple(argv))  # noqa: S606 - no shell is what we want


def _choose(vm_name: str) -> Way:
    status = _status(vm_name)
    found = find_addresses(status)
    tried = list(found.tried)
    for way in ways_to_ssh(status, found):
        problem = problem_of(way)
        if not problem:
            return way
        tried.append(f"{way.what}: {problem}")
    raise in_vain(vm_name, tried)


def _ssh(way: Way, options: argparse.Namespace) -> Iterator[str]:
    """Yield the words of the ssh command.

    A guest has a key of its own, whatever address it has today, so it is kept under the VM's name.
    """
    folder = Path(folders_of(options.name).state)
    make_folder(folder)
    yield "ssh"
    yield from _option("HostKeyAlias", options.name)
    yield from _option("UserKnownHostsFile", _quoted(str(folder / "known_hosts")))
    yield from _option("StrictHostKeyChecking", "accept-new")
    yield from _option("CheckHostIP", "no")
    if way.cid is not None:
        yield from _by_vsock(way.cid)
    elif way.port != SSH_PORT:
        yield from ("-p", str(way.port))
    if options.user is not None:
        yield from ("-l", options.user)
    for word in options.option:
        yield from ("-o", word)
    yield from ("--", way.host or options.name)


def _by_vsock(cid: int) -> Iterator[str]:
    if Path(PROXY).exists():
        yield from _option("ProxyCommand", f"{PROXY} vsock/{cid} {SSH_PORT}")
        yield from _option("ProxyUseFdpass", "yes")
    elif shutil.which("socat") is not None:
        yield from _option("ProxyCommand", f"socat - VSOCK-CONNECT:{cid}:{SSH_PORT}")
    else:
        raise BpferryError(
            "cannot connect ssh to a vsock: neither systemd-ssh-proxy nor socat is installed",
            "install one; Debian's packages are 'systemd' (since 256) and 'socat'",
        )


def _option(name: str, value: str) -> Sequence[str]:
    return ("-o", f"{name}={value}")


def _quoted(path: str) -> str:
    """Return *path* as ssh takes it: in quotes, and with no percent sign that it would expand."""
    return '"' + path.replace("%", "%%") + '"'
