# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m bpferry`` is the ``bpferry`` command."""

import _signal  # type: ignore[import-not-found]  # signal itself imports for longer than all before

# Until main() can say in one line what Ctrl-C did. What comes before this line is Python's own.
_signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))

import sys  # noqa: E402

from bpferry.cli.main import main  # noqa: E402

sys.exit(main())
