#!/usr/bin/python3 -ISB
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start the installed helper; tools/install puts this at /usr/local/libexec/bpferry-helper.

Isolated, without site-packages: what can be imported is Python's own library and the two folders
below, all of them root's, whatever the environment and the current folder say.
"""

import sys

sys.path += [
    "/usr/local/lib/bpferry/helper",
    # Where Debian's packages are, msgpack and pyroute2 among them. pip never writes there.
    "/usr/lib/python3/dist-packages",
]

from bpferry_helper.cli import main

if __name__ == "__main__":
    sys.exit(main())
