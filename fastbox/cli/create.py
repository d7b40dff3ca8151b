"""``fastbox create``, and what ``run`` does first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import InvalidArgument, NotFound
from . import content_trust, output, parse_network, parse_policy, references, run_options
from .cidfile import CidFile
from .command import App, FlagCommand
from .errors import CliError
from .flags import Values

if TYPE_CHECKING:
    from ..container.record import Container


def create(app: App, values: Values, words: list[str]) -> int:
    """Print the id of a new container."""
    output.line(create_container(app, values, words).id)
    return 0


def create_container(
    app: App, values: Values, words: list[str], *, transient: bool = False
) -> Container:
    """Make a container out of flags; a missing image is pulled.

    Args:
        transient: it is about to be started, see ``Engine.create``.

    Raises:
        FastboxError
    """
    policy = parse_policy.pull_policy(values.pull)
    content_trust.check(values)
    config = run_options.build(values, words)
    if config.oom_kill_disable and not config.memory:
        output.error(
            "WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' "
            "limit may be dangerous."
        )
    parse_network.warn(config)
    platform = _platform(values.platform or os.environ.get("DOCKER_DEFAULT_PLATFORM") or "")
    with CidFile(values.cidfile or "") as cidfile:
        references.check_image(config.image)
        if policy == "always":
            _pull(app, config.image, platform, quiet=values.quiet)
        try:
            box: Container = app.engine.create(
                config, pull="never", platform=platform, transient=transient
            )
        except NotFound as error:
            if policy != "missing" or not str(error).startswith("No such image"):
                raise
            _announce(config.image)
            _pull(app, config.image, platform, quiet=values.quiet)
            box = app.engine.create(config, pull="never", platform=platform, transient=transient)
        cidfile.write(box.id)
    for warning in box.warnings:
        output.error(f"WARNING: {warning}")
    return box


def _platform(text: str) -> str | None:
    if not text:
        return None
    from ..oci.platform import parse

    try:
        parse(text)
    except InvalidArgument as error:
        raise CliError(
            f"error parsing specified platform: {error}", hint=error.hint, option=False
        ) from None
    return text


def _announce(name: str) -> None:
    from ..oci.reference import parse

    output.error(f"Unable to find image '{parse(name).familiar}' locally")


def _pull(app: App, name: str, platform: str | None, *, quiet: bool) -> None:
    """Pull with progress on standard error: standard output is the container's."""
    import sys

    from .progress import Progress

    with Progress(sys.stderr, quiet=quiet) as progress:
        result = app.engine.pull(name, platform=platform, progress=progress.update)
    if not quiet:
        progress.summary(result)


COMMAND = FlagCommand(
    "create",
    create,
    "IMAGE [COMMAND] [ARG...]",
    run_options.FLAGS,
    least=1,
    interspersed=False,
    wraps=True,
)
