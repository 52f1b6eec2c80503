# SPDX-License-Identifier: LGPL-2.1-or-later
"""The admission policy of docs/kubernetes, decided by an interpreter of its language (CEL)."""

import copy
from collections.abc import Callable
from typing import Any, Final

import celpy
import pytest
from celpy.adapter import json_to_cel

from tests.kubernetes.manifests import EXAMPLES, FOLDER, Manifest, build, pods_of


def pod_of(name: str) -> Manifest:
    """Return the pod of the example *name*."""
    (pod,) = pods_of(build(FOLDER / name))
    return pod


def refusals(pod: Manifest) -> list[str]:
    """Return what the policy has against *pod*."""
    manifests = build(FOLDER / "base")
    (policy,) = (one for one in manifests if one["kind"] == "ValidatingAdmissionPolicy")
    spec = policy["spec"]
    scope: dict[str, Any] = {"object": json_to_cel(pod)}
    variables = {one["name"]: _evaluate(one["expression"], scope) for one in spec["variables"]}
    scope["variables"] = celpy.celtypes.MapType(
        {celpy.celtypes.StringType(name): value for name, value in variables.items()}
    )
    return [
        one["message"] for one in spec["validations"] if not _evaluate(one["expression"], scope)
    ]


def _evaluate(expression: str, scope: dict[str, Any]) -> Any:  # noqa: ANN401 - of CEL's types
    environment = celpy.Environment()
    return environment.program(environment.compile(expression)).evaluate(scope)


@pytest.mark.parametrize("name", EXAMPLES)
def test_pods_of_the_examples_are_let_in(name: str) -> None:
    """They have a uid of the namespace's, and only one."""
    assert [] == refusals(pod_of(name))


def of_its_own(kind: str) -> Callable[[Manifest], object]:
    """Return what gives the pod's last container of this *kind* a uid of its own."""

    def change(spec: Manifest) -> object:
        other = copy.deepcopy(spec["containers"][0])
        other["securityContext"]["runAsUser"] = 0
        return spec.setdefault(kind, []).append(other)

    return change


RANGE: Final = "must be from 20000 to 29999"
OWN: Final = "no container may have a runAsUser"

OTHERS: Final[dict[str, tuple[Callable[[Manifest], object], str]]] = {
    "the last uid before": (lambda spec: spec["securityContext"].update(runAsUser=19999), RANGE),
    "the first uid behind": (lambda spec: spec["securityContext"].update(runAsUser=30000), RANGE),
    "root": (lambda spec: spec["securityContext"].update(runAsUser=0), RANGE),
    "the image's own user": (lambda spec: spec["securityContext"].pop("runAsUser"), RANGE),
    "nothing said": (lambda spec: spec.pop("securityContext"), RANGE),
    "a container's own": (of_its_own("containers"), OWN),
    "an init container's own": (of_its_own("initContainers"), OWN),
    "that of a container for debugging": (of_its_own("ephemeralContainers"), OWN),
}


@pytest.mark.parametrize(("change", "words"), OTHERS.values(), ids=OTHERS)
def test_pod_that_could_use_another_s_quota_is_refused(
    change: Callable[[Manifest], object], words: str
) -> None:
    """However it comes to a uid that is not the namespace's."""
    pod = pod_of("job")
    change(pod["spec"])
    (said,) = refusals(pod)

    assert words in said


@pytest.mark.parametrize("uid", [20000, 29999])
def test_first_and_last_uid_are_the_namespace_s(uid: int) -> None:
    """As in the policy of the helper."""
    pod = pod_of("job")
    pod["spec"]["securityContext"]["runAsUser"] = uid

    assert [] == refusals(pod)
