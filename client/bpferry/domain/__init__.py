# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM is, as a frozen value, and where that value is read from.

    model      the value
    document   the keys of the native description, their types and bounds
    checks     what else has to hold, and the way into the model
    toml       the file, and what is said about one that is wrong

Depends on: errors; msgspec, in document and toml alone.
Never does: start a process, open a device, or look whether a file that is named exists.
"""
