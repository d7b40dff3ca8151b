"""``fastbox pull``."""

from __future__ import annotations

import os
import sys

from . import content_trust, output, references
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values
from .progress import Progress


def pull(app: App, values: Values, words: list[str]) -> int:
    """Download an image, or all of a repository; the full name is the last line."""
    reference = references.read(words[0])
    if values.all_tags and (reference.tag or reference.digest):
        raise CliError("tag can't be used with --all-tags/-a", option=False)
    content_trust.check(values)
    platform = values.platform or None
    if platform is None and not values.all_platforms:
        platform = os.environ.get("DOCKER_DEFAULT_PLATFORM") or None
    options = {"platform": platform, "all_platforms": values.all_platforms}
    with Progress(sys.stdout, quiet=values.quiet) as progress:
        if values.all_tags:
            results = app.engine.pull_all(words[0], progress=progress.update, **options)
        else:
            if not values.quiet:
                _announce(reference.tag, reference.digest, reference.path)
            results = [app.engine.pull(words[0], progress=progress.update, **options)]
    if values.all_tags:
        progress.status(reference.familiar_repository, [r.status for r in results])
        output.line(reference.repository)
        return 0
    progress.summary(results[0])
    output.line(reference.tagged().canonical)
    return 0


def _announce(tag: str | None, digest: str | None, path: str) -> None:
    from ..oci.reference import DEFAULT_TAG

    if tag is None and digest is None:
        output.line(f"Using default tag: {DEFAULT_TAG}")
    output.line(f"{digest or tag or DEFAULT_TAG}: Pulling from {path}")


COMMAND = FlagCommand(
    "pull",
    pull,
    "NAME[:TAG|@DIGEST]",
    (
        Flag("--all-platforms", Switch(), "Download the images of all platforms"),
        Flag("-a --all-tags", Switch(), "Download all tagged images in the repository"),
        content_trust.FLAG,
        Flag("--platform", Text(), "Set platform if the image is for several"),
        Flag("-q --quiet", Switch(), "Suppress verbose output"),
    ),
    least=1,
    most=1,
)
