# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole chain: helper, client, QEMU, and a guest that counts."""
