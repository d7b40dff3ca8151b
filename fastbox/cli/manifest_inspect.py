"""``fastbox manifest inspect``."""

from __future__ import annotations

import base64
import json
from typing import Any

from ..errors import ImageError
from . import output, references
from .command import App, FlagCommand
from .flags import Flag, Switch, Values

_OCI = "application/vnd.oci."


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Show what a registry has under a name, as JSON."""
    references.read(words[0])
    found = app.engine.inspect_manifest(words[0], verbose=values.verbose, insecure=values.insecure)
    if not values.verbose:
        output.write(_shown(_parsed(found.data)))
        return 0
    parts = [_part(part) for part in found.parts]
    output.write(_shown(parts if found.several else parts[0]))
    return 0


def _part(part: Any) -> dict[str, Any]:
    """Docker's description of one manifest."""
    document = _parsed(part.data)
    media_type = part.descriptor.get("mediaType") or document.get("mediaType") or ""
    kind = "OCIManifest" if media_type.startswith(_OCI) else "SchemaV2Manifest"
    return {
        "Ref": part.reference,
        "Descriptor": part.descriptor,
        "Raw": base64.b64encode(part.data).decode("ascii"),
        kind: document,
    }


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ImageError("the registry's manifest is not JSON") from None


def _shown(value: Any) -> str:
    """JSON in Docker's shape, without anything that a terminal would obey."""
    text = json.dumps(value, indent="\t", ensure_ascii=False)
    # Escaped by json, which makes two of what is beyond U+FFFF.
    return (
        "".join(c if c.isprintable() or c in "\n\t" else json.dumps(c)[1:-1] for c in text) + "\n"
    )


COMMAND = FlagCommand(
    "manifest_inspect",
    inspect,
    "MANIFEST",
    (
        Flag("--insecure", Switch(), "Allow communication with an insecure registry"),
        Flag("-v --verbose", Switch(), "Output additional info including layers and platform"),
    ),
    least=1,
    most=1,
)
