# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user types, and what the user reads.

    main           the command, its options, its exit status
    run            bpferry run
    check          bpferry check
    convert        bpferry convert
    capabilities   bpferry capabilities
    output         standard output and standard error

Depends on: everything else in bpferry, imported when a command needs it.
Never does: load QMP or msgspec to print a help text, or print twice about one error.
"""
