# SPDX-License-Identifier: LGPL-2.1-or-later
"""The units: as files, and under a real systemd.

    test_units     what the unit files say, and what systemd-analyze says about them
    test_booted    the installed project in a Debian whose PID 1 is systemd
    debian_root    makes that Debian's file system, once
    container      boots it with systemd-nspawn, and runs commands in it
    unit_file      reads unit files, and derives others from them
    ask, probe     run inside: a client of the helper; somebody who tries what the sandbox forbids

Depends on: the project, systemd, systemd-container, mmdebstrap, util-linux.
Never does: install anything on the machine that runs the tests.
"""
