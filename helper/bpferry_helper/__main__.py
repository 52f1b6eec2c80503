# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m bpferry_helper``."""

import sys

from bpferry_helper.cli import main

sys.exit(main())
