# SPDX-License-Identifier: LGPL-2.1-or-later
"""The wire: codec, messages, channel, fds. None of this needs root."""
