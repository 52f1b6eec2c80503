#!/usr/bin/python3 -ISB
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start the installed helper; tools/install puts this at /usr/local/libexec/bpferry-helper.

Isolated, without site-packages: imports come only from Python's own library and the two folders
below, all owned by root, regardless of the environment and the current folder.
"""

import gc
import sys

# What the start creates stays, so to look for garbage in it only takes time: 5 ms. The helper turns
# this on again before it serves anybody.
gc.disable()

sys.path += [
    "/usr/local/lib/bpferry/helper",
    # Debian's packages, such as msgpack and pyroute2. pip never writes there.
    "/usr/lib/python3/dist-packages",
]

from bpferry_helper.cli import main  # noqa: E402 - the folders and the garbage collector come first

if __name__ == "__main__":
    sys.exit(main())
