# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs as pods: the manifests of docs/kubernetes, and the image's client in a real container."""
