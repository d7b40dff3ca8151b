"""``fastbox images``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..oci.reference import parse
from . import human, output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Values
from .listing import FORMAT, filter_flag
from .tables import render

if TYPE_CHECKING:
    from ..image.types import Image

NONE = "<none>"
# Who types one of these behind `images` most likely means `image`.
_VERBS = frozenset(
    ("build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm",
     "save", "tag"),
)  # fmt: skip
HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}


def images(app: App, values: Values, words: list[str]) -> int:
    """List images, newest first; one line per name."""
    if values.tree:
        raise CliError(
            "--tree is not supported", hint="`fastbox system df -v` shows what images share"
        )
    found = app.engine.images(
        words[0] if words else None, all=values.all, filters=values.filter or {}
    )
    # The digest is a line's own only where it is shown.
    digests = values.digests or "{{.Digest}}" in (values.format or "")
    lines = [line for image in found for line in lines_of(image, digests)]
    trunc = not values.no_trunc
    if values.quiet and not values.format:
        output.write("".join(f"{_identity(image, trunc)}\n" for image, _, _, _ in lines))
        return 0
    default = "Repository\tTag\tDigest\t" if values.digests else "Repository\tTag\t"
    output.write(
        render(
            [row(*line, trunc=trunc) for line in lines],
            format=values.format or "",
            default=default + "ID\tCreatedSince\tSize",
            headers=HEADERS,
            type_name="*formatter.imageContext",
        )
    )
    if words and not found and app.spelling == "images" and words[0] in _VERBS:
        output.error(
            f'\nNo images found matching "{words[0]}": did you mean "fastbox image {words[0]}"?'
        )
    return 0


def lines_of(image: Image, digests: bool) -> list[tuple[Image, str, str, str]]:
    """(image, repository, tag, digest) of each line."""
    of_repository: dict[str, str] = {}
    for name in image.repo_digests:
        reference = parse(name)
        of_repository[reference.familiar_repository] = reference.digest or NONE
    lines = []
    for name in image.names:
        reference = parse(name)
        repository = reference.familiar_repository
        digest = of_repository.get(repository, NONE)
        lines.append((image, repository, reference.tag_or_default, digest))
    tagged = {repository for _, repository, _, _ in lines}
    for repository, digest in of_repository.items():
        if repository not in tagged and (digests or not lines):
            lines.append((image, repository, NONE, digest))
    return lines or [(image, NONE, NONE, NONE)]


def _identity(image: Image, trunc: bool) -> str:
    return image.short_id if trunc else image.id


def row(
    image: Image, repository: str, tag: str, digest: str, *, trunc: bool = True
) -> dict[str, Callable[..., Any]]:
    """The fields of one line."""
    return {
        "Containers": lambda: "N/A",
        "CreatedAt": lambda: human.local_time(image.created),
        "CreatedSince": lambda: human.ago(image.created),
        "Digest": lambda: digest,
        "ID": lambda: _identity(image, trunc),
        "Repository": lambda: repository,
        "SharedSize": lambda: "N/A",
        "Size": lambda: human.size(image.size),
        "Tag": lambda: tag,
        "UniqueSize": lambda: "N/A",
        "VirtualSize": lambda: human.size(image.size, 4),
    }


COMMAND = FlagCommand(
    "images",
    images,
    "[REPOSITORY[:TAG]]",
    (
        Flag("-a --all", Switch(), "Show all images (default hides intermediate images)"),
        Flag("--digests", Switch(), "Show digests"),
        filter_flag("-f --filter", "Filter output based on conditions provided"),
        FORMAT,
        Flag("--no-trunc", Switch(), "Don't truncate output"),
        Flag("-q --quiet", Switch(), "Only show image IDs"),
        Flag("--tree", Switch(), "List multi-platform images as a tree", hidden=True),
    ),
    most=1,
)
