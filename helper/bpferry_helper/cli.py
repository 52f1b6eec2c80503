# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``bpferry-helper``, for systemd and for the administrator.

The daemon takes no options: its unit and the policy file say what it may do. Arguments are parsed
by hand, since argparse would take a third of the start-up time.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from bpferry_helper.errors import EXIT_CRASHED, HelperError, PolicyError
from bpferry_helper.log import ERROR, log, never_wait
from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.policy.file import POLICY_PATH
from bpferry_wire import VERSION

if TYPE_CHECKING:
    from bpferry_helper.activation import Listener
    from bpferry_helper.exchange import Service

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

HELP: Final = f"""\
usage: bpferry-helper bpf | tap
       bpferry-helper check-policy [FILE]
       bpferry-helper slurm-gres [FILE]
       bpferry-helper status
       bpferry-helper keep
       bpferry-helper --version | --help

The privileged half of bpferry: it passes file descriptors to users over a Unix
socket, as far as the policy allows.

  bpf            run the service that loads QEMU's eBPF objects; systemd starts
                 it (bpferry-bpf.service) when somebody connects
  tap            run the service that makes taps on the host's bridges; systemd
                 starts it (bpferry-tap.service) when somebody connects
  check-policy   show what the policy (default: {POLICY_PATH})
                 allows, or the line of its first mistake
  slurm-gres     print what Slurm may place on this host by that policy, as
                 lines of slurm.conf
  status         show every set and tap in use, and who asked for it; as root
  keep           keep the eBPF objects of every trusted QEMU, for VMs that still
                 run when their QEMU is upgraded; bpferry-keep.service runs it

exit status: 0 done, 1 failed, 2 wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one for each command
    """Run the command in *arguments* (default: sys.argv) and return the exit status."""
    match list(sys.argv[1:] if arguments is None else arguments):
        case ["bpf"]:
            return _serve(_start_bpf)
        case ["tap"]:
            return _serve(_start_tap)
        case ["check-policy" | "slurm-gres" as command]:
            return _of_policy(command, POLICY_PATH)
        case ["check-policy" | "slurm-gres" as command, path] if not path.startswith("-"):
            return _of_policy(command, path)
        case ["status"]:
            from bpferry_helper.status import show_status  # noqa: PLC0415 - not for the daemon

            return show_status()
        case ["keep"]:
            return _keep()
        case ["--version"]:
            sys.stdout.write(f"bpferry-helper {VERSION}\n")
            return EXIT_OK
        case ["--help" | "-h"]:
            sys.stdout.write(HELP)
            return EXIT_OK
        case words:
            wrong = f"unknown arguments {' '.join(words)!r}" if words else "no command"
            sys.stderr.write(f"{HELP}\nbpferry-helper: error: wrong usage: {wrong}\n")
            return EXIT_USAGE


class _Started(NamedTuple):
    """A role that is ready to serve."""

    listener: "Listener"
    service: "Service"
    policy: PolicyFile
    finish: Callable[[], None] = lambda: None
    """Called before the helper exits because it was idle."""


def _serve(start: Callable[[], _Started]) -> int:
    # Imported late: check-policy does not need it, and works without libbpf.
    from bpferry_helper.activation import Notifier  # noqa: PLC0415
    from bpferry_helper.disposal import take_nudges  # noqa: PLC0415
    from bpferry_helper.memory import keep_little  # noqa: PLC0415
    from bpferry_helper.server import Server  # noqa: PLC0415
    from bpferry_helper.work import log_fault  # noqa: PLC0415

    never_wait()
    keep_little()
    take_nudges()
    try:
        notifier = Notifier(os.environ)
        role = start()
    except HelperError as error:
        log(ERROR, str(error))
        return EXIT_FAILED
    # The launcher turned it off. What the start created stays, and is never looked through: that
    # would take 7 ms, now and again later while clients wait.
    gc.freeze()
    gc.enable()
    server = Server(role.listener.sock, role.service, notifier, role.policy)
    try:
        server.serve()
        role.finish()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not count as a failed start
        log_fault("serving", error)
        return EXIT_CRASHED
    return EXIT_OK


def _start_bpf() -> _Started:
    from bpferry_helper.activation import adopt_listener  # noqa: PLC0415
    from bpferry_helper.bpf.libbpf import library  # noqa: PLC0415
    from bpferry_helper.bpf.service import BpfService  # noqa: PLC0415
    from bpferry_helper.bpf.state import StateFolder  # noqa: PLC0415
    from bpferry_helper.privilege import shrink  # noqa: PLC0415

    listener = adopt_listener(os.environ)
    shrink("bpf")
    library()
    policy = PolicyFile(POLICY_PATH, listener.gid)
    state = StateFolder(os.environ.get("STATE_DIRECTORY", ""))
    return _Started(listener, BpfService(policy, state), policy)


def _start_tap() -> _Started:
    from bpferry_helper.activation import adopt_listener_and_netlinks  # noqa: PLC0415
    from bpferry_helper.privilege import shrink  # noqa: PLC0415

    listener, netlink, changes = adopt_listener_and_netlinks(os.environ)
    shrink("tap")
    # pyroute2 is imported after all other privileges are given up.
    from bpferry_helper.tap.netlink import Netlink, open_netlink  # noqa: PLC0415
    from bpferry_helper.tap.service import TapService  # noqa: PLC0415

    policy = PolicyFile(POLICY_PATH, listener.gid)
    service = TapService(policy, Netlink(netlink), open_netlink(), changes)
    service.keep_sweeping()
    return _Started(listener, service, policy, service.sweep)


def _keep() -> int:
    from bpferry_helper.bpf.state import StateFolder  # noqa: PLC0415 - not for the daemon
    from bpferry_helper.bpf.trust import TrustedObjects  # noqa: PLC0415
    from bpferry_helper.policy.file import read_policy  # noqa: PLC0415

    try:
        policy = read_policy(POLICY_PATH, os.getgid())
        state = StateFolder(os.environ.get("STATE_DIRECTORY", ""))
        TrustedObjects(state).keep_all(policy.trusted)
    except (HelperError, OSError) as error:
        log(ERROR, f"cannot keep the objects of QEMU: {error}")
        return EXIT_FAILED
    return EXIT_OK


def _of_policy(command: str, path: str) -> int:
    """Print what *command* says of the policy in *path*."""
    if command == "slurm-gres":
        from bpferry_helper.slurm import describe_gres as describe  # noqa: PLC0415 - this one alone
    else:
        from bpferry_helper.status import describe_policy as describe  # noqa: PLC0415 - as above
    try:
        sys.stdout.write(describe(path))
    except PolicyError as error:
        sys.stderr.write(f"bpferry-helper: error: {error}\n")
        return EXIT_FAILED
    return EXIT_OK
