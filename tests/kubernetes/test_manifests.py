# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manifests of docs/kubernetes: valid, consistent, and what the page says they are."""

import re
import shutil
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.manifests import (
    ALL,
    EXAMPLES,
    FOLDER,
    BrokenError,
    Manifest,
    build,
    pods_of,
)

VERSIONS: Final = ("1.31", "1.37")
"""The oldest that has all that is used, and the newest whose schemas we have."""

OF_A_PATH: Final = {"path", "mountPath", "permissions", "readOnly", "type", "limit"}
"""What the generic device plugin knows of a path of a group."""


def built(name: str) -> list[Manifest]:
    """Return the manifests of the folder of this *name*."""
    return build(FOLDER / name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ALL)
def test_manifests_are_valid(name: str, version: str) -> None:
    """As the API's own schemas say, which allow no field that they do not know."""
    for manifest in built(name):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_misspelled_field_would_be_found() -> None:
    """The check above can fail."""
    job = next(one for one in built("job") if one["kind"] == "Job")
    job["spec"]["paralellism"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="paralellism"):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


BREAKS: Final = {
    "a resource that is not there": ("- job.yaml", "- jobs.yaml", "there is no"),
    "a base that is not there": ("- ../base", "- ../bases", "there is no"),
    "a patch for nothing": ("name: web", "name: webs", "a patch is for"),
    "a patch of nothing": ("path: /spec/template", "path: /spec/templates", "cannot replace"),
    "an image that nothing has": ("- name: bpferry", "- name: ferry", "no container has"),
    "what is not read here": ("images:", "components: []\nimages:", "uses"),
    "no description": ("- ../base\n", "", "no ConfigMap is 'vm'"),
}


@pytest.mark.parametrize(("old", "new", "words"), BREAKS.values(), ids=BREAKS)
def test_broken_reference_is_found(tmp_path: Path, old: str, new: str, words: str) -> None:
    """Each kind of reference that a kustomization has is looked at."""
    shutil.copytree(FOLDER, tmp_path / "k")
    path = tmp_path / "k/job/kustomization.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BrokenError, match=words):
        build(path.parent)


@pytest.mark.parametrize("name", EXAMPLES)
def test_pod_with_a_vm_has_no_privilege(name: str) -> None:
    """It passes the standard "restricted": no path of the host, no capability, no root."""
    (pod,) = pods_of(built(name))
    spec = pod["spec"]
    (container,) = spec["containers"]

    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert spec["securityContext"]["runAsNonRoot"]
    assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
    assert {"drop": ["ALL"]} == container["securityContext"]["capabilities"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_plugin_hands_out_what_pods_ask_for() -> None:
    """One unit is KVM, vhost and the folder of the sockets, in the plugin's own words."""
    (plugin,) = (one for one in built("device-plugin") if one["kind"] == "DaemonSet")
    (container,) = plugin["spec"]["template"]["spec"]["containers"]
    option, text = container["args"]
    device = yaml.safe_load(text)
    (group,) = device["groups"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    asked = {
        resource.removeprefix("squat.ai/")
        for name in EXAMPLES
        for pod in pods_of(built(name))
        for resource in pod["spec"]["containers"][0]["resources"]["limits"]
        if "/" in resource
    }

    assert ("--device", {device["name"]}) == (option, asked)
    assert ({"name", "groups"}, {"count", "paths"}) == (set(device), set(group))
    assert ["/dev/kvm", "/dev/vhost-net", "/run/bpferry"] == [p["path"] for p in group["paths"]]
    assert all(set(path) <= OF_A_PATH for path in group["paths"])
    assert {"/dev", "/run/bpferry"} <= mounts
    assert {"/run/bpferry"} == {path.rpartition("/")[0] for path in _listening()}


def _listening() -> list[str]:
    """Return where the helpers' units listen."""
    units = [path.read_text() for path in (FOLDER.parents[1] / "systemd").glob("*.socket")]
    return re.findall(r"^ListenSequentialPacket=(.*)$", "".join(units), re.MULTILINE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_uid_of_a_pod_is_the_namespace_s(name: str) -> None:
    """The namespace's range, the admission's, the policy's in the comment, and the pods' uids."""
    manifests = built(name)
    namespace = next(one for one in manifests if one["kind"] == "Namespace")
    ids = namespace["metadata"]["labels"]["bpferry/uids"]
    low, high = map(int, ids.split("-"))
    (pod,) = pods_of(manifests)
    policy = next(one for one in manifests if one["kind"] == "ValidatingAdmissionPolicy")

    assert low <= pod["spec"]["securityContext"]["runAsUser"] <= high
    assert f"uids-{ids}" == policy["metadata"]["name"]
    assert f'[users."{ids}"]' in (FOLDER / "base/accounts.yaml").read_text()
    assert f'[users."{ids}"]' in (FOLDER.parent / "clusters.md").read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_time_to_power_down_is_longer_than_bpferry_waits(name: str) -> None:
    """Otherwise the kubelet kills QEMU before bpferry ends it."""
    manifests = built(name)
    (pod,) = pods_of(manifests)
    script = next(one for one in manifests if one["kind"] == "ConfigMap")["data"]["vm.sh"]
    waits = re.search(r"--stop-timeout (\d+)", script)

    assert waits is not None
    assert int(waits[1]) < pod["spec"]["terminationGracePeriodSeconds"]


def test_no_two_examples_have_the_same_addresses() -> None:
    """Each is on the same bridge."""
    series = [
        variable["value"]
        for name in EXAMPLES
        for pod in pods_of(built(name))
        for variable in pod["spec"]["containers"][0]["env"]
        if variable["name"] == "SERIES"
    ]

    assert len(EXAMPLES) == len(set(series))
