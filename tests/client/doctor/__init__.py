# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``bpferry doctor`` finds: each fact in each of its states, on hosts made of files."""
