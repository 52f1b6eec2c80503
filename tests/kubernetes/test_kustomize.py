# SPDX-License-Identifier: LGPL-2.1-or-later
"""The folders of docs/kubernetes by Kustomize itself, as `kubectl apply --kustomize` reads them.

No API server can be had here, so kubectl does not apply them.
"""

import re
import subprocess
from typing import Final

import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.manifests import ALL, FOLDER, IN_NO_NAMESPACE, Manifest, build
from tests.support.debian_kubectl import debian_kubectl

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

GENERATED: Final = re.compile(r"\bvm-[a-z0-9]{10}\b")
"""A ConfigMap's name ends in a hash of what is in it, also where a pod mounts it."""

VERSION: Final = "1.32"
"""Of the kubectl."""


def by_kustomize(name: str) -> list[Manifest]:
    """Return what Kustomize builds from the folder of this *name*."""
    done = subprocess.run(
        [debian_kubectl(), "kustomize", FOLDER / name],
        check=False,
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr
    return list(yaml.safe_load_all(GENERATED.sub("vm", done.stdout)))


def in_order(manifests: list[Manifest]) -> list[Manifest]:
    """Return *manifests* by kind and name, without namespaces where the API takes them away."""
    for manifest in manifests:
        if manifest["kind"] in IN_NO_NAMESPACE:
            manifest["metadata"].pop("namespace", None)
    return sorted(manifests, key=lambda one: (one["kind"], one["metadata"]["name"]))


@pytest.mark.parametrize("name", ALL)
def test_kustomize_builds_what_the_other_tests_look_at(name: str) -> None:
    """It finds nothing wrong, and its manifests are valid as they are."""
    built = by_kustomize(name)
    for manifest in built:
        kubernetes_validate.validate(manifest, VERSION, strict=True)

    assert in_order(build(FOLDER / name)) == in_order(built)
