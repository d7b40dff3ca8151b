"""``inspect`` of images, in the shape of Docker's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..oci.reference import parse

if TYPE_CHECKING:
    from .types import Image

ZERO_TIME = "0001-01-01T00:00:00Z"


def inspect(image: Image, directories: Sequence[str] = ()) -> dict[str, Any]:
    """Docker's JSON of an image.

    Args:
        directories: where its layers are, top first.
    """
    config = image.config.get("config")
    config = config if isinstance(config, dict) else {}
    history = image.config.get("history")
    last = history[-1] if isinstance(history, list) and history else {}
    comment = last.get("comment") if isinstance(last, dict) else ""
    result: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": [parse(name).familiar for name in image.names],
        "RepoDigests": [parse(name).familiar for name in image.repo_digests],
        "Parent": image.parent,
        "Comment": comment or "",
        "Created": image.created or ZERO_TIME,
        "DockerVersion": "",
        "Author": image.config.get("author") or "",
        "Architecture": image.architecture,
    }
    if image.variant:
        result["Variant"] = image.variant
    result["Os"] = image.os
    if image.config.get("os.version"):
        result["OsVersion"] = image.config["os.version"]
    result |= {
        "Size": image.size,
        "GraphDriver": {"Data": _places(directories), "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": image.layers},
        "Metadata": {"LastTagTime": image.tagged or ZERO_TIME},
        "Descriptor": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": image.manifest_digest,
        },
        "Config": {
            "ExposedPorts": _sorted(config.get("ExposedPorts")),
            "Env": config.get("Env"),
            "Entrypoint": config.get("Entrypoint"),
            "Cmd": config.get("Cmd"),
            "Healthcheck": config.get("Healthcheck"),
            "Volumes": _sorted(config.get("Volumes")),
            "WorkingDir": config.get("WorkingDir") or "",
            "User": config.get("User") or "",
            "StopSignal": config.get("StopSignal") or "",
            "OnBuild": config.get("OnBuild"),
            "Labels": _sorted(config.get("Labels")),
        },
    }
    for key in ("StopTimeout", "Shell"):
        if config.get(key) is not None:
            result["Config"][key] = config[key]
    return result


def _places(directories: Sequence[str]) -> dict[str, str] | None:
    paths = list(dict.fromkeys(directories))
    if not paths:
        return None
    places = {"UpperDir": paths[0]}
    if paths[1:]:
        places["LowerDir"] = ":".join(paths[1:])
    return dict(sorted(places.items()))


def _sorted(value: Any) -> dict[str, Any] | None:
    return dict(sorted(value.items())) if isinstance(value, dict) else None
