"""``fastbox push``."""

from __future__ import annotations

import os
import sys

from . import content_trust, output, references
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values
from .progress import Progress


def push(app: App, values: Values, words: list[str]) -> int:
    """Upload an image; the last line of each tag has its digest."""
    reference = references.read(words[0])
    bare = reference.tag is None and reference.digest is None
    if values.all_tags and not bare:
        raise CliError("tag can't be used with --all-tags/-a", option=False)
    content_trust.check(values)
    if not values.quiet:
        if bare and not values.all_tags:
            output.line(f"Using default tag: {reference.tag_or_default}")
        output.line(f"The push refers to repository [{reference.repository}]")
    platform = values.platform or os.environ.get("DOCKER_DEFAULT_PLATFORM") or None
    with Progress(sys.stdout, quiet=values.quiet) as progress:
        app.engine.push(
            words[0], all_tags=values.all_tags, platform=platform, progress=progress.update
        )
    if values.quiet:
        name = reference.repository if values.all_tags else reference.tagged().canonical
        output.line(name)
    return 0


COMMAND = FlagCommand(
    "push",
    push,
    "NAME[:TAG]",
    (
        Flag("-a --all-tags", Switch(), "Push all tags of an image to the repository"),
        content_trust.PUSH_FLAG,
        Flag("--platform", Text(), "Push a platform-specific manifest as a single-platform image"),
        Flag("-q --quiet", Switch(), "Suppress verbose output"),
    ),
    least=1,
    most=1,
)
