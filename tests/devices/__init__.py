# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each kind of device in a real QEMU, found there over QMP."""
