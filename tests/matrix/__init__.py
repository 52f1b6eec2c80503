# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QEMUs of Debian 12 and 13, themselves, and what they said when they were last asked."""
