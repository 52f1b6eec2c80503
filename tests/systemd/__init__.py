# SPDX-License-Identifier: LGPL-2.1-or-later
"""The units: as files, and under a real systemd.

    test_units     what the unit files say, and what systemd-analyze says about them
    test_booted    the helper bpf, installed in a Debian whose PID 1 is systemd
    test_booted_tap                  the helper tap, in the same
    test_install   what tools/install makes there, and takes away again
    test_packages  what Debian packages of bpferry make there
    packaged_vm    a VM of an ordinary user there, and datagrams to it
    test_demo      the demonstration there
    test_user_units                  VMs under the systemd of their user
    helper_unit    one of the helpers as a service
    debian_root    makes that Debian's file system, once
    container      boots it with systemd-nspawn, and runs commands in it
    unit_file      reads unit files, and derives others from them
    ask, ask_tap   run inside: clients of the helpers
    leave_answers  runs inside: asks with the helper's own socket, and does not read
    probe          runs inside: somebody who tries what the sandbox forbids
    first_vm, bridge_vm              run inside: what a user does, with a tap and on a bridge

Depends on: the project, systemd, systemd-container, mmdebstrap, util-linux.
Never does: install anything on the machine that runs the tests.
"""
