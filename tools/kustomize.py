"""What of kustomize our manifests use, read without kubectl: resources, components, images, patches.

`python -m tools.kustomize` compares it with `kubectl kustomize` on every overlay.
"""

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "kubernetes"
_KNOWN = {
    *("apiVersion", "kind", "namespace", "resources", "components", "images", "patches"),
    "configMapGenerator",
}
_SUFFIX = re.compile(r"-[0-9a-z]{10}$")
"""What kustomize appends to a generated name: a hash of the content."""


def overlays() -> list[str]:
    """Return the names of what can be applied."""
    return sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))


def render(folder: Path) -> list[Document]:
    """Return the documents of a folder with a kustomization.yaml.

    Raises ValueError for anything that this reader does not know.
    """
    return _render(folder, [])


def _render(folder: Path, documents: list[Document]) -> list[Document]:
    """Render a folder on top of what is there: a component patches what came before it."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(told) - _KNOWN:
        raise ValueError(f"{folder}: {', '.join(sorted(unknown))} is unknown here")
    for name in told.get("resources", []):
        path = folder / name
        documents = [*documents, *(_render(path, []) if path.is_dir() else _documents(path))]
    for name in told.get("components", []):
        documents = _render(folder / name, documents)
    for generator in told.get("configMapGenerator", []):
        _generate(folder, generator, documents)
    for patch in told.get("patches", []):
        _patch(patch, documents)
    for image in told.get("images", []):
        _tag(image, documents)
    if "namespace" in told:
        _place(told["namespace"], documents)
    return documents


def _documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _generate(folder: Path, generator: Document, documents: list[Document]) -> None:
    lines = [
        line
        for name in generator.get("envs", [])
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    data = dict(line.split("=", 1) for line in [*lines, *generator.get("literals", [])])
    if generator.get("behavior") == "merge":
        find(documents, "ConfigMap", generator["name"])["data"] |= data
        return
    metadata = {"name": generator["name"]}
    documents.append(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    )


def find(documents: list[Document], kind: str, name: str) -> Document:
    """Return the one document of a kind and name."""
    (found,) = (
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"] == name
    )
    return found


def _patch(patch: Document, documents: list[Document]) -> None:
    target = find(documents, patch["target"]["kind"], patch["target"]["name"])
    for step in yaml.safe_load(patch["patch"]):
        _apply(step, target)


def _apply(step: Document, target: Document) -> None:
    """Do one step of a JSON patch (RFC 6902), in place."""
    *path, last = (
        part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]
    )
    place: Any = target
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    match step["op"], place:
        case "add", list() if last == "-":
            place.append(step["value"])
        case "add", dict():
            place[last] = step["value"]
        case "replace", dict() if last in place:
            place[last] = step["value"]
        case "remove", dict() if last in place:
            del place[last]
        case _:
            raise ValueError(f"{step['op']} {step['path']} does not fit")


def _tag(image: Document, documents: list[Document]) -> None:
    for document in documents:
        for container in containers(document):
            if container["image"].split(":")[0] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"


def containers(document: Document) -> Iterator[Document]:
    """Give the containers of a document's pods, what initialises them first."""
    if document["kind"] == "Deployment":
        pod = document["spec"]["template"]["spec"]
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


def _place(namespace: str, documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] != "Namespace":
            document["metadata"]["namespace"] = namespace


def by_kubectl(folder: Path) -> list[Document]:
    """Return the documents as kubectl renders them."""
    ran = subprocess.run(  # noqa: S603 - our own folder
        ["kubectl", "kustomize", str(folder)],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
    )
    return list(yaml.safe_load_all(ran.stdout))


def comparable(documents: list[Document]) -> list[Document]:
    """Return documents in one order, without the hashes in generated names."""
    plain = copy.deepcopy(documents)
    for document in plain:
        if document["kind"] == "ConfigMap":
            _strip(document["metadata"], "name")
        for container in containers(document):
            for source in container.get("envFrom", []):
                _strip(source["configMapRef"], "name")
    return sorted(plain, key=lambda document: (document["kind"], document["metadata"]["name"]))


def _strip(holder: Document, key: str) -> None:
    holder[key] = _SUFFIX.sub("", holder[key])


def main() -> int:
    """Compare every overlay with kubectl. Returns 1 where one differs."""
    differs = False
    for name in overlays():
        folder = FOLDER / "overlays" / name
        same = comparable(render(folder)) == comparable(by_kubectl(folder))
        differs = differs or not same
        print(f"{name}: {'as kubectl renders it' if same else 'kubectl renders it otherwise'}")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
