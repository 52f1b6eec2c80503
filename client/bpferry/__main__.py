# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m bpferry`` is the ``bpferry`` command."""

import sys

from bpferry.cli.main import main

sys.exit(main())
