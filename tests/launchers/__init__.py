# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other launchers, each started for real, with the changes of docs/with/ and no more."""
