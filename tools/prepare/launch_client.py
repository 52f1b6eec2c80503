#!/usr/local/lib/bpferry/venv/bin/python3 -I
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start the installed client; tools/install puts this at /usr/local/bin/bpferry.

It is called bpferry-varlink too, by a link.

Isolated, so that a user's own packages and PYTHON* variables cannot break it.
"""

import signal
import sys

# Until main() can say in one line what Ctrl-C did. What comes before this line is Python's own.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))

# First: what else this host has under the same names is not this client.
sys.path.insert(0, "/usr/local/lib/bpferry/client")

from bpferry.cli.main import main, varlink  # noqa: E402

if __name__ == "__main__":
    sys.exit(varlink() if sys.argv[0].endswith("/bpferry-varlink") else main())
