# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user types, and what the user reads.

    main             the command, its exit status
    runners          what runs each command, imported when it is run
    options          what each command takes, and its help
    often            the same for commands that are to be fast
    run_options      the same for bpferry run and check
    network_options  the same for the commands about taps
    given_options    a name and variables for a description
    parser           how a command line is read
    msgspec_import   import msgspec, which must not be interrupted
    stand_ins        import pathlib, and others, without what nobody needs
    create_options   the same for bpferry create
    create           bpferry create
    run              bpferry run
    dry_run          bpferry run --dry-run
    card_plans       the plans of cards, for people and for programs
    exec             bpferry exec
    exec_options     what it takes, and its help
    exec_texts       what it says about a command line
    emulator         bpferry-qemu-system-*, which libvirt takes for a QEMU
    bridge_helper    bpferry-bridge-helper, which it takes for QEMU's bridge helper
    check            bpferry check
    findings         what check and a dry run say about a description
    convert          bpferry convert
    capabilities     bpferry capabilities
    running          bpferry list, stop, pause, resume, reset
    status           bpferry status
    running_options  what these take, and their help
    reach            bpferry ip, ssh
    screens          bpferry screenshot, vnc, spice
    reach_options    what these take, and their help
    hot_plug         bpferry attach-nic, detach-nic, set-link, attach-disk, detach-disk
    hot_plug_options what these take, and their help
    service          bpferry start, restart, enable, disable
    service_options  what these take, and bpferry log, and their help
    log              bpferry log
    console          bpferry console, and the terminal of a run
    escape_key       the key that leaves a console
    console_options  what bpferry console takes, and its help
    patience         commands whose answer may take long
    slow_helpers     who waits for a helper is told so
    save             bpferry save, bpferry snapshot
    migrate          bpferry migrate
    receive          its other end, at the other host
    migrate_options  what both take, and their help
    steering         bpferry steering
    steering_options what it and metrics take, and their help
    steering_meter   count the packets of a VM's cards for a while
    steering_text    how they spread over the queues, for people
    steering_fields  the same for programs
    steering_svg     the same as a picture
    metrics          bpferry metrics
    tap              bpferry tap
    fds              bpferry fds
    fds_options      what it takes, and its help
    can_i            bpferry can-i
    table            tables, durations and sizes for people
    doctor           bpferry doctor
    colours          colours on a terminal
    output           standard output and standard error
    stderr_thread    standard error while a VM runs, for which nobody waits

Depends on: everything else in bpferry, imported when a command needs it.
Never does: load QMP or msgspec to print a help text, or report one error twice.
"""

import atexit
import gc
import sys
from types import TracebackType

GARBAGE = 500_000
"""New objects after which Python looks for garbage. What a command imports and plans is needed
until its end: to look after each 700 takes a sixth of the time that a start takes, and after each
20,000 still a sixteenth. A start makes 100,000."""


def _end_quietly(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Say in one line that Ctrl-C ended us while modules were still being imported."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, at)
    elif sys.stderr is not None:
        sys.stderr.write("bpferry: error: stopped by SIGINT\n")


# This module is imported before the others, which take a while. Python itself then ends with
# SIGINT, which a shell shows as 130.
sys.excepthook = _end_quietly
gc.set_threshold(GARBAGE)
# Before Python ends it looks for garbage in all there is, which takes a fifth of a dry run's time,
# but not in what is frozen.
atexit.register(gc.freeze)
