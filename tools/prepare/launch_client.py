#!/usr/local/lib/bpferry/venv/bin/python3 -IS
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start the installed client; tools/install puts this at /usr/local/bin/bpferry.

It is called bpferry-varlink and bpferry-bridge-helper too, and bpferry-qemu-system-* for each QEMU,
by links.

Isolated, so that a user's own packages and PYTHON* variables cannot break it. Python does not look
for packages by itself (-S): that takes most of the time in which Ctrl-C would show a traceback.
"""

import _signal  # type: ignore[import-not-found]  # signal itself imports for longer than all before

# Until main() can say in one line what Ctrl-C did. What comes before this line is Python's own.
_signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))

import site  # noqa: E402
import sys  # noqa: E402

site.main()

# First: what else this host has under the same names is not this client.
sys.path.insert(0, "/usr/local/lib/bpferry/client")

if __name__ == "__main__":
    if "/bpferry-qemu-" in sys.argv[0]:
        # Imported first, since it needs little else: launchers ask a QEMU often.
        from bpferry.cli import emulator

        sys.exit(emulator.main())
    if sys.argv[0].endswith("/bpferry-bridge-helper"):
        from bpferry.cli import bridge_helper

        sys.exit(bridge_helper.main())
    from bpferry.cli.main import main, varlink

    sys.exit(varlink() if sys.argv[0].endswith("/bpferry-varlink") else main())
