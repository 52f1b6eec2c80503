# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy: what the administrator allows in /etc/bpferry/policy.toml.

    rules      the policy as frozen values, and who may load objects
    current    the current policy and who a uid is; read in a thread whenever a file has changed
    accounts   whose a uid is: subordinate ids, and names
    file       reads the policy file
    toml_form  parses the file into those values; every mistake has a line
    checks     one check for each kind of value in the file
    cards      the MAC addresses that users may ask for where ports have address-lock
    lines      the line in which each key is written
    names      what the names of bridges and networks may look like

Most hosts have no such file. So ``file`` imports ``toml_form``, and with it ``checks``, ``lines``
and tomllib, only if there is one to read. Who may have a tap on which bridge is decided in
tap/permission, since QEMU's bridge.conf may matter there too.

Depends on: errors and identity of bpferry_helper, bpferry_wire, tomllib.
Never does: use a file that anybody but root could have written, allow anything because of a file
with a mistake in it, or ask the kernel about a link.
"""
