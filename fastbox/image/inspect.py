"""``inspect`` of images, in the shape of Docker's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..oci.reference import parse

if TYPE_CHECKING:
    from .types import Image


def inspect(image: Image) -> dict[str, Any]:
    """Docker's JSON of an image."""
    config = image.config.get("config")
    config = config if isinstance(config, dict) else {}
    history = image.config.get("history")
    last = history[-1] if isinstance(history, list) and history else {}
    comment = last.get("comment") if isinstance(last, dict) else ""
    result: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": [parse(name).familiar for name in image.names],
        "RepoDigests": [parse(name).familiar for name in image.repo_digests],
        "Parent": "",
        "Comment": comment or "",
        "Created": image.created,
        "DockerVersion": "",
        "Author": image.config.get("author") or "",
        "Architecture": image.architecture,
    }
    if image.variant:
        result["Variant"] = image.variant
    result |= {
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": image.layers},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
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
    return result


def _sorted(value: Any) -> dict[str, Any] | None:
    return dict(sorted(value.items())) if isinstance(value, dict) else None
