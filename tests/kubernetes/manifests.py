# SPDX-License-Identifier: LGPL-2.1-or-later
"""What kustomize would build from a folder of docs/kubernetes, as far as these folders use it.

A kustomization that uses more, or refers to what is not there, is an error: a file or folder that
does not exist, a patch or an image that nothing has, a ConfigMap that is not generated.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs/kubernetes"

EXAMPLES: Final = ("job", "statefulset")

ALL: Final = (*EXAMPLES, "device-plugin")

KNOWN: Final = {
    "apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images", "patches",
}  # fmt: skip

IN_NO_NAMESPACE: Final = {
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}

Manifest = dict[str, Any]


class BrokenError(Exception):
    """A kustomization that refers to what is not there."""


def build(folder: Path) -> list[Manifest]:
    """Return the manifests of *folder*.

    Raises:
        BrokenError: it says what is missing.
    """
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if more := set(said) - KNOWN:
        raise BrokenError(f"'{folder}' uses {sorted(more)}")
    manifests = [
        manifest for name in said["resources"] for manifest in _resource((folder / name).resolve())
    ]
    manifests += [_generated(folder, wish) for wish in said.get("configMapGenerator", ())]
    for manifest in manifests:
        if manifest["kind"] not in IN_NO_NAMESPACE:
            manifest["metadata"]["namespace"] = said["namespace"]
    for image in said.get("images", ()):
        _name_image(manifests, image)
    for patch in said.get("patches", ()):
        _patch(manifests, patch)
    _check_config_maps(manifests)
    return manifests


def pods_of(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Yield the pod of each of *manifests* that makes pods, as a Pod."""
    for manifest in manifests:
        if "template" in manifest.get("spec", {}):
            template = copy.deepcopy(manifest["spec"]["template"])
            yield {"apiVersion": "v1", "kind": "Pod", **template}


def _resource(path: Path) -> list[Manifest]:
    if path.is_dir():
        return build(path)
    if not path.is_file():
        raise BrokenError(f"there is no '{path}'")
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest]


def _generated(folder: Path, wish: Manifest) -> Manifest:
    missing = [name for name in wish["files"] if not (folder / name).is_file()]
    if missing:
        raise BrokenError(f"'{folder}' has no {missing}")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": wish["name"]},
        "data": {name: (folder / name).read_text() for name in wish["files"]},
    }


def _containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        template = manifest.get("spec", {}).get("template", {})
        yield from template.get("spec", {}).get("containers", ())


def _name_image(manifests: list[Manifest], image: dict[str, str]) -> None:
    named = [one for one in _containers(manifests) if one["image"] == image["name"]]
    if not named:
        raise BrokenError(f"no container has the image '{image['name']}'")
    tag = f":{image['newTag']}" if "newTag" in image else ""
    for container in named:
        container["image"] = f"{image['newName']}{tag}"


def _patch(manifests: list[Manifest], patch: Manifest) -> None:
    target = patch["target"]
    wanted = (target["kind"], target["name"])
    found = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == wanted]
    if len(found) != 1:
        raise BrokenError(f"a patch is for {wanted}, of which there are {len(found)}")
    for step in yaml.safe_load(patch["patch"]):
        *folders, last = step["path"].strip("/").split("/")
        place = found[0]
        for name in folders:
            place = place.get(name, {})
        if step["op"] != "replace" or last not in place:
            raise BrokenError(f"a patch cannot {step['op']} '{step['path']}' of {wanted}")
        place[last] = step["value"]


def _check_config_maps(manifests: list[Manifest]) -> None:
    maps = {one["metadata"]["name"] for one in manifests if one["kind"] == "ConfigMap"}
    for pod in pods_of(manifests):
        for volume in pod["spec"].get("volumes", ()):
            name = volume.get("configMap", {}).get("name")
            if name is not None and name not in maps:
                raise BrokenError(f"no ConfigMap is '{name}', which a pod mounts")
