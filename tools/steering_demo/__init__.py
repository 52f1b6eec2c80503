# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration: an ordinary user's VM, steered in the host's kernel, flow by flow.

    helper    the privileged helper behind a real activated socket, with exactly its capabilities
    vm        ``bpferry run`` as the user, and the guest's console
    witness   the live key and table, read through the fds that QEMU itself holds
    rounds    send flows, predict each one's queue, ask the guest where it came in
    picture   the table, the bars and the JSON

Depends on: guest, bpferry, bpferry_wire, systemd-socket-activate or systemd, util-linux.
Never does: change anything on the host that it does not undo, or believe a prediction of its own.
"""
