# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the administrator allows: /etc/bpferry/policy.toml, and what it decides.

    rules      what a policy says, as frozen values; who may load objects by it
    file       the policy as its file is now; read again when that has changed
    toml_form  from the text of the file to those values, each mistake with its line
    checks     one check for each kind of value in the file
    lines      the line in which each key is written
    names      what the names of bridges and networks may look like

Most hosts have no such file. So ``file`` imports ``toml_form``, and with it ``checks``, ``lines``
and tomllib, only when there is one to read. Who may have a tap on which bridge is decided in
tap/permission, since QEMU's own file may have a say in it too.

Depends on: errors and identity of bpferry_helper, bpferry_wire, tomllib.
Never does: use a file that others than root could have written, allow anything by a file with a
mistake in it, or ask the kernel about a link.
"""
