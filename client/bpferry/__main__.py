# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m bpferry`` is the ``bpferry`` command."""

import signal
import sys

# Until main() can say in one line what Ctrl-C did. What comes before this line is Python's own.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))

from bpferry.cli.main import main  # noqa: E402

sys.exit(main())
