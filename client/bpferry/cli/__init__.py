# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user types, and what the user reads.

    main             the command, its exit status
    options          what each command takes, and its help
    network_options  the same for the commands about taps
    parser           how a command line is read
    run              bpferry run
    dry_run          bpferry run --dry-run
    check            bpferry check
    findings         what check and a dry run say about a description
    convert          bpferry convert
    capabilities     bpferry capabilities
    tap              bpferry tap
    can_i            bpferry can-i
    output           standard output and standard error

Depends on: everything else in bpferry, imported when a command needs it.
Never does: load QMP or msgspec to print a help text, or report one error twice.
"""
